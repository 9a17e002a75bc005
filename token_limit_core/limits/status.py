"""The state of a limit: what is left of it, how it refuses, and how a new one takes its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil

from ..money import to_usd
from ..windows import RATES, TOTAL, Window
from .decisions import Amount, Decision, Kind
from .limit import EVERYONE, STRICT, USD, Limit


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
        resets_at=status.resets_at if status.ceiling else None,  # a limit of nothing stays one of nothing
        retry_after=retry_after,
        unit=limit.unit,
        filter=limit.filter,
        plan=limit.plan,
        name=limit.name,
        user=status.subject,
        everyone=limit.tenant_id == EVERYONE,
        timezone=limit.timezone,
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
    # without a beginning: a host whose clock is behind must not see a time without the limit
    if not active and all(row.effective_from for row in current):  # of one identity only one row begins at a time
        return replace(new, effective_from=0.0), [], []
    if not active:
        return new, [], []
    # in force without a gap: a host whose clock is behind must not see the moment before it
    new = replace(new, effective_from=active[0].effective_from)
    if new.measure == active[0].measure:
        return replace(new, id=active[0].id), [], []
    return new, [], active
