"""What consoles read from a store: pages of tenants, events, holds and limit changes, in a fixed number of queries.

Spend comes from the roll-up, never from the ledger. Money is nano-dollars, times are unix seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar, get_args

from ..limits import CounterKey, Limit, LimitStatus
from ..runtime.faults import StoreError
from ..windows import PER_DAY, PER_MONTH, Window, window_of

if TYPE_CHECKING:
    from .records import Counter, Entry, Hold, Spend, Tenant

T = TypeVar("T")
Sort = Literal["id", "spend", "share"]
SORTS: tuple[Sort, ...] = ("id", "spend", "share")
ChangeKind = Literal[
    "set", "remove", "cancel", "release", "make-key", "revoke-key", "set-plan", "remove-plan", "assign-plan",
    "suspend", "resume", "top-up", "adjust", "name", "rename", "merge", "erase",
]  # fmt: skip
KEY_KINDS: tuple[ChangeKind, ...] = ("make-key", "revoke-key")


class Page(NamedTuple, Generic[T]):
    """Some rows of a list, and how many there are in all."""

    rows: list[T]
    total: int


class TenantQuery(NamedTuple):
    """Which tenants: `search` is part of an id or name; by id upwards, by spend or share of limit downwards.

    `tenant_id` chooses the one of exactly this id.
    """

    search: str = ""
    sort: Sort = "id"
    offset: int = 0
    size: int = 50
    tenant_id: str | None = None


class TenantUsage(NamedTuple):
    """A tenant's totals of the current calendar month, and the state of each limit in force.

    Limits on each user are left out, as they have a state for each. `suspended_at` is unix seconds.
    """

    tenant_id: str
    name: str
    month: Spend
    limits: tuple[LimitStatus, ...]
    plan: str = ""
    suspended_at: float | None = None


class DaySpend(NamedTuple):
    """One row of the roll-up; `day` is days since 1970 in UTC."""

    day: int
    provider: str
    model: str
    total: Spend


class Cursor(NamedTuple):
    """A place in a list that is ordered by time, newest first."""

    time: float
    id: int


class EventQuery(NamedTuple):
    """Which rows of the ledger, newest first: of `start <= timestamp < end`, all conditions met, after a place."""

    tenant_id: str | None = None
    provider: str | None = None
    model: str | None = None
    failed: bool = False
    unpriced: bool = False
    estimated: bool = False
    start: float | None = None
    end: float | None = None
    after: Cursor | None = None
    size: int = 50


class StoredEntry(NamedTuple):
    """A row of the ledger and its number in the store."""

    id: int
    entry: Entry

    @property
    def cursor(self) -> Cursor:
        """The place after which the next page begins."""
        return Cursor(self.entry.event.timestamp, self.id)


class Change(NamedTuple):
    """One change of a limit, plan or tenant: who (empty: the application's code), when, what it was and what it is.

    Amounts are in the limit's `unit`; None is no limit. `cancel` takes back a limit that had yet to begin. `release` is
    a hold that a person has given back: `old_amount` is what it held, None for a call without a price. `top-up` and
    `adjust` have their money in `new_amount`. API keys, which are of no tenant, have their public id in `filter`.
    `note` is the reason, the name, the earlier id or plan, or the limits of a plan in words.
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
        """The place after which the next page begins."""
        return Cursor(self.at, self.id)


class ReportRow(NamedTuple):
    """A line of a report: the day (days since 1970, UTC), model, provider, user, feature or session, and its totals.

    An empty key is of what has none.
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
    """The reading half of a Store; one that keeps no rows of its own says so with `StoreError`."""

    def tenants(self, query: TenantQuery, now: float) -> Page[TenantUsage]:
        """List tenants with this month's spend and the state of their limits."""
        raise self._no_rows()

    def rollup(self, tenant_id: str, start: float, end: float) -> list[DaySpend]:
        """List a tenant's totals by day, provider and model, of the days that begin in `start <= t < end`."""
        raise self._no_rows()

    def report(self, by: By, start: float, end: float, tenant_id: str | None = None) -> list[ReportRow]:
        """Sum the days (UTC) that begin in `start <= t < end` by a field, of one tenant or all.

        By days upwards, by anything else the dearest first. Sessions are read from the ledger, all others from the
        roll-ups, which are never pruned.
        """
        raise self._no_rows()

    def events(self, query: EventQuery) -> list[StoredEntry]:
        """List rows of the ledger, newest first."""
        raise self._no_rows()

    def hold_page(self, tenant_id: str | None = None, offset: int = 0, size: int = 50) -> Page[Hold]:
        """List open holds, oldest first, without their items."""
        raise self._no_rows()

    def history(self, tenant_id: str | None = None, after: Cursor | None = None, size: int = 50) -> list[Change]:
        """List what people and code have changed, newest first."""
        raise self._no_rows()

    def _no_rows(self) -> StoreError:
        return StoreError(f"{type(self).__name__} keeps no rows that could be listed here")


class ReportsTransaction(ABC):
    """The primitives of the reports on an engine."""

    @abstractmethod
    def tenant_page(self, query: TenantQuery, now: float) -> Page[Tenant]:
        """List tenants in the order asked for."""

    @abstractmethod
    def limits_of(self, tenant_ids: Collection[str], plans: Collection[str]) -> list[Limit]:
        """List the limits of tenants and those of plans."""

    @abstractmethod
    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Counter]:
        """Read many counters; those not opened yet are left out."""

    @abstractmethod
    def spends(self, tenant_ids: Collection[str], days: range) -> dict[str, Spend]:
        """Sum days of the roll-up by tenant; tenants that have no event in them are left out."""

    @abstractmethod
    def rollup(self, tenant_id: str, days: range) -> list[DaySpend]: ...

    @abstractmethod
    def user_rollup(self, tenant_id: str, days: range) -> list[UserDay]: ...

    @abstractmethod
    def report(self, by: By, tenant_id: str | None, days: range) -> list[ReportRow]:
        """Sum days by a field, of one tenant or all; what has no user or feature is left out of those two."""

    @abstractmethod
    def total(self, tenant_id: str | None, days: range) -> Spend:
        """Sum days of the roll-up, of one tenant or all."""

    @abstractmethod
    def entries(self, query: EventQuery) -> list[StoredEntry]: ...

    @abstractmethod
    def hold_page(self, tenant_id: str | None, offset: int, size: int) -> Page[Hold]: ...

    @abstractmethod
    def insert_change(self, change: Change) -> None: ...

    @abstractmethod
    def changes(self, tenant_id: str | None, after: Cursor | None, size: int) -> list[Change]: ...


def days_of(window: Window) -> range:
    """Return the UTC days that begin in a window, as days since 1970."""
    return range(-(-window.start // 86400), -(-window.end // 86400))


def current_days(now: float) -> tuple[range, range]:
    """Return the days of the calendar month and of the day that contain `now`."""
    return days_of(window_of(PER_MONTH, now)), days_of(window_of(PER_DAY, now))


def change_of(kind: ChangeKind, old: Limit | None, new: Limit | None, at: float, actor: str) -> Change:
    """Make the history's row of a change from `old` to `new`; one of them is given."""
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
        effective_from=either.effective_from,
        unit=either.unit,
        plan=either.plan,
    )
