"""The reports of the SQL stores. Statements that depend on the query are built for each, since consoles ask rarely."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    case,
    distinct,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from ...limits import CounterKey, Limit
from ..columns import read_entry
from ..entries import Spend, rows_of_call
from ..queries import Cursor, EventQuery, RefusalQuery, TenantQuery
from ..records import Counter, Hold, Refusal, Tenant
from ..reports import (
    By,
    Change,
    DaySpend,
    Page,
    Refused,
    ReportRow,
    ReportsTransaction,
    Standings,
    StoredEntry,
    UserDay,
)
from .holds import HOLD_COLUMNS
from .standings import NO_SHARE, shares_of, stands, tenants_of
from .statements import INSERT_CHANGE, LIMIT_COLUMNS, SPENDS, TENANT_COLUMNS, listed, one_of, size_for
from .tables import counter, hold, ledger, limit, limit_history, refusal, rollup, tenant, user_rollup


def _days(table: Table) -> ColumnElement[bool]:
    return and_(table.c.day >= bindparam("the_first_day"), table.c.day < bindparam("the_last_day"))


def _sums(table: Table) -> list[ColumnElement[Any]]:
    return [func.sum(table.c[name]).label(name) for name in Spend._fields]


_DAYS, _SUMS = _days(rollup), _sums(rollup)
_ROLLUP_KEY = (rollup.c.day, rollup.c.provider, rollup.c.model)
_ROLLUP = (
    select(*_ROLLUP_KEY, *(rollup.c[name] for name in Spend._fields))
    .where(rollup.c.tenant_id == bindparam("the_tenant"), _DAYS)
    .order_by(*_ROLLUP_KEY)
)


_USER_ROLLUP_KEY = (user_rollup.c.day, user_rollup.c.user, user_rollup.c.feature)
_USER_ROLLUP = select(*_USER_ROLLUP_KEY, *(user_rollup.c[name] for name in Spend._fields)).where(
    user_rollup.c.tenant_id == bindparam("the_tenant"), _days(user_rollup)
)
_FIELDS: dict[str, ColumnElement[Any]] = {
    "day": rollup.c.day,
    "provider": rollup.c.provider,
    "model": rollup.c.model,
    "user": user_rollup.c.user,
    "feature": user_rollup.c.feature,
}


@cache
def _limits_of(tenants: int, plans: int) -> Select[Any]:
    columns = [limit.c[name] for name in LIMIT_COLUMNS]
    own = and_(one_of(limit.c.tenant_id, "the_tenants", tenants), limit.c.plan == "")
    return select(*columns).where(or_(own, one_of(limit.c.plan, "the_plans", plans))).order_by(limit.c.id)


@cache
def _report(by: By, of_tenant: bool, size: int | None) -> Select[Any]:
    """Sum days by a field; what has no user or feature is left out of those two, and with a size of all."""
    if by == "session":
        key: ColumnElement[Any] = func.coalesce(ledger.c.session_id, "")
        rows = select(key, *SPENDS).where(
            ledger.c.timestamp >= bindparam("the_start"), ledger.c.timestamp < bindparam("the_end")
        )
        table = ledger
    else:
        key = _FIELDS[by]
        table = rollup if by in ("day", "provider", "model") else user_rollup
        rows = select(key, *_sums(table)).where(_days(table))
    if table is user_rollup or (size is not None and by != "day"):
        rows = rows.where(key != "")
    if of_tenant:
        rows = rows.where(table.c.tenant_id == bindparam("the_tenant"))
    rows = rows.group_by(key)
    return rows if size is None else rows.order_by(func.sum(table.c.cost_nano).desc(), key).limit(size)


@cache
def _total(of_tenant: bool) -> Select[Any]:
    rows = select(*(func.coalesce(one, 0) for one in _SUMS)).where(_DAYS)
    return rows.where(rollup.c.tenant_id == bindparam("the_tenant")) if of_tenant else rows


@cache
def _spends(size: int) -> Select[Any]:
    found = select(rollup.c.tenant_id, *_SUMS).where(one_of(rollup.c.tenant_id, "the_tenants", size), _DAYS)
    return found.group_by(rollup.c.tenant_id)


@cache
def _counters(tenants: int, limits: int, windows: int) -> Select[Any]:
    columns = [counter.c[name] for name in (*CounterKey._fields, *Counter._fields)]
    return select(*columns).where(
        one_of(counter.c.tenant_id, "the_tenants", tenants),
        one_of(counter.c.limit_id, "the_limits", limits),
        one_of(counter.c.window_start, "the_windows", windows),
        counter.c.subject == "",
    )


class SqlReports(ReportsTransaction):
    """The primitives of the reports on one cursor."""

    _rows: Callable[..., list[Any]]
    _ask: Callable[[Select[Any]], list[Any]]
    _run: Callable[..., Any]

    def tenant_page(self, query: TenantQuery, now: float) -> Page[Tenant]:
        total, part = func.count().over().label("total"), (query.offset, query.size)
        if query.sort != "id" or query.standing is not None:  # what decides is worked out for all of them, so only once
            rows = self._ask(tenants_of(query, now, *TENANT_COLUMNS, total).offset(part[0]).limit(part[1]))
            if rows or not query.offset:
                return Page([Tenant(*row[:-1]) for row in rows], rows[0][-1] if rows else 0)
        [(number,)] = self._ask(tenants_of(query._replace(sort="id"), now, func.count()).order_by(None))
        rows = self._ask(tenants_of(query, now, *TENANT_COLUMNS).offset(part[0]).limit(part[1])) if number else []
        return Page([Tenant(*row) for row in rows], number)

    def standings(self, now: float) -> Standings:
        shares = shares_of(now).subquery("shares")
        share, none = func.coalesce(shares.c.share, NO_SHARE), literal(0)
        conditions = [stands(share, "near"), stands(share, "over"), stands(share, "unlimited")]
        conditions.append(tenant.c.suspended_at.is_not(None))
        counts = (func.coalesce(func.sum(case((condition, 1), else_=0)), none) for condition in conditions)
        rows = select(func.count(), *counts).outerjoin_from(tenant, shares, shares.c.tenant_id == tenant.c.id)
        [row] = self._ask(rows)
        return Standings(*map(int, row))

    def limits_of(self, tenant_ids: Collection[str], plans: Collection[str]) -> list[Limit]:
        known = {**listed("the_tenants", tenant_ids), **listed("the_plans", plans)}
        return [Limit(*row) for row in self._rows(_limits_of(size_for(tenant_ids), size_for(plans)), known)]

    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Counter]:
        if not keys:
            return {}
        tenants, limits, windows = ({key[place] for key in keys} for place in (0, 1, 3))
        statement = _counters(size_for(tenants), size_for(limits), size_for(windows))
        known = {
            **listed("the_tenants", tenants),
            **listed("the_limits", limits),
            **listed("the_windows", windows),
        }
        return {CounterKey(*row[:4]): Counter(*row[4:]) for row in self._rows(statement, known)}

    def spends(self, tenant_ids: Collection[str], days: range) -> dict[str, Spend]:
        known = {**listed("the_tenants", tenant_ids), **_between(days)}
        rows = self._rows(_spends(size_for(tenant_ids)), known)
        return {tenant_id: Spend(*map(int, sums)) for tenant_id, *sums in rows}

    def rollup(self, tenant_id: str, days: range) -> list[DaySpend]:
        rows = self._rows(_ROLLUP, {"the_tenant": tenant_id, **_between(days)})
        return [DaySpend(day, provider, model, Spend(*total)) for day, provider, model, *total in rows]

    def user_rollup(self, tenant_id: str, days: range) -> list[UserDay]:
        rows = self._rows(_USER_ROLLUP, {"the_tenant": tenant_id, **_between(days)})
        return [UserDay(day, user, feature, Spend(*total)) for day, user, feature, *total in rows]

    def report(self, by: By, tenant_id: str | None, days: range, size: int | None = None) -> list[ReportRow]:
        times = {"the_start": days.start * 86400, "the_end": days.stop * 86400}
        known = {"the_tenant": tenant_id, **_between(days), **times}
        rows = self._rows(_report(by, tenant_id is not None, size), known)
        return [ReportRow(key, Spend(*map(int, sums))) for key, *sums in rows]

    def total(self, tenant_id: str | None, days: range) -> Spend:
        [row] = self._rows(_total(tenant_id is not None), {"the_tenant": tenant_id, **_between(days)})
        return Spend(*map(int, row))

    def entries(self, query: EventQuery) -> list[StoredEntry]:
        columns = ledger.c.keys()
        rows = _newest(select(ledger).where(*_conditions(query)), ledger.c.timestamp, query.after, query.size)
        found = (dict(zip(columns, row, strict=True)) for row in self._ask(rows))
        return [StoredEntry(row["id"], read_entry(row)) for row in found]

    def hold_page(self, tenant_id: str | None, offset: int, size: int) -> Page[Hold]:
        found = [hold.c.state == "open"]
        if tenant_id is not None:
            found.append(hold.c.tenant_id == tenant_id)
        [(total,)] = self._ask(select(func.count()).select_from(hold).where(*found))
        rows = (
            select(*(hold.c[name] for name in HOLD_COLUMNS)).where(*found).order_by(hold.c.created_at, hold.c.call_id)
        )
        return Page([Hold(*row) for row in self._ask(rows.offset(offset).limit(size))], total)

    def refusals(self, query: RefusalQuery) -> list[Refusal]:
        named = ("tenant_id", "kind", "limited_by", "user")
        asked = ((refusal.c[name], getattr(query, name)) for name in named)
        conditions = [column == value for column, value in asked if value is not None]
        if query.end is not None:
            conditions.append(refusal.c.minute < math.ceil(query.end))
        rows = select(*(refusal.c[name] for name in Refusal._fields))
        rows = rows.where(refusal.c.minute >= math.ceil(query.start), *conditions)
        rows = rows.order_by(refusal.c.minute.desc(), refusal.c.tenant_id, refusal.c.kind, refusal.c.limited_by)
        return [Refusal(*row) for row in self._ask(rows.offset(query.offset).limit(query.size))]

    def refused(self, since: float, tenant_id: str | None) -> list[Refused]:
        calls = func.sum(refusal.c.calls)
        rows = select(refusal.c.kind, func.count(distinct(refusal.c.tenant_id)), calls)
        rows = rows.where(refusal.c.minute >= math.ceil(since))
        if tenant_id is not None:
            rows = rows.where(refusal.c.tenant_id == tenant_id)
        rows = rows.group_by(refusal.c.kind).order_by(calls.desc(), refusal.c.kind)
        return [Refused(kind, int(tenants), int(times)) for kind, tenants, times in self._ask(rows)]

    def insert_change(self, change: Change) -> None:
        self._run(INSERT_CHANGE, change._asdict())

    def changes(self, tenant_id: str | None, after: Cursor | None, size: int, actor: str) -> list[Change]:
        rows = select(*(limit_history.c[name] for name in Change._fields))
        if tenant_id is not None:
            rows = rows.where(limit_history.c.tenant_id == tenant_id)
        if actor:
            rows = rows.where(func.lower(limit_history.c.actor).contains(actor.lower(), autoescape=True))
        return [Change(*row) for row in self._ask(_newest(rows, limit_history.c.at, after, size))]


def _between(days: range) -> dict[str, int]:
    return {"the_first_day": days.start, "the_last_day": days.stop}


def _conditions(query: EventQuery) -> list[ColumnElement[bool]]:
    known = (
        (ledger.c.tenant_id, query.tenant_id),
        (ledger.c.provider, query.provider),
        (ledger.c.model, query.model),
        (ledger.c.kind, query.kind),
    )
    conditions = [column == value for column, value in known if value is not None]
    if query.failed:
        conditions.append(ledger.c.error.is_not(None))
    if query.unpriced:
        conditions.append(ledger.c.cost_nano.is_(None))
    if query.estimated:
        conditions.append(ledger.c.details["tags"]["estimated"].as_boolean().is_(True))
    if query.unverified:
        conditions.append(ledger.c.details["tags"]["unverified"].as_boolean().is_(True))
    if query.assumed:
        conditions.append(ledger.c.details["tags"]["price_assumed"].as_string().is_not(None))
    if query.call is not None:
        its = [ledger.c.event_id == event_id for event_id in rows_of_call(query.call)]
        conditions.append(or_(*its, ledger.c.request_id == query.call))
    if query.start is not None:
        conditions.append(ledger.c.timestamp >= query.start)
    if query.end is not None:
        conditions.append(ledger.c.timestamp < query.end)
    return conditions


def _newest(rows: Select[Any], time: ColumnElement[float], after: Cursor | None, size: int) -> Select[Any]:
    number = time.table.c.id
    if after is not None:
        rows = rows.where(tuple_(time, number) < tuple_(*after))
    return rows.order_by(time.desc(), number.desc()).limit(size)
