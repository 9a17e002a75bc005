"""Limits: what they are, which calls they match and which counters those are held on. Arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from ..money import to_usd
from ..runtime.text import storable
from ..windows import PER_MONTH, UTC_ZONE, Window, window_of
from .filters import EACH, NO_FACTS, Facts, parse_filter

OBSERVE = "observe"
ENFORCE = "enforce"
STRICT = "strict"
MODES = (OBSERVE, ENFORCE, STRICT)

USD = "usd"
TOKENS = "tokens"
REQUESTS = "requests"
UNITS = (USD, TOKENS, REQUESTS)

CHARGE = "charge"
COST = "cost"
BASES = (CHARGE, COST)
"""What a limit in US dollars counts: what the tenant is billed, or what the provider takes."""

SUBJECT_WIDTH = 255
"""Characters of a user that are kept as the subject of a counter."""

EVERYONE = "*"
"""The tenant of a limit that is on all tenants together."""


@dataclass(frozen=True, slots=True)
class Limit:
    """An amount per window for a tenant or a plan; its identity is (tenant or plan, frequency, filter).

    `amount` is nano-dollars, tokens or requests, as `unit` says. A plan's limit has the plan's name in `plan` and no
    tenant. `filter` is what `filters.py` makes; `timezone` and `anchor` are what `windows.py` takes.
    """

    tenant_id: str
    amount: int
    frequency: str = PER_MONTH
    mode: str = ENFORCE
    filter: str = ""
    unit: str = USD
    effective_from: float = 0.0
    effective_until: float | None = None
    id: int = 0
    timezone: str = UTC_ZONE
    anchor: str = ""
    plan: str = ""
    basis: str = CHARGE
    name: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What a newer limit must share to replace this one."""
        return (self.tenant_id, self.plan, self.frequency, self.filter)

    @property
    def measure(self) -> tuple[str, str, str, str]:
        """What makes a counter start anew from the ledger when it changes."""
        return (self.unit, self.basis, self.timezone, self.anchor)

    @property
    def limit_usd(self) -> Decimal | None:
        """The amount in US dollars; None where it is tokens or requests."""
        return to_usd(self.amount) if self.unit == USD else None

    @property
    def each_user(self) -> bool:
        """Whether each user has a counter of its own."""
        return parse_filter(self.filter).user == EACH

    def in_force(self, at: float) -> bool:
        """Tell whether the limit applies at `at` (unix seconds)."""
        return self.effective_from <= at and (self.effective_until is None or at < self.effective_until)

    def ended(self, at: float) -> bool:
        """Tell whether another limit has taken over by `at` (unix seconds)."""
        return self.effective_until is not None and self.effective_until <= at

    def window(self, at: float) -> Window:
        """Return the window that contains `at` (unix seconds)."""
        return window_of(self.frequency, at, self.timezone, self.anchor)


# -- which counters a call is held on -----------------------------------------------------------


class CounterKey(NamedTuple):
    """The identity of a counter; `subject` is the user of an each-user limit, else empty."""

    tenant_id: str
    limit_id: int
    subject: str
    window_start: int


def lock_order(key: CounterKey) -> tuple[int, str, str, int]:
    """Sort counters in the one order in which every transaction takes its row locks.

    By the limit's number first: databases and Python may disagree about the order of texts.
    """
    return (key.limit_id, key.tenant_id, key.subject, key.window_start)


class Item(NamedTuple):
    """One counter a call is charged to: which limit, in which window."""

    limit: Limit
    window: Window
    key: CounterKey


def subject_of(limit: Limit, facts: Facts) -> str | None:
    """Return whose counter of a limit a call is on: empty where all calls share one, None where it does not match."""
    if not limit.filter:
        return ""
    found = parse_filter(limit.filter)
    if not found.matches(facts):
        return None
    return storable(facts.user or "")[:SUBJECT_WIDTH] if found.user == EACH else ""


def key_of(limit: Limit, tenant_id: str, subject: str, at: float) -> CounterKey:
    """Name the counter a limit has for a tenant and the window that contains `at` (unix seconds)."""
    return _key_in(limit.window(at), limit, tenant_id, subject)


def _key_in(window: Window, limit: Limit, tenant_id: str, subject: str) -> CounterKey:
    owner = EVERYONE if limit.tenant_id == EVERYONE else tenant_id
    return CounterKey(owner, limit.id, subject, window.start)


def in_force(limits: Iterable[Limit], at: float) -> list[Limit]:
    """Choose the limits in force at `at`: a tenant's own one replaces its plan's of the same frequency and filter."""
    found = [limit for limit in limits if limit.in_force(at)]
    if len(found) < 2:
        return found
    own = {(limit.frequency, limit.filter) for limit in found if not limit.plan and limit.tenant_id != EVERYONE}
    return [limit for limit in found if not limit.plan or (limit.frequency, limit.filter) not in own]


def items_for(limits: Iterable[Limit], tenant_id: str, at: float, facts: Facts = NO_FACTS) -> list[Item]:
    """Choose what a call made at `at` is held on: the limits in force that match it, in the order of locks."""
    items = []
    for limit in in_force(limits, at):
        subject = subject_of(limit, facts)
        if subject is not None:
            window = limit.window(at)
            items.append(Item(limit, window, _key_in(window, limit, tenant_id, subject)))
    if len(items) > 1:
        items.sort(key=lambda item: lock_order(item.key))
    return items


def keys_for(limits: Iterable[Limit], tenant_id: str, at: float, facts: Facts) -> Iterator[tuple[Limit, CounterKey]]:
    """Yield the counters that an entry of `at` is charged to, where they are open: also of limits out of force."""
    for limit in limits:
        subject = subject_of(limit, facts)
        if subject is not None:
            yield limit, key_of(limit, tenant_id, subject, at)
