"""How tenants stand, as parts of a query: what each has spent this month, and of which share of its limits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Select, String, and_, case, cast, func, literal, or_, select, union_all

from ...limits import USD
from ...windows import PER_DAY, PER_MONTH
from ..queries import Standing, TenantQuery
from ..reports import FULL_SHARE, NEAR_SHARE, current_days
from .tables import counter, limit, rollup, tenant

NO_SHARE = -1
"""The share of tenants without a limit, which stand behind all others."""


def tenants_of(query: TenantQuery, now: float, *columns: ColumnElement[Any]) -> Select[Any]:
    """Select the tenants of a list, in its order."""
    found = _conditions_of(query)
    rows = select(*columns).where(*found)
    if query.sort == "share" or query.standing not in (None, "suspended"):
        shares = shares_of(now, *found).subquery("shares")
        rows = rows.outerjoin_from(tenant, shares, shares.c.tenant_id == tenant.c.id)
        share = func.coalesce(shares.c.share, NO_SHARE)
        if query.sort == "share":
            rows = rows.order_by(share.desc())
        if query.standing is not None and query.standing != "suspended":
            rows = rows.where(stands(share, query.standing))
    else:
        rows = rows.select_from(tenant)
    if query.standing == "suspended":
        rows = rows.where(tenant.c.suspended_at.is_not(None))
    if query.sort in _MONTHS:
        rows = rows.order_by(func.coalesce(_sum_of(_MONTHS[query.sort], current_days(now)[0]), 0).desc())
    elif query.sort == "name":
        rows = rows.order_by(tenant.c.name == "", func.lower(tenant.c.name))
    return rows.order_by(tenant.c.id)


_MONTHS: dict[str, Column[Any]] = {"spend": rollup.c.cost_nano, "calls": rollup.c.calls}
"""What lists are ordered by that sums this month."""


def stands(share: ColumnElement[Any], standing: Standing) -> ColumnElement[bool]:
    """Compare a share, or `NO_SHARE`, with what a standing means."""
    if standing == "unlimited":
        return share < 0
    return share >= FULL_SHARE if standing == "over" else and_(share >= NEAR_SHARE, share < FULL_SHARE)


def _conditions_of(query: TenantQuery) -> list[ColumnElement[bool]]:
    exactly = [] if query.tenant_id is None else [tenant.c.id == query.tenant_id]
    if query.plan is not None:
        exactly.append(tenant.c.plan == query.plan)
    if not query.search:
        return exactly
    as_text = cast(tenant.c.id, String(255))  # MySQL keeps ids as bytes, which have no case
    wanted = query.search.lower()
    return [
        *exactly,
        or_(*(func.lower(column).contains(wanted, autoescape=True) for column in (as_text, tenant.c.name))),
    ]


def _sum_of(amount: Column[Any], days: range) -> ColumnElement[Any]:
    """Sum some days of each tenant: a look along its own part of the primary key."""
    within = and_(rollup.c.day >= days.start, rollup.c.day < days.stop)
    total = select(func.sum(amount)).where(rollup.c.tenant_id == tenant.c.id, within)
    return total.correlate(tenant, limit).scalar_subquery()


def shares_of(now: float, *found: ColumnElement[bool]) -> Select[Any]:
    """Give the largest share of a limit that each of some tenants has spent; a limit of nothing is always used up.

    A day or a month in which no call has been admitted yet stands at what the roll-up has. Limits on each user are left
    out, as in the list itself.
    """
    is_own = and_(limit.c.tenant_id == tenant.c.id, limit.c.plan == "")
    each = union_all(*(_shares(now, its, *found) for its in (is_own, limit.c.plan == tenant.c.plan))).subquery("each")
    share = case((each.c.share < 0, 0.0), else_=each.c.share)  # what is owed to a tenant is no share of a limit
    return select(each.c.tenant_id, func.max(share).label("share")).group_by(each.c.tenant_id)


def _shares(now: float, its: ColumnElement[bool], *found: ColumnElement[bool]) -> Select[Any]:
    """Give the share of each limit as a row: SQLite would run a subquery for one value again wherever that is used."""
    month, day = (_sum_of(rollup.c.cost_nano, days) for days in current_days(now))
    is_open = and_(counter.c.window_start <= now, counter.c.window_end > now, counter.c.subject == "")
    at_tenant = and_(counter.c.tenant_id == tenant.c.id, counter.c.limit_id == limit.c.id, is_open)
    plain = and_(limit.c.filter == "", limit.c.unit == USD)
    rolled_up = case((limit.c.frequency == PER_DAY, day), (limit.c.frequency == PER_MONTH, month), else_=0)
    spent = func.coalesce(counter.c.settled, case((plain, rolled_up), else_=0), 0)
    ceiling = limit.c.amount + func.coalesce(counter.c.extra, 0)
    share = case((ceiling == 0, 1.0), else_=spent * literal(1.0) / ceiling)
    in_force = and_(
        limit.c.effective_from <= now, or_(limit.c.effective_until.is_(None), limit.c.effective_until > now)
    )
    each_user = limit.c.filter.like("%user=*")  # the last field of a filter
    rows = select(tenant.c.id.label("tenant_id"), share.label("share"))
    return rows.select_from(tenant.join(limit, its).outerjoin(counter, at_tenant)).where(in_force, ~each_user, *found)
