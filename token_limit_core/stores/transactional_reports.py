"""The reports, once, for every store with transactions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ..limits import Item, LimitStatus, items_for
from ..windows import Window
from .records import NO_SPEND, Hold
from .reports import (
    Change,
    Cursor,
    DaySpend,
    EventQuery,
    Page,
    Reports,
    ReportsTransaction,
    StoredEntry,
    TenantQuery,
    TenantUsage,
    current_days,
    days_of,
)

T = TypeVar("T")


class TransactionalReports(Reports):
    """A store whose transactions have the primitives of the reports."""

    @abstractmethod
    def _report(self, work: Callable[[ReportsTransaction], T]) -> T:
        """Run a reading."""

    def tenants(self, query: TenantQuery, now: float) -> Page[TenantUsage]:
        return self._report(lambda tx: _tenants(tx, query, now))

    def rollup(self, tenant_id: str, start: float, end: float) -> list[DaySpend]:
        return self._report(lambda tx: tx.rollup(tenant_id, days_of(Window(int(start), int(end)))))

    def events(self, query: EventQuery) -> list[StoredEntry]:
        return self._report(lambda tx: tx.entries(query))

    def hold_page(self, tenant_id: str | None = None, offset: int = 0, size: int = 50) -> Page[Hold]:
        return self._report(lambda tx: tx.hold_page(tenant_id, offset, size))

    def history(self, tenant_id: str | None = None, after: Cursor | None = None, size: int = 50) -> list[Change]:
        return self._report(lambda tx: tx.changes(tenant_id, after, size))


def _tenants(tx: ReportsTransaction, query: TenantQuery, now: float) -> Page[TenantUsage]:
    page = tx.tenant_page(query, now)
    ids = [tenant_id for tenant_id, name in page.rows]
    month = tx.spends(ids, current_days(now)[0])
    limits: dict[str, list[LimitStatus]] = {}
    for status in statuses(tx, items_for(tx.limits_of(ids), now)):
        limits.setdefault(status.limit.tenant_id, []).append(status)
    rows = [TenantUsage(id, name, month.get(id, NO_SPEND), tuple(limits.get(id, ()))) for id, name in page.rows]
    return Page(rows, page.total)


def statuses(tx: ReportsTransaction, items: Sequence[Item]) -> Iterable[LimitStatus]:
    """Read the current windows of many limits; one not opened yet stands at what was spent in it."""
    found = tx.counters([item.key for item in items])
    unopened: dict[Window, set[str]] = {}
    for item in items:
        if item.key not in found:
            unopened.setdefault(item.window, set()).add(item.limit.tenant_id)
    spent = {window: tx.spends(ids, days_of(window)) for window, ids in unopened.items()}
    for item in items:
        state = found.get(item.key)
        if state is None:
            total = spent[item.window].get(item.limit.tenant_id)
            state = (0 if total is None else total.cost_nano, 0)
        yield LimitStatus(item.limit, item.window, *state)
