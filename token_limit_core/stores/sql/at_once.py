"""Admission in the plain cases: one round trip on PostgreSQL. `settlement.py` is its other half.

The steps are those of `ledger.py`. A case is plain when every window is open, the hold is open and every filter of the
tenant's limits is known here. In any other case these statements change nothing, and the steps are taken one by one.

On PostgreSQL the steps are common table expressions of one statement. It sees what was committed when it began, and
rows it has locked as they are now. So counters are locked first, in the order all transactions lock them, and the
verdict is of the locked rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from ...limits import (
    ADMITTED,
    CHARGE,
    COST,
    ENFORCE,
    EVERYONE,
    OBSERVE,
    STRICT,
    TOKENS,
    USD,
    Decision,
    Limit,
    LimitStatus,
    judge,
)
from ...runtime.ids import process_name
from ...windows import Window
from ..admission import needed_on
from ..records import NEAR, Call
from .matching import (
    THE_CALL,
    THE_TENANT,
    THE_TIME,
    THE_USER,
    candidate_limits,
    filter_row,
    has_other_markup,
    is_in,
    is_locked,
    known_markup,
    lock_counters,
    remember_filters,
    remember_markup,
    unknown_filters,
)
from .statements import LIMIT_COLUMNS
from .tables import counter, hold, hold_item


def _amount(limits: Any) -> ColumnElement[Any]:
    """Give what each limit holds for a call: `Call.amount_on`."""
    cost, charge, tokens = (
        case((limits.c.mode == STRICT, bindparam(worst, type_=BigInteger)), else_=bindparam(least, type_=BigInteger))
        for least, worst in (
            ("the_estimate", "the_worst_case"),
            ("the_charge", "the_worst_charge"),
            ("the_tokens", "the_worst_tokens"),
        )
    )
    return case({USD: case((limits.c.basis == COST, cost), else_=charge), TOKENS: tokens}, value=limits.c.unit, else_=1)


def _ceiling(limits: Any) -> ColumnElement[Any]:
    """Give what each limit holds for a call near its end: `Call.ceiling_on`."""
    cost, charge, tokens = (
        bindparam(name, type_=BigInteger) for name in ("the_ceiling", "the_ceiling_charge", "the_ceiling_tokens")
    )
    of_unit = case({USD: case((limits.c.basis == COST, cost), else_=charge), TOKENS: tokens}, value=limits.c.unit)
    return case((limits.c.mode == ENFORCE, of_unit))


def _admission() -> Any:
    state, candidates = candidate_limits()
    in_force = and_(
        candidates.c.effective_from <= THE_TIME,
        or_(candidates.c.effective_until.is_(None), candidates.c.effective_until > THE_TIME),
    )
    other = candidates.alias("other")
    replaced = exists(
        select(other.c.id).where(
            other.c.plan == "",
            other.c.owner != EVERYONE,
            other.c.frequency == candidates.c.frequency,
            other.c.filter == candidates.c.filter,
            other.c.effective_from <= THE_TIME,
            or_(other.c.effective_until.is_(None), other.c.effective_until > THE_TIME),
        )
    )
    matching = (
        select(candidates, _amount(candidates).label("least"), _ceiling(candidates).label("most"))
        .where(in_force, is_in(candidates.c.filter, "the_matching"), or_(candidates.c.plan == "", ~replaced))
        .cte("matching")
    )
    locked = lock_counters(matching)
    both = matching.outerjoin(locked, locked.c.limit_id == matching.c.id)
    needed = case((matching.c.mode == STRICT, func.greatest(matching.c.least, 1)), else_=1)
    left = matching.c.amount + locked.c.extra - locked.c.settled - locked.c.held
    within = needed <= left
    part = (left + locked.c.held) // bindparam("the_together", type_=BigInteger)
    near = func.greatest(matching.c.least, func.least(matching.c.most, part))
    more = case((matching.c.most * NEAR > left, near), else_=matching.c.least)
    lasts = or_(locked.c.extra_until.is_(None), locked.c.extra_until > THE_TIME)
    # a window that is not open yet fits nothing: its counter is NULL
    fits = and_(locked.c.limit_id.is_not(None), lasts, or_(matching.c.mode == OBSERVE, within))
    refused = or_(
        exists(select(state).where(state.c.suspended_at.is_not(None))),
        has_other_markup(state),
        unknown_filters(candidates).scalar_subquery().is_not(None),
        and_(bindparam("the_assigns", type_=Boolean), ~exists(select(state).where(state.c.plan.is_not(None)))),
        *(
            and_(
                bindparam(name, type_=Boolean),
                exists(select(matching.c.id).where(matching.c.mode == STRICT, matching.c.unit == unit)),
            )
            for unit, name in {USD: "the_unpriced", TOKENS: "the_unbounded"}.items()
        ),
    )
    verdict = select(and_(func.coalesce(func.bool_and(fits), true()), ~refused).label("fits")).select_from(both)
    fitting = verdict.cte("verdict")
    taken = (
        update(counter)
        .where(is_locked(locked), locked.c.limit_id == matching.c.id, fitting.c.fits)
        .values(held=counter.c.held + more)
        .returning(
            counter.c.tenant_id, counter.c.limit_id, counter.c.subject, counter.c.window_start, more.label("more")
        )
        .cte("taken")
    )
    shared = taken.c.tenant_id == EVERYONE
    item = select(THE_CALL, taken.c.limit_id, taken.c.subject, taken.c.window_start, taken.c.more, shared)
    names = ["call_id", "limit_id", "subject", "window_start", "amount", "shared"]
    items = postgresql.insert(hold_item).from_select(names, item).cte("items")
    rows = select(
        unknown_filters(candidates).scalar_subquery().label("unknown"),
        state.c.plan,
        state.c.suspended_at,
        state.c.markup,
        *(matching.c[name] for name in LIMIT_COLUMNS),
        *(locked.c[name] for name in _STATE),
    ).select_from(fitting.outerjoin(state, true()).outerjoin(both, true()))
    return rows.order_by(matching.c.id).add_cte(taken, items, _header(matching, taken))


_OF_STATE = 4
"""Columns before those of a limit."""

_STATE = ("subject", "window_start", "window_end", "settled", "held", "extra", "extra_until")


def _header(matching: CTE, taken: CTE) -> CTE:
    """Insert the hold; if the call never ends, a strict limit's call is billed its worst case."""

    def most(unit: str, worst: str, estimate: str) -> ColumnElement[Any]:
        strict = exists(select(matching.c.id).where(matching.c.mode == STRICT, matching.c.unit == unit))
        return case((strict, bindparam(worst, type_=BigInteger)), else_=bindparam(estimate, type_=BigInteger))

    header: dict[str, Any] = {
        "call_id": THE_CALL,
        "tenant_id": THE_TENANT,
        "amount": most(USD, "the_billed_worst", "the_billed"),
        "created_at": THE_TIME,
        "expires_at": bindparam("the_expiry", type_=Double),
        "origin": bindparam("the_origin", type_=String),
        "state": literal("open", String),
        "tokens": most(TOKENS, "the_worst_tokens", "the_tokens"),
        "provider": bindparam("the_provider", type_=String),
        "model": bindparam("the_model", type_=String),
        "user": THE_USER,
        "feature": bindparam("the_feature", type_=String),
        "process": bindparam("the_process", type_=String),
        "charge": most(USD, "the_billed_worst_charge", "the_billed_charge"),
    }
    return (
        postgresql.insert(hold)
        .from_select([*header], select(*header.values()).where(exists(select(taken))))
        .cte("head")
    )


ADMIT = _admission()
"""For PostgreSQL."""


def admission_row(call: Call, now: float, assigns_plans: bool) -> dict[str, Any]:
    """Return the parameters of `ADMIT`."""
    markup = None if call.charges is not None else known_markup(call.tenant_id)
    call = call.marked_up(markup or "")
    charge, worst_charge, ceiling_charge = call.amounts(CHARGE)
    return {
        **filter_row(call.tenant_id, call.facts),
        "the_tenant": call.tenant_id,
        "the_call": call.call_id,
        "the_time": now,
        "the_expiry": now + call.hold_seconds,
        "the_origin": call.origin,
        "the_billed": call.estimate,
        "the_billed_worst": call.worst_case,
        "the_estimate": 0 if call.estimate is None else call.estimate,
        "the_worst_case": 0 if call.worst_case is None else call.worst_case,
        "the_ceiling": call.ceiling,
        "the_markup": markup,
        "the_charge": 0 if charge is None else charge,
        "the_worst_charge": 0 if worst_charge is None else worst_charge,
        "the_ceiling_charge": ceiling_charge,
        "the_billed_charge": None if call.charges is None else charge,
        "the_billed_worst_charge": None if call.charges is None else worst_charge,
        "the_tokens": call.tokens,
        "the_worst_tokens": 0 if call.worst_tokens is None else call.worst_tokens,
        "the_ceiling_tokens": call.ceiling_tokens,
        "the_unpriced": call.worst_case is None,
        "the_unbounded": call.worst_tokens is None,
        "the_assigns": assigns_plans,
        "the_together": call.together,
        "the_provider": call.provider,
        "the_model": call.model,
        "the_feature": call.feature,
        "the_process": process_name(),
    }


def decide(rows: Sequence[Any], call: Call, now: float, assigns_plans: bool) -> Decision | None:
    """Read the verdict from the rows of `ADMIT`: the tenant's state, each limit, and its window before the call.

    None: the steps have to be taken.
    """
    unknown, plan, suspended_at, markup = rows[0][:_OF_STATE]
    if unknown:
        remember_filters(call.tenant_id, unknown)
    known = known_markup(call.tenant_id)
    if (markup or "") != known:
        remember_markup(call.tenant_id, markup or "")
    if unknown or (call.charges is None and (markup or "") != known):
        return None
    call = call.marked_up(known)
    if suspended_at is not None:
        return Decision("suspended", call.tenant_id)
    if assigns_plans and plan is None:
        return None
    observed: list[str] = []
    for row in rows if rows[0][_OF_STATE] is not None else ():
        limit = Limit(*row[_OF_STATE : -len(_STATE)])
        subject, start, end, settled, held, extra, extra_until = row[-len(_STATE) :]
        amount = call.amount_on(limit)
        if start is None or (extra_until is not None and extra_until <= now) or amount is None and limit.mode == STRICT:
            return None
        needed = needed_on(limit, 0 if amount is None else amount)
        status = LimitStatus(limit, Window(start, end), settled, held, extra, subject)
        decision = judge(status, call.tenant_id, now, 1 if needed is None else needed)
        if decision is not None and limit.mode != OBSERVE:
            return decision
        if decision is not None:
            observed.append(decision.kind)
    return replace(ADMITTED, observed=tuple(observed)) if observed else ADMITTED
