"""Limits and decisions: value objects and arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, NamedTuple, get_args

from . import wording
from .money import to_nano, to_usd
from .windows import PER_MONTH, Window, window_of

OBSERVE = "observe"
ENFORCE = "enforce"
MODES = (OBSERVE, ENFORCE)

Kind = Literal["admitted", "exhausted", "does_not_fit", "busy", "unverifiable", "no_tenant", "unpriced", "suspended"]
REFUSALS = tuple(kind for kind in get_args(Kind) if kind != "admitted")
"""The kinds of refusals."""


@dataclass(frozen=True, slots=True)
class Limit:
    """An amount (nano-dollars) a tenant may spend per window; its identity is (tenant, frequency, filter)."""

    tenant_id: str
    amount: int
    frequency: str = PER_MONTH
    mode: str = ENFORCE
    filter: str = ""
    unit: str = "usd"
    effective_from: float = 0.0
    effective_until: float | None = None
    id: int = 0

    @property
    def identity(self) -> tuple[str, str, str]:
        """What a newer limit must share to replace this one."""
        return (self.tenant_id, self.frequency, self.filter)

    @property
    def limit_usd(self) -> Decimal:
        """The amount in US dollars."""
        return to_usd(self.amount)

    def in_force(self, at: float) -> bool:
        """Tell whether the limit applies at `at` (unix seconds)."""
        return self.effective_from <= at and (self.effective_until is None or at < self.effective_until)

    def ended(self, at: float) -> bool:
        """Tell whether another limit has taken over by `at` (unix seconds)."""
        return self.effective_until is not None and self.effective_until <= at


class CounterKey(NamedTuple):
    """The identity of a counter; sorts in the one order every transaction takes its row locks in."""

    tenant_id: str
    limit_id: int
    window_start: int


class Item(NamedTuple):
    """One counter a call is charged to: which limit, in which window."""

    limit: Limit
    window: Window
    key: CounterKey


def key_of(limit: Limit, at: float) -> CounterKey:
    """Name the counter a limit has for the window that contains `at` (unix seconds)."""
    return CounterKey(limit.tenant_id, limit.id, window_of(limit.frequency, at).start)


def items_for(limits: Iterable[Limit], at: float) -> list[Item]:
    """Choose what a call made at `at` is held on: the limits in force, by id."""
    items = [Item(limit, window_of(limit.frequency, at), key_of(limit, at)) for limit in limits if limit.in_force(at)]
    if len(items) > 1:
        items.sort(key=lambda item: item.key)
    return items


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """A limit with what its current window holds."""

    limit: Limit
    window: Window
    settled: int
    held: int

    @property
    def spent_usd(self) -> Decimal:
        """Settled spend of the window in US dollars."""
        return to_usd(self.settled)

    @property
    def held_usd(self) -> Decimal:
        """US dollars set aside for calls in flight."""
        return to_usd(self.held)

    @property
    def remaining_usd(self) -> Decimal:
        """US dollars still to spend once the calls in flight settle at their estimates; never negative."""
        return to_usd(max(0, self.limit.amount - self.settled - self.held))


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of an admission, with the facts a client needs.

    `kind` is "admitted" or why the call was refused: "exhausted" (the limit is spent), "does_not_fit" (what is left
    does not pay for the call's worst case), "busy" (only calls in flight are in the way), "unverifiable" (the store
    cannot be asked), "no_tenant" (nobody is known to pay), "unpriced" (no price is known) or "suspended" (the tenant
    is). Amounts are US dollars, `resets_at` unix seconds, `retry_after` seconds.
    """

    kind: Kind
    tenant_id: str = ""
    limit_usd: Decimal | None = None
    spent_usd: Decimal | None = None
    held_usd: Decimal | None = None
    needed_usd: Decimal | None = None
    frequency: str | None = None
    resets_at: int | None = None
    retry_after: int | None = None
    observed: tuple[str, ...] = field(default=())

    @property
    def admitted(self) -> bool:
        """True when the call may go out."""
        return self.kind == "admitted"

    @property
    def remaining_usd(self) -> Decimal | None:
        """What is left of the limit, never negative; None when no limit is known."""
        if self.limit_usd is None or self.spent_usd is None:
            return None
        held = Decimal(0) if self.held_usd is None else self.held_usd
        return to_usd(max(0, to_nano(self.limit_usd) - to_nano(self.spent_usd) - to_nano(held)))

    @property
    def status(self) -> int:
        """The HTTP status of the refusal: 402, 403 (no tenant), 429 (busy) or 503 (unverifiable)."""
        return {"busy": 429, "unverifiable": 503, "no_tenant": 403}.get(self.kind, 402)

    def explain(self) -> str:
        """Say in one sentence what happened and what to do."""
        return wording.refusal(self.kind, self.frequency, self.limit_usd, self.spent_usd, self.resets_at)


ADMITTED = Decision("admitted")


def refuse(kind: Kind, status: LimitStatus, retry_after: int | None = None) -> Decision:
    """Make a refusal from the state of the limit that stands in the way."""
    return Decision(
        kind=kind,
        tenant_id=status.limit.tenant_id,
        limit_usd=status.limit.limit_usd,
        spent_usd=status.spent_usd,
        held_usd=status.held_usd,
        frequency=status.limit.frequency,
        resets_at=status.window.end,
        retry_after=retry_after,
    )


def judge(status: LimitStatus) -> Decision | None:
    """Say how a limit that would not take a hold refuses: spent is exhausted, only holds in the way is busy."""
    if status.settled >= status.limit.amount:
        return refuse("exhausted", status)
    if status.settled + status.held >= status.limit.amount:
        return refuse("busy", status, retry_after=1)
    return None


def scheduled(current: list[Limit], new: Limit, now: float) -> tuple[Limit, list[Limit], list[Limit]]:
    """Place `new` on the timeline of its identity.

    Returns (the row to write: an update if it has an id, else an insert; rows whose end changes; rows to drop).
    A limit that begins now replaces the one in force and keeps its row, hence its counters; one that
    begins later ends the one in force at that time and replaces any other that was waiting.
    """
    new = replace(new, id=0, effective_until=None)
    active = [row for row in current if row.in_force(now)]
    waiting = [row for row in current if row.effective_from > now]
    if new.effective_from > now:
        return new, [replace(row, effective_until=new.effective_from) for row in active], waiting
    new = replace(new, effective_until=min((row.effective_from for row in waiting), default=None))
    if active:  # in force without a gap: a host whose clock is behind must not see the moment before it
        new = replace(new, id=active[0].id, effective_from=active[0].effective_from)
    return new, [], []
