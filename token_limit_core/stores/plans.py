"""The Plans contract: plans, credits and corrections, and what a limit would have done.

A plan is a named set of limits. The limits are rows with the plan's name in place of a tenant, so that a change of a
plan holds for all its tenants at their next call. Amounts are as stores keep them: nano-dollars, tokens or requests.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from ..limits import COST, TOKENS, USD, CounterKey, Limit, LimitStatus
from ..limits.filters import NO_FACTS, Facts
from .entries import Entry
from .records import Counter
from .tenants import TenantsTransaction, Unmanaged


class Plan(NamedTuple):
    """A named set of limits. `markup` is the percent added to what the provider takes, as decimal text; empty is none.

    `tenants` counts those that are on the plan, where that was asked for.
    """

    name: str
    markup: str = ""
    limits: tuple[Limit, ...] = ()
    tenants: int = 0


class Rules(NamedTuple):
    """What decides on a tenant's calls: its own limits, its plan's and those on all tenants together.

    `markup` is the tenant's own or its plan's, in percent as decimal text; empty is none.
    """

    limits: list[Limit]
    plan: str | None = None
    suspended: bool = False
    markup: str = ""


class TopUp(NamedTuple):
    """Money added to a limit's window (nano-dollars). One that expires is used up before what does not.

    It belongs to the limit's identity, not to its row, so a change of the plan does not lose it. `left` is what is
    unspent as of when the counter stood at `seen`; `lost` is what was unspent at the end.
    """

    tenant_id: str
    frequency: str
    filter: str
    subject: str
    amount: int
    at: float
    expires_at: float | None = None
    left: int = 0
    lost: int = 0
    seen: int = 0
    id: int = 0


class Preview(NamedTuple):
    """What a limit would have done: how many calls it refuses, what they cost, and when the first of them was.

    `calls` is how many it was asked for. Money is nano-dollars, `first_at` unix seconds.
    """

    calls: int
    refused: int
    saved_nano: int
    first_at: float | None


Progress = Callable[[int, float], None]
"""Gets the number of calls that a preview has looked at so far, and the share of its time that this is (0 to 1)."""


class TotalsQuery(NamedTuple):
    """Which rows of the ledger to sum, of `start <= timestamp < end`, and by what.

    `by` names the fields of `Facts` that the sums are kept apart by, `seconds` the length of time they are. With `user`
    it is that one's rows only.
    """

    tenant_id: str | None
    start: float
    end: float
    by: tuple[str, ...] = ()
    user: str | None = None
    seconds: int | None = None


class Total(NamedTuple):
    """The sum of some rows of the ledger, or one row.

    `calls` counts those rows that are calls; `requests` counts as limits on requests do. `start` is the length of time
    they are of, or when the row is from; `first_at` is when the first of them is from.
    """

    facts: Facts
    rows: int
    calls: int
    cost_nano: int
    tokens: int
    requests: int
    charge_nano: int
    start: float = 0.0
    first_at: float = 0.0

    def plus(self, other: Total) -> Total:
        """Add rows of other facts."""
        return Total(
            self.facts,
            self.rows + other.rows,
            self.calls + other.calls,
            self.cost_nano + other.cost_nano,
            self.tokens + other.tokens,
            self.requests + other.requests,
            self.charge_nano + other.charge_nano,
            self.start,
            min(self.first_at, other.first_at),
        )

    def amount_on(self, limit: Limit) -> int:
        """Return what the rows add to a counter of a limit, in the limit's unit."""
        if limit.unit == USD:
            return self.cost_nano if limit.basis == COST else self.charge_nano
        return self.tokens if limit.unit == TOKENS else self.requests


class Plans(Unmanaged):
    """The part of a Store that manages plans and money. `by` names who does it; empty is the application's code."""

    def plans(self) -> list[Plan]:
        """List the plans by name, with how many tenants are on each."""
        raise self._no_rows()

    def set_plan(
        self,
        name: str,
        limits: Sequence[Limit],
        now: float,
        markup: str = "",
        by: str = "",
        expected: Plan | None = None,
    ) -> Plan:
        """Create or replace a plan. Limits of the same identity keep their counters; others of the plan are removed.

        With `expected`, raise `LimitChanged` and change nothing when the plan has other limits or another markup by
        now; `Plan(name)` expects none of either, as of a plan that is new.
        """
        raise self._no_rows()

    def remove_plan(self, name: str, now: float, by: str = "") -> bool:
        """Remove a plan; False where there is none. Raises `ConfigurationError` while a tenant is on it."""
        raise self._no_rows()

    def assign_plan(self, tenant_id: str, plan: str | None, now: float, by: str = "", *, first: bool = False) -> bool:
        """Put a tenant on a plan, or on none (None); False, and nothing done, where it was so already.

        With `first` only a tenant that never had a plan is changed, and the plan need not exist yet.
        Raises `ConfigurationError` for a plan that is not known.
        """
        raise self._no_rows()

    def set_markup(self, tenant_id: str, markup: str | None, now: float, by: str = "") -> bool:
        """Set the markup of a tenant (percent as decimal text), or None for its plan's; False where it was so already.

        It holds for calls that are settled from now on.
        """
        raise self._no_rows()

    def top_up(
        self,
        tenant_id: str,
        frequency: str,
        amount: int,
        now: float,
        *,
        filter: str = "",
        user: str = "",
        expires_at: float | None = None,
        by: str = "",
    ) -> LimitStatus:
        """Add money to the current window of the limit with this frequency and filter; on a total it stays.

        `user` is whose counter of an each-user limit. Returns the limit's new state.
        Raises `ConfigurationError` where no such limit in US dollars is in force.
        """
        raise self._no_rows()

    def adjust(
        self, tenant_id: str, amount: int, now: float, reason: str = "", by: str = "", facts: Facts = NO_FACTS
    ) -> Entry:
        """Book a signed amount of money into the ledger and into the windows it falls in. Returns the ledger's row."""
        raise self._no_rows()

    def correct(self, entries: Sequence[Entry], now: float, by: str = "") -> int:
        """Book corrections of calls into the ledger and their windows, each once by its id; return how many are new."""
        raise self._no_rows()

    def preview(self, limit: Limit, since: float, now: float, progress: Progress | None = None) -> Preview:
        """Tell what a limit would have done to the tenant's calls of `since <= timestamp < now`.

        `progress` is called again and again until the end; after a conflict it begins from the start.
        """
        raise self._no_rows()


class PlansTransaction(TenantsTransaction):
    """The primitives of plans and credits on an engine."""

    @abstractmethod
    def rules(self, tenant_id: str) -> Rules:
        """Read what decides on a tenant's calls, in one query."""

    @abstractmethod
    def plan(self, name: str) -> Plan | None:
        """Read a plan with its limits."""

    @abstractmethod
    def all_plans(self) -> list[Plan]:
        """Read every plan by name, with its limits and the number of its tenants."""

    @abstractmethod
    def lock_plan(self, name: str) -> Plan:
        """Keep other transactions from changing a plan, and read it; one that is new is inserted."""

    @abstractmethod
    def write_markup(self, name: str, markup: str) -> None:
        """Set the markup of a plan that is there."""

    @abstractmethod
    def delete_plan(self, name: str) -> None: ...

    @abstractmethod
    def drop_counters(self, tenant_id: str, limit_ids: Collection[int]) -> None:
        """Delete a tenant's counters of these limits, and what its holds hold on them."""

    @abstractmethod
    def credit(self, key: CounterKey, extra: int, extra_until: float | None) -> None:
        """Set what top-ups add to a counter's limit."""

    @abstractmethod
    def top_ups(self, tenant_id: str, frequency: str, filter: str, subject: str) -> list[TopUp]: ...

    @abstractmethod
    def insert_top_up(self, top_up: TopUp) -> None: ...

    @abstractmethod
    def update_top_up(self, top_up: TopUp) -> None:
        """Write what is left and lost."""

    @abstractmethod
    def busiest(self, key: CounterKey, most: int) -> list[tuple[str, Counter]]:
        """Read the counters of all subjects of a window, those with the most in them first."""

    @abstractmethod
    def oldest_window(self, now: float) -> int | None:
        """Return the start of the oldest window that is open at `now`; windows of all time do not count."""

    @abstractmethod
    def totals(self, query: TotalsQuery) -> list[Total]:
        """Sum rows of the ledger; by time upwards where they are kept apart by time."""

    @abstractmethod
    def first_entry_at(self, tenant_id: str | None) -> float | None:
        """Return when the oldest row of the ledger is from: older ones are in the roll-up only."""

    @abstractmethod
    def rows_between(self, query: TotalsQuery) -> Iterable[Total]:
        """Yield the rows of the ledger one by one, oldest first, with the facts that the query keeps apart."""
