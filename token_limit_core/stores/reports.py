"""Read access for consoles: pages of tenants, events, holds and limit changes, each in a fixed number of queries.

Spend comes from the roll-up, never from the ledger. Money is nano-dollars, times are unix seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar, get_args

from ..limits import CounterKey, Limit, LimitStatus
from ..runtime.faults import StoreError
from ..windows import PER_DAY, PER_MONTH, Window, window_of
from .queries import Cursor, EventQuery, RefusalQuery, TenantQuery

if TYPE_CHECKING:
    from .entries import Entry, Spend
    from .records import Counter, Hold, Refusal, Tenant

T = TypeVar("T")
NEAR_SHARE, FULL_SHARE = 0.8, 1.0
"""From which share of a limit on a tenant is near it, and over it."""

ChangeKind = Literal[
    "set", "remove", "cancel", "release", "make-key", "revoke-key", "set-plan", "remove-plan", "assign-plan",
    "markup", "reprice", "suspend", "resume", "top-up", "adjust", "name", "rename", "merge", "erase",
]  # fmt: skip
KEY_KINDS: tuple[ChangeKind, ...] = ("make-key", "revoke-key")


class Page(NamedTuple, Generic[T]):
    """One page of a list, and the number of rows in the whole list."""

    rows: list[T]
    total: int


class Standings(NamedTuple):
    """How many tenants there are, and how many a list of each standing has."""

    tenants: int
    near: int
    over: int
    unlimited: int
    suspended: int


class TenantUsage(NamedTuple):
    """The totals of a tenant in the current calendar month, and the state of each limit in force.

    Limits per user are left out, as they have one state per user. `suspended_at` is unix seconds.
    """

    tenant_id: str
    name: str
    month: Spend
    limits: tuple[LimitStatus, ...]
    plan: str = ""
    suspended_at: float | None = None
    refused: tuple[Refusal, ...] = ()
    """The refusals of the last 24 hours, where they were asked for."""


class DaySpend(NamedTuple):
    """One row of the roll-up; `day` is days since 1970 in UTC."""

    day: int
    provider: str
    model: str
    total: Spend


class Refused(NamedTuple):
    """The refusals of one kind: how many calls, of how many tenants."""

    kind: str
    tenants: int
    calls: int


class StoredEntry(NamedTuple):
    """A row of the ledger and its primary key."""

    id: int
    entry: Entry

    @property
    def cursor(self) -> Cursor:
        """The position after which the next page begins."""
        return Cursor(self.entry.event.timestamp, self.id)


class Change(NamedTuple):
    """One row of the history: a change of a limit, plan, tenant, hold or API key.

    `actor` is a person's name, or empty for a change by the application's code. Amounts are in the limit's `unit`; None
    means no limit. `cancel` removes a limit before it takes effect. `release` closes a hold without a charge;
    `old_amount` is the amount held, None for an unpriced call. `top-up` and `adjust` have their amount in `new_amount`.
    An API key has no tenant; its public id is in `filter`. `note` is the reason, the name, the earlier id or plan, or
    the limits of a plan as text.
    """

    at: float
    actor: str
    kind: ChangeKind
    tenant_id: str
    frequency: str
    filter: str = ""
    old_amount: int | None = None
    old_mode: str | None = None
    new_amount: int | None = None
    new_mode: str | None = None
    effective_from: float | None = None
    unit: str = "usd"
    plan: str = ""
    note: str = ""
    id: int = 0

    @property
    def cursor(self) -> Cursor:
        """The position after which the next page begins."""
        return Cursor(self.at, self.id)


class ReportRow(NamedTuple):
    """A line of a report: the day (days since 1970, UTC), model, provider, user, feature or session, and its totals.

    An empty key stands for events without a value.
    """

    key: str | int
    total: Spend


By = Literal["day", "model", "provider", "user", "feature", "session"]
BY: tuple[By, ...] = get_args(By)


class UserDay(NamedTuple):
    """A row of the roll-up by user and feature; events without either are not in it."""

    day: int
    user: str
    feature: str
    total: Spend


class Reports:
    """The read methods of a Store. A store without local rows raises `StoreError` in all of them."""

    def tenants(self, query: TenantQuery, now: float) -> Page[TenantUsage]:
        """List tenants with this month's spend and the state of their limits."""
        raise self._no_rows()

    def standings(self, now: float) -> Standings:
        """Count the tenants near a limit, over one, without one and suspended."""
        raise self._no_rows()

    def rollup(self, tenant_id: str, start: float, end: float) -> list[DaySpend]:
        """List the totals of a tenant by day, provider and model, for the days that begin in `start <= t < end`."""
        raise self._no_rows()

    def report(
        self, by: By, start: float, end: float, tenant_id: str | None = None, size: int | None = None
    ) -> list[ReportRow]:
        """Sum the days (UTC) that begin in `start <= t < end` by a field, of one tenant or all.

        Days are ascending; other keys are ordered by cost, highest first. With `size` it is the dearest keys only, and
        what has no value of the field is left out.
        Sessions are read from the ledger, all others from the roll-ups, which are never pruned.
        """
        raise self._no_rows()

    def events(self, query: EventQuery) -> list[StoredEntry]:
        """List rows of the ledger, newest first."""
        raise self._no_rows()

    def hold_page(self, tenant_id: str | None = None, offset: int = 0, size: int = 50) -> Page[Hold]:
        """List open holds, oldest first, without their items."""
        raise self._no_rows()

    def history(
        self, tenant_id: str | None = None, after: Cursor | None = None, size: int = 50, actor: str = ""
    ) -> list[Change]:
        """List the changes of limits, holds and API keys, newest first: those by people whose name contains `actor`."""
        raise self._no_rows()

    def refusals(self, query: RefusalQuery) -> list[Refusal]:
        """List refusals, newest first."""
        raise self._no_rows()

    def refused(self, since: float, tenant_id: str | None = None) -> list[Refused]:
        """Count the refusals of the minutes from `since` on (unix seconds) by kind, most calls first."""
        raise self._no_rows()

    def _no_rows(self) -> StoreError:
        return StoreError(f"{type(self).__name__} keeps no rows to list here")


class ReportsTransaction(ABC):
    """The queries of the reports on one database engine."""

    @abstractmethod
    def tenant_page(self, query: TenantQuery, now: float) -> Page[Tenant]:
        """List tenants in the order of the query."""

    @abstractmethod
    def standings(self, now: float) -> Standings: ...

    @abstractmethod
    def limits_of(self, tenant_ids: Collection[str], plans: Collection[str]) -> list[Limit]:
        """List the limits of tenants and those of plans."""

    @abstractmethod
    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Counter]:
        """Read many counters; counters without a row are left out."""

    @abstractmethod
    def spends(self, tenant_ids: Collection[str], days: range) -> dict[str, Spend]:
        """Sum days of the roll-up by tenant; tenants without an event on these days are left out."""

    @abstractmethod
    def rollup(self, tenant_id: str, days: range) -> list[DaySpend]: ...

    @abstractmethod
    def user_rollup(self, tenant_id: str, days: range) -> list[UserDay]: ...

    @abstractmethod
    def report(self, by: By, tenant_id: str | None, days: range, size: int | None = None) -> list[ReportRow]:
        """Sum days by a field, of one tenant or all; what has no user or feature is left out of those two.

        With `size` only those with the highest cost and a value.
        """

    @abstractmethod
    def total(self, tenant_id: str | None, days: range) -> Spend:
        """Sum days of the roll-up, of one tenant or all."""

    @abstractmethod
    def entries(self, query: EventQuery) -> list[StoredEntry]: ...

    @abstractmethod
    def hold_page(self, tenant_id: str | None, offset: int, size: int) -> Page[Hold]: ...

    @abstractmethod
    def add_refusals(self, refusals: Sequence[Refusal]) -> None: ...

    @abstractmethod
    def refusals(self, query: RefusalQuery) -> list[Refusal]: ...

    @abstractmethod
    def refused(self, since: float, tenant_id: str | None) -> list[Refused]: ...

    @abstractmethod
    def insert_change(self, change: Change) -> None: ...

    @abstractmethod
    def changes(self, tenant_id: str | None, after: Cursor | None, size: int, actor: str) -> list[Change]: ...


def days_of(window: Window) -> range:
    """Return the UTC days that begin in a window, as days since 1970."""
    return range(-(-window.start // 86400), -(-window.end // 86400))


def current_days(now: float) -> tuple[range, range]:
    """Return the days of the calendar month and of the day that contain `now`."""
    return days_of(window_of(PER_MONTH, now)), days_of(window_of(PER_DAY, now))


def change_of(kind: ChangeKind, old: Limit | None, new: Limit | None, at: float, actor: str) -> Change:
    """Make the history row of a change from `old` to `new`; at most one of them is None."""
    either = new or old
    assert either is not None
    return Change(
        at=at,
        actor=actor[:255],
        kind=kind,
        tenant_id=either.tenant_id,
        frequency=either.frequency,
        filter=either.filter,
        old_amount=None if old is None else old.amount,
        old_mode=None if old is None else old.mode,
        new_amount=None if new is None else new.amount,
        new_mode=None if new is None else new.mode,
        effective_from=either.effective_from or at,  # 0: in force since it was set, whatever a host's clock says
        unit=either.unit,
        plan=either.plan,
    )
