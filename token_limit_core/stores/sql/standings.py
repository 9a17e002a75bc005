"""How tenants stand, as expressions of a query: what each has spent this month, and of which share of its limits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, String, and_, case, cast, func, literal, or_, select

from ...limits import USD
from ...windows import PER_DAY, PER_MONTH
from ..queries import Standing, TenantQuery
from ..reports import FULL_SHARE, NEAR_SHARE, current_days
from .tables import counter, limit, rollup, tenant

NONE = {"spend": 0, "share": -1}
"""Where in an order tenants stand that have no spend or no limit: with those that spent nothing, and behind all."""


def _stands(standing: Standing, now: float) -> ColumnElement[bool]:
    if standing == "suspended":
        return tenant.c.suspended_at.is_not(None)
    share = func.coalesce(share_of(now), NONE["share"])
    if standing == "unlimited":
        return share < 0
    return share >= FULL_SHARE if standing == "over" else and_(share >= NEAR_SHARE, share < FULL_SHARE)


def conditions_of(query: TenantQuery, now: float) -> list[ColumnElement[bool]]:
    """Return what the tenants of a list have in common."""
    exactly = [] if query.tenant_id is None else [tenant.c.id == query.tenant_id]
    if query.plan is not None:
        exactly.append(tenant.c.plan == query.plan)
    if query.standing is not None:
        exactly.append(_stands(query.standing, now))
    if not query.search:
        return exactly
    as_text = cast(tenant.c.id, String(255))  # MySQL keeps ids as bytes, which have no case
    wanted = query.search.lower()
    return [
        *exactly,
        or_(*(func.lower(column).contains(wanted, autoescape=True) for column in (as_text, tenant.c.name))),
    ]


def _within(days: range) -> ColumnElement[bool]:
    return and_(rollup.c.day >= days.start, rollup.c.day < days.stop)


def spent_of(days: range, tenant_id: ColumnElement[str]) -> ColumnElement[Any]:
    """Sum some days of each tenant: a look along its own part of the primary key."""
    total = select(func.sum(rollup.c.cost_nano)).where(rollup.c.tenant_id == tenant_id, _within(days))
    return total.correlate(tenant, limit).scalar_subquery()


def share_of(now: float) -> ColumnElement[Any]:
    """Give the largest share of a limit that each tenant has spent; a limit of nothing is always used up.

    A day or a month in which no call has been admitted yet stands at what the roll-up has. Limits on each user are left
    out, as in the list itself.
    """
    is_own = and_(limit.c.tenant_id == tenant.c.id, limit.c.plan == "")
    own, plans = (_largest(found, now) for found in (is_own, limit.c.plan == tenant.c.plan))
    none = NONE["share"]
    return case((func.coalesce(own, none) >= func.coalesce(plans, none), own), else_=plans)


def _largest(found: ColumnElement[bool], now: float) -> ColumnElement[Any]:
    month, day = (spent_of(days, tenant.c.id) for days in current_days(now))
    is_open = and_(counter.c.window_start <= now, counter.c.window_end > now, counter.c.subject == "")
    at_tenant = and_(counter.c.tenant_id == tenant.c.id, counter.c.limit_id == limit.c.id, is_open)
    plain = and_(limit.c.filter == "", limit.c.unit == USD)
    rolled_up = case((limit.c.frequency == PER_DAY, day), (limit.c.frequency == PER_MONTH, month), else_=0)
    spent = func.coalesce(counter.c.settled, case((plain, rolled_up), else_=0), 0)
    ceiling = limit.c.amount + func.coalesce(counter.c.extra, 0)
    share = case((ceiling == 0, 1.0), (spent <= 0, 0.0), else_=spent * literal(1.0) / ceiling)
    in_force = and_(
        limit.c.effective_from <= now, or_(limit.c.effective_until.is_(None), limit.c.effective_until > now)
    )
    each_user = limit.c.filter.like("%user=*")  # the last field of a filter
    rows = select(func.max(share)).select_from(limit.outerjoin(counter, at_tenant)).where(found, in_force, ~each_user)
    return rows.correlate(tenant).scalar_subquery()
