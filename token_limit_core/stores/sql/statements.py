"""The statements of the SQL stores, built once; `dialects.py` makes text of them.

Parameters of conditions are named `the_*` and `more_*`, since SQLAlchemy keeps column names for values.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Column,
    Delete,
    Integer,
    Select,
    Table,
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
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from ...limits import CounterKey, Limit
from ..entries import Spend
from ..records import Counter, Hold, Refusal, Tenant
from .tables import (
    api_key,
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
    rollup,
    tenant,
    user_rollup,
)

LIMIT_COLUMNS = tuple(field.name for field in fields(Limit))
HOLD_COLUMNS = tuple(name for name in Hold._fields if name not in ("items", "amounts"))
TENANT_COLUMNS = [tenant.c["id" if name == "tenant_id" else name] for name in Tenant._fields]
MARKUP = func.coalesce(tenant.c.markup, plan.c.markup, "")
"""The markup of a tenant that is joined with its plan."""


def columns_of(table: Table) -> list[str]:
    """Name the columns that an INSERT fills; the engine counts `id` up where it is a number."""
    return [column.name for column in table.columns if column.autoincrement is not True]


class Upserts(NamedTuple):
    """Inserts that leave an existing row alone, and the one that adds to it; each dialect has its own syntax."""

    tenant: Insert
    counter: Insert
    entry: Insert
    api_key: Insert
    plan: Insert
    rollup: Insert
    user_rollup: Insert
    refusal: Insert
    notice: Insert


@cache
def upserts(dialect: str) -> Upserts:
    """Return the upserts of a dialect."""
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert, "mysql": mysql.insert}[dialect]
    absent = [filled(insert(table)) for table in (tenant, counter, ledger, api_key, plan, notice)]
    totals = [filled(insert(table)) for table in (rollup, user_rollup)]
    refused = filled(insert(refusal))
    if dialect == "mysql":
        # not ON DUPLICATE KEY: with the driver's FOUND_ROWS that counts an untouched row as changed
        absent = [one.prefix_with("IGNORE") for one in absent]
        totals = [
            one.on_duplicate_key_update({name: one.table.c[name] + one.inserted[name] for name in Spend._fields})
            for one in totals
        ]
        refused = refused.on_duplicate_key_update(_later(refused.inserted))
    else:
        absent = [one.on_conflict_do_nothing() for one in absent]
        totals = [add_to_totals(one) for one in totals]
        refused = refused.on_conflict_do_update(index_elements=list(refusal.primary_key), set_=_later(refused.excluded))
    *absent, noticed = absent
    return Upserts._make((*absent, *totals, refused, noticed))


def _later(more: Any) -> dict[str, Any]:
    """Add refusals to those of the same key; the last call is that of those that are added."""
    last = {name: more[name] for name in Refusal._fields if name not in refusal.primary_key and name != "calls"}
    return {"calls": refusal.c.calls + more.calls, **last}


def add_to_totals(insertion: Any) -> Any:
    """Make an insert into a roll-up add to the row that is there (SQLite, PostgreSQL)."""
    known = insertion.table
    sums = {name: known.c[name] + insertion.excluded[name] for name in Spend._fields}
    return insertion.on_conflict_do_update(index_elements=list(known.primary_key), set_=sums)


def filled(insertion: Any) -> Any:
    """Fill every column from the parameter of its name."""
    return insertion.inline().values({name: bindparam(name) for name in columns_of(insertion.table)})


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
HELD_ON = (
    select(func.coalesce(func.sum(hold_item.c.amount), 0))
    .join_from(hold_item, hold, hold.c.call_id == hold_item.c.call_id)
    .where(
        hold.c.state == "open",
        hold_item.c.limit_id == bindparam("the_limit"),
        hold_item.c.subject == bindparam("the_subject"),
        hold_item.c.window_start == bindparam("the_window"),
        or_(hold.c.tenant_id == bindparam("the_tenant"), hold_item.c.shared),
    )
)
DROP_EARLIER = delete(counter).where(
    counter.c.tenant_id == bindparam("the_tenant"),
    counter.c.limit_id == bindparam("the_limit"),
    counter.c.subject == bindparam("the_subject"),
    counter.c.window_end <= bindparam("the_time"),
)

# -- holds --------------------------------------------------------------------------------------

ITEM_COLUMNS = ("shared", "limit_id", "subject", "window_start", "amount")

HOLDS = (
    select(*(hold.c[name] for name in HOLD_COLUMNS), *(hold_item.c[name] for name in ITEM_COLUMNS))
    .select_from(hold.outerjoin(hold_item, hold.c.call_id == hold_item.c.call_id))
    .order_by(hold.c.created_at, hold.c.call_id, hold_item.c.limit_id)
)
HOLD = HOLDS.where(hold.c.call_id == bindparam("the_call"))
INSERT_HOLD = filled(hold.insert())
INSERT_ITEM = filled(hold_item.insert())
CLOSE_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == bindparam("the_old_state"))
    .values(state=bindparam("the_state"))
)
RENEW_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == "open")
    .values(expires_at=bindparam("the_expiry"))
)

RENAME_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == "open")
    .values(call_id=bindparam("the_new_call"), expires_at=bindparam("the_expiry"))
)
RENAME_ITEMS = (
    update(hold_item).where(hold_item.c.call_id == bindparam("the_call")).values(call_id=bindparam("the_new_call"))
)
RAISE_HOLD = (
    update(hold)
    .where(hold.c.call_id == bindparam("the_call"), hold.c.state == "open")
    .values(amount=bindparam("the_amount"), tokens=bindparam("the_tokens"), charge=bindparam("the_charge"))
)
RAISE_ITEM = (
    update(hold_item)
    .where(
        hold_item.c.call_id == bindparam("the_call"),
        hold_item.c.limit_id == bindparam("the_limit"),
        hold_item.c.window_start == bindparam("the_start"),
    )
    .values(amount=bindparam("the_amount"))
)


@cache
def open_holds(of_tenant: bool, expired: bool) -> Select[Any]:
    """List the open holds: of one tenant, or those that have expired, or both."""
    found = HOLDS.where(hold.c.state == "open")
    if of_tenant:
        found = found.where(hold.c.tenant_id == bindparam("the_tenant"))
    if expired:
        found = found.where(hold.c.expires_at <= bindparam("the_time"))
    return found


# -- ledger -------------------------------------------------------------------------------------

INSERT_ENTRY = filled(ledger.insert())
INSERT_CHANGE = filled(limit_history.insert())
INSERT_DELIVERY = filled(delivery.insert())


@cache
def known_events(size: int) -> Select[Any]:
    """Find which events of a list the tenant's ledger has."""
    of_tenant = ledger.c.tenant_id == bindparam("the_tenant")
    return select(ledger.c.event_id).where(of_tenant, one_of(ledger.c.event_id, "the_ids", size))


@cache
def held_calls(size: int) -> Select[Any]:
    """Find which calls of a list have a hold."""
    return select(hold.c.call_id).where(one_of(hold.c.call_id, "the_ids", size))


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
