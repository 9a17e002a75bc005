"""The reports, once, for every store with transactions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ..limits import EVERYONE, USD, Item, Limit, LimitStatus, in_force, key_of
from ..windows import PER_DAY, PER_MONTH, UTC_ZONE, Window
from .counters import amount_of, status_of
from .entries import NO_SPEND, Spend, add_spends
from .queries import Cursor, EventQuery, RefusalQuery, TenantQuery
from .records import Hold, Refusal, Tenant
from .reports import (
    By,
    Change,
    DaySpend,
    Page,
    Refused,
    ReportRow,
    Reports,
    Standings,
    StoredEntry,
    TenantUsage,
    current_days,
    days_of,
)
from .transaction import Transaction

T = TypeVar("T")


class TransactionalReports(Reports):
    """A store whose transactions have the primitives of the reports."""

    @abstractmethod
    def _report(self, work: Callable[[Transaction], T]) -> T:
        """Run a reading."""

    def tenants(self, query: TenantQuery, now: float) -> Page[TenantUsage]:
        return self._report(lambda tx: _tenants(tx, query, now))

    def standings(self, now: float) -> Standings:
        return self._report(lambda tx: tx.standings(now))

    def rollup(self, tenant_id: str, start: float, end: float) -> list[DaySpend]:
        return self._report(lambda tx: tx.rollup(tenant_id, days_of(Window(int(start), int(end)))))

    def report(
        self, by: By, start: float, end: float, tenant_id: str | None = None, size: int | None = None
    ) -> list[ReportRow]:
        return self._report(lambda tx: _reported(tx, by, tenant_id, days_of(Window(int(start), int(end))), size))

    def events(self, query: EventQuery) -> list[StoredEntry]:
        return self._report(lambda tx: tx.entries(query))

    def hold_page(self, tenant_id: str | None = None, offset: int = 0, size: int = 50) -> Page[Hold]:
        return self._report(lambda tx: tx.hold_page(tenant_id, offset, size))

    def history(
        self, tenant_id: str | None = None, after: Cursor | None = None, size: int = 50, actor: str = ""
    ) -> list[Change]:
        return self._report(lambda tx: tx.changes(tenant_id, after, size, actor))

    def refusals(self, query: RefusalQuery) -> list[Refusal]:
        return self._report(lambda tx: tx.refusals(query))

    def refused(self, since: float, tenant_id: str | None = None) -> list[Refused]:
        return self._report(lambda tx: tx.refused(since, tenant_id))


def _reported(tx: Transaction, by: By, tenant_id: str | None, days: range, size: int | None) -> list[ReportRow]:
    rows = tx.report(by, tenant_id, days, size)
    if by in ("user", "feature") and size is None:
        known = NO_SPEND
        for row in rows:
            known = add_spends(known, row.total)
        rest = Spend(*(whole - part for whole, part in zip(tx.total(tenant_id, days), known, strict=True)))
        rows = [*rows, ReportRow("", rest)] if rest != NO_SPEND else rows
    if by == "day":
        return sorted(rows)
    return sorted(rows, key=lambda row: (-row.total.cost_nano, -row.total.calls, row.key))


def _tenants(tx: Transaction, query: TenantQuery, now: float) -> Page[TenantUsage]:
    page = tx.tenant_page(query, now)
    ids = [tenant.tenant_id for tenant in page.rows]
    month = tx.spends(ids, current_days(now)[0])
    found = tx.limits_of(ids, {tenant.plan for tenant in page.rows if tenant.plan})
    items = [(tenant.tenant_id, item) for tenant in page.rows for item in items_of(tenant, found, now)]
    limits: dict[str, list[LimitStatus]] = {}
    for tenant_id, status in statuses(tx, items, now):
        limits.setdefault(tenant_id, []).append(status)
    rows = [
        TenantUsage(
            tenant.tenant_id,
            tenant.name,
            month.get(tenant.tenant_id, NO_SPEND),
            tuple(limits.get(tenant.tenant_id, ())),
            tenant.plan or "",
            tenant.suspended_at,
        )
        for tenant in page.rows
    ]
    return Page(rows, page.total)


def items_of(tenant: Tenant, limits: Sequence[Limit], now: float) -> list[Item]:
    """Choose the counters of a tenant in a list of tenants."""
    its = [row for row in limits if (row.plan == tenant.plan if row.plan else row.tenant_id == tenant.tenant_id)]
    return [
        Item(limit, limit.window(now), key_of(limit, tenant.tenant_id, "", now))
        for limit in in_force(its, now)
        if not limit.each_user
    ]


def statuses(tx: Transaction, items: Sequence[tuple[str, Item]], now: float) -> Iterable[tuple[str, LimitStatus]]:
    """Read the current windows of many limits; one not opened yet stands at what was spent in it.

    For calendar days and months in UTC the roll-ups say that, in one query for all.
    """
    found = tx.counters([item.key for _, item in items])
    unopened: dict[Window, set[str]] = {}
    for tenant_id, item in items:
        if item.key not in found and _is_rolled_up(item.limit):
            unopened.setdefault(item.window, set()).add(tenant_id)
    spent = {window: tx.spends(ids, days_of(window)) for window, ids in unopened.items()}
    for tenant_id, item in items:
        counter = found.get(item.key)
        if counter is not None and not counter.ends(now):
            status = LimitStatus(item.limit, item.window, counter.settled, counter.held, counter.extra)
        elif tenant_id in unopened.get(item.window, ()) and counter is None:
            total = spent[item.window].get(tenant_id, NO_SPEND)
            status = LimitStatus(item.limit, item.window, amount_of(item.limit, total), 0)
        else:
            status = status_of(tx, item, tenant_id, now)
        yield tenant_id, status


def _is_rolled_up(limit: Limit) -> bool:
    plain = not limit.filter and limit.unit == USD and limit.frequency in (PER_DAY, PER_MONTH)
    return plain and limit.timezone == UTC_ZONE and not limit.anchor and limit.tenant_id != EVERYONE
