"""The statements of limits, counters and the ledger, built once; `dialects.py` makes text of them.

Parameters of conditions are named `the_*` and `more_*`, since SQLAlchemy keeps column names for values.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    Delete,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)

from ...limits import CounterKey, Limit
from ..records import Counter, Tenant
from .tables import (
    counter,
    delivery,
    hold,
    hold_item,
    ledger,
    limit,
    limit_history,
    notice,
    plan,
    refusal,
    tenant,
    user_rollup,
)
from .upserts import columns_of, filled

LIMIT_COLUMNS = tuple(field.name for field in fields(Limit))
TENANT_COLUMNS = [tenant.c["id" if name == "tenant_id" else name] for name in Tenant._fields]
MARKUP = func.coalesce(tenant.c.markup, plan.c.markup, "")
"""The markup of a tenant that is joined with its plan."""


def limit_row(row: Limit) -> dict[str, Any]:
    """Return the columns of a limit but its key."""
    columns = asdict(row)
    del columns["id"]
    return columns


def key_row(key: CounterKey) -> dict[str, Any]:
    """Return the parameters that find a counter."""
    return {
        "the_tenant": key.tenant_id,
        "the_limit": key.limit_id,
        "the_subject": key.subject,
        "the_window": key.window_start,
    }


# -- lists --------------------------------------------------------------------------------------


def size_for(values: Collection[Any]) -> int:
    """Return a power of two that these values fit in, so that there are few texts of one statement."""
    return 1 << max(0, len(values) - 1).bit_length()


def listed(name: str, values: Collection[Any]) -> dict[str, Any]:
    """Return the parameters of a list; NULL fills it up, which equals nothing."""
    padded = [*values, *[None] * (size_for(values) - len(values))]
    return {f"{name}_{place}": value for place, value in enumerate(padded)}


def one_of(column: Column[Any], name: str, size: int) -> Any:
    """Compare a column with a list of this size."""
    items: list[BindParameter[Any]] = [bindparam(f"{name}_{place}", type_=column.type) for place in range(size)]
    return column.in_(items)


# -- limits and counters ------------------------------------------------------------------------

AT_KEY = and_(
    counter.c.tenant_id == bindparam("the_tenant"),
    counter.c.limit_id == bindparam("the_limit"),
    counter.c.subject == bindparam("the_subject"),
    counter.c.window_start == bindparam("the_window"),
)
_AMOUNT = select(limit.c.amount).where(limit.c.id == bindparam("the_limit")).scalar_subquery()

LOCK_TENANT = update(tenant).where(tenant.c.id == bindparam("the_tenant")).values(first_seen=tenant.c.first_seen)

LIMITS = (
    select(*(limit.c[name] for name in LIMIT_COLUMNS))
    .where(limit.c.tenant_id == bindparam("the_tenant"), limit.c.plan == "")
    .order_by(limit.c.id)
)
INSERT_LIMIT = filled(limit.insert())
INSERT_LIMIT_RETURNING = INSERT_LIMIT.returning(limit.c.id)
UPDATE_LIMIT = (
    update(limit)
    .where(limit.c.id == bindparam("the_id"))
    .values({name: bindparam(name) for name in LIMIT_COLUMNS if name != "id"})
)


@cache
def counter_keys(of_tenant: bool) -> Select[Any]:
    """List the counters whose window has not ended: of one tenant, or all."""
    keys = select(*(counter.c[name] for name in CounterKey._fields)).where(counter.c.window_end > bindparam("the_time"))
    return keys.where(counter.c.tenant_id == bindparam("the_tenant")) if of_tenant else keys


@cache
def delete_limits(size: int) -> tuple[Delete, ...]:
    """Delete limits with their counters and hold items.

    The counters go first: that waits for an admission in flight, whose hold items are then seen.
    """
    columns = (counter.c.limit_id, hold_item.c.limit_id, limit.c.id)
    return tuple(delete(column.table).where(one_of(column, "the_ids", size)) for column in columns)


COUNTER = select(*(counter.c[name] for name in Counter._fields)).where(AT_KEY)
_HOLD_MORE = update(counter).where(AT_KEY).values(held=counter.c.held + bindparam("more_held"))
TAKE = _HOLD_MORE.where(or_(counter.c.extra_until.is_(None), counter.c.extra_until > bindparam("the_time")))
TAKE_BOUNDED = TAKE.where(counter.c.settled + counter.c.held + bindparam("more_needed") <= counter.c.extra + _AMOUNT)
CHARGE = _HOLD_MORE.values(settled=counter.c.settled + bindparam("more_settled"))
CHARGE_BELOW = CHARGE.where(counter.c.settled + bindparam("more_settled") < counter.c.notify_at)
RESET = update(counter).where(AT_KEY).values(settled=bindparam("the_settled"), held=bindparam("the_held"))
DROP_EARLIER = delete(counter).where(
    counter.c.tenant_id == bindparam("the_tenant"),
    counter.c.limit_id == bindparam("the_limit"),
    counter.c.subject == bindparam("the_subject"),
    counter.c.window_end <= bindparam("the_time"),
)

# -- ledger -------------------------------------------------------------------------------------

INSERT_ENTRY = filled(ledger.insert())
INSERT_CHANGE = filled(limit_history.insert())
INSERT_DELIVERY = filled(delivery.insert())


@cache
def known_events(size: int) -> Select[Any]:
    """Find which events of a list the tenant's ledger has."""
    of_tenant = ledger.c.tenant_id == bindparam("the_tenant")
    return select(ledger.c.event_id).where(of_tenant, one_of(ledger.c.event_id, "the_ids", size))


IS_CALL = ledger.c.kind == "call"
CHARGE_NANO = func.coalesce(ledger.c.charge_nano, ledger.c.cost_nano)
SPENDS = (
    func.count(case((IS_CALL, 1))).label("calls"),
    func.coalesce(func.sum(ledger.c.input_tokens), 0).label("input_tokens"),
    func.coalesce(func.sum(ledger.c.output_tokens), 0).label("output_tokens"),
    func.coalesce(func.sum(ledger.c.cost_nano), 0).label("cost_nano"),
    func.count(case((and_(IS_CALL, ledger.c.cost_nano.is_(None)), 1))).label("unpriced"),
    func.coalesce(func.sum(CHARGE_NANO), 0).label("charge_nano"),
)
SPEND = select(*SPENDS).where(
    ledger.c.tenant_id == bindparam("the_tenant"),
    ledger.c.timestamp >= bindparam("the_start"),
    ledger.c.timestamp < bindparam("the_end"),
)


def whole(number: Any, dialect: str) -> Any:
    """Round a number down; SQLite has FLOOR only if it was built with it."""
    return cast(number, Integer) if dialect == "sqlite" else cast(func.floor(number), Integer)


def totals_by_user(dialect: str) -> tuple[list[str], Select[Any]]:
    """Sum the ledger by user and feature, for `INSERT ... FROM SELECT` into that roll-up."""
    user, feature = func.coalesce(ledger.c.user, ""), func.coalesce(ledger.c.feature, "")
    key = (ledger.c.tenant_id, user, whole(ledger.c.timestamp / 86400, dialect), feature)
    rows = select(*key, *SPENDS).where(or_(user != "", feature != "")).group_by(*key)
    return columns_of(user_rollup), rows


_CLOSED_BEFORE = and_(hold.c.state != "open", hold.c.created_at < bindparam("the_time"))
PRUNE_LEDGER = delete(ledger).where(ledger.c.timestamp < bindparam("the_time"))
PRUNE_ITEMS = delete(hold_item).where(hold_item.c.call_id.in_(select(hold.c.call_id).where(_CLOSED_BEFORE)))
PRUNE_HOLDS = delete(hold).where(_CLOSED_BEFORE)
PRUNE_REFUSALS = delete(refusal).where(refusal.c.minute < bindparam("the_time"))
PRUNE_NOTICES = delete(notice).where(notice.c.at < bindparam("the_time"))
PRUNE_COUNTERS = delete(counter).where(counter.c.window_end <= bindparam("the_time"))
