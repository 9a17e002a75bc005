"""Limits: what they are, which calls they match and which counters those are held on. Arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil
from typing import NamedTuple

from .decisions import ADMITTED, REFUSALS, Amount, Decision, Kind
from .filters import EACH, NO_FACTS, Facts, parse_filter
from .money import to_usd
from .windows import PER_MONTH, RATES, TOTAL, UTC_ZONE, Window, window_of

__all__ = [
    "ADMITTED",
    "ENFORCE",
    "EVERYONE",
    "MODES",
    "OBSERVE",
    "REFUSALS",
    "REQUESTS",
    "STRICT",
    "TOKENS",
    "UNITS",
    "USD",
    "CounterKey",
    "Decision",
    "Item",
    "Kind",
    "Limit",
    "LimitStatus",
    "in_force",
    "items_for",
    "judge",
    "key_of",
    "keys_for",
    "lock_order",
    "refuse",
    "scheduled",
    "subject_of",
]

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
    return (facts.user or "") if found.user == EACH else ""


def key_of(limit: Limit, tenant_id: str, subject: str, at: float) -> CounterKey:
    """Name the counter a limit has for a tenant and the window that contains `at` (unix seconds)."""
    owner = EVERYONE if limit.tenant_id == EVERYONE else tenant_id
    return CounterKey(owner, limit.id, subject, limit.window(at).start)


def in_force(limits: Iterable[Limit], at: float) -> list[Limit]:
    """Choose the limits in force at `at`: a tenant's own one replaces its plan's of the same frequency and filter."""
    found = [limit for limit in limits if limit.in_force(at)]
    own = {(limit.frequency, limit.filter) for limit in found if not limit.plan and limit.tenant_id != EVERYONE}
    return [limit for limit in found if not limit.plan or (limit.frequency, limit.filter) not in own]


def items_for(limits: Iterable[Limit], tenant_id: str, at: float, facts: Facts = NO_FACTS) -> list[Item]:
    """Choose what a call made at `at` is held on: the limits in force that match it, in the order of locks."""
    items = []
    for limit in in_force(limits, at):
        subject = subject_of(limit, facts)
        if subject is not None:
            items.append(Item(limit, limit.window(at), key_of(limit, tenant_id, subject, at)))
    if len(items) > 1:
        items.sort(key=lambda item: lock_order(item.key))
    return items


def keys_for(limits: Iterable[Limit], tenant_id: str, at: float, facts: Facts) -> Iterator[tuple[Limit, CounterKey]]:
    """Yield the counters that an entry of `at` is charged to, where they are open: also of limits out of force."""
    for limit in limits:
        subject = subject_of(limit, facts)
        if subject is not None:
            yield limit, key_of(limit, tenant_id, subject, at)


# -- the state of a limit -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """A limit with what its current window holds, in the limit's unit as stores keep it.

    `extra` is what top-ups add to the amount; `subject` is whose counter of an each-user limit this is.
    """

    limit: Limit
    window: Window
    settled: int
    held: int
    extra: int = 0
    subject: str = ""

    @property
    def ceiling(self) -> int:
        """The amount with its top-ups."""
        return self.limit.amount + self.extra

    @property
    def filter(self) -> str:
        """What the limit is for; empty is all calls."""
        return self.limit.filter

    @property
    def plan(self) -> str:
        """The plan that the limit comes from; empty is the tenant's own."""
        return self.limit.plan

    @property
    def name(self) -> str:
        """What people call the limit."""
        return self.limit.name

    @property
    def spent(self) -> Amount:
        """What was spent in the window, in the limit's unit."""
        return self._amount(self.settled)

    @property
    def left(self) -> Amount:
        """What is left once the calls in flight settle at their estimates, in the limit's unit; never negative."""
        return self._amount(max(0, self.ceiling - self.settled - self.held))

    @property
    def owed(self) -> Amount:
        """What was spent beyond the amount and its top-ups, in the limit's unit."""
        return self._amount(max(0, self.settled - self.ceiling))

    @property
    def resets_at(self) -> int | None:
        """When the window ends, in unix seconds; None for a total, which never does."""
        return None if self.limit.frequency == TOTAL else self.window.end

    @property
    def spent_usd(self) -> Decimal | None:
        """Settled spend of the window in US dollars; None where the unit is another."""
        return self._usd(self.settled)

    @property
    def held_usd(self) -> Decimal | None:
        """US dollars set aside for calls in flight; None where the unit is another."""
        return self._usd(self.held)

    @property
    def remaining_usd(self) -> Decimal | None:
        """What is left in US dollars, never negative; None where the unit is another."""
        return self._usd(max(0, self.ceiling - self.settled - self.held))

    def _usd(self, stored: int) -> Decimal | None:
        return to_usd(stored) if self.limit.unit == USD else None

    def _amount(self, stored: int) -> Amount:
        return to_usd(stored) if self.limit.unit == USD else stored


def judge(status: LimitStatus, tenant_id: str, now: float, needed: int = 1) -> Decision | None:
    """Say how a limit refuses a call that needs this much room, or None where there is room.

    Spent is exhausted, only holds in the way is busy. A minute or an hour that is used up is busy until it ends, unless
    the amount is too small for the call.
    """
    if status.settled + status.held + needed <= status.ceiling:
        return None
    fits_alone = needed <= status.ceiling
    if status.settled + needed <= status.ceiling:
        return refuse("busy", status, tenant_id, needed, retry_after=1)
    if status.limit.frequency in RATES and fits_alone:
        return refuse("busy", status, tenant_id, needed, retry_after=max(1, ceil(status.window.end - now)))
    kind: Kind = "exhausted" if status.settled >= status.ceiling else "does_not_fit"
    return refuse(kind, status, tenant_id, needed)


def refuse(
    kind: Kind, status: LimitStatus, tenant_id: str, needed: int = 1, retry_after: int | None = None
) -> Decision:
    """Make a refusal from the state of the limit that is in the way."""
    limit, usd = status.limit, status.limit.unit == USD
    amounts = {"limit": status.ceiling, "spent": status.settled, "held": status.held}
    if limit.mode == STRICT:
        amounts["needed"] = needed
    return Decision(
        kind=kind,
        tenant_id=tenant_id,
        frequency=limit.frequency,
        resets_at=status.resets_at,
        retry_after=retry_after,
        unit=limit.unit,
        filter=limit.filter,
        plan=limit.plan,
        name=limit.name,
        user=status.subject,
        everyone=limit.tenant_id == EVERYONE,
        **{f"{name}_usd" if usd else name: to_usd(stored) if usd else stored for name, stored in amounts.items()},  # type: ignore[arg-type]
    )


def scheduled(current: list[Limit], new: Limit, now: float) -> tuple[Limit, list[Limit], list[Limit]]:
    """Place `new` on the timeline of its identity.

    Returns (the row to write: an update if it has an id, else an insert; rows whose end changes; rows to drop).
    A limit that begins now replaces the one in force. It keeps its row, hence its counters, unless its unit or windows
    are others: then its counters start from the ledger. One that begins later ends the one in force at that time and
    replaces any other that was waiting.
    """
    new = replace(new, id=0, effective_until=None)
    active = [row for row in current if row.in_force(now)]
    waiting = [row for row in current if row.effective_from > now]
    if new.effective_from > now:
        return new, [replace(row, effective_until=new.effective_from) for row in active], waiting
    new = replace(new, effective_until=min((row.effective_from for row in waiting), default=None))
    if not active:
        return new, [], []
    # in force without a gap: a host whose clock is behind must not see the moment before it
    new = replace(new, effective_from=active[0].effective_from)
    if new.measure == active[0].measure:
        return replace(new, id=active[0].id), [], []
    return new, [], active
