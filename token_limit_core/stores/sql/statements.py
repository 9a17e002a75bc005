"""The statements of the SQL store, built once.

Parameters of conditions are named `the_*` and `more_*`, since SQLAlchemy keeps column names for values.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, case, delete, func, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from ...limits import CounterKey, Limit
from ..records import Spend
from .tables import api_key, counter, hold, hold_item, ledger, limit, rollup, tenant


class Inserts(NamedTuple):
    """Inserts that leave an existing row alone, and the one that adds to it: each engine has its own words."""

    tenant: Insert
    counter: Insert
    entry: Insert
    api_key: Insert
    rollup: Insert


@cache
def inserts(dialect: str) -> Inserts:
    """Return the upserts in the words of a dialect."""
    upsert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert, "mysql": mysql.insert}[dialect]
    total, tables = upsert(rollup), (tenant, counter, ledger, api_key)
    if dialect == "mysql":
        # not ON DUPLICATE KEY: with the driver's FOUND_ROWS that counts an untouched row as changed
        absent = [upsert(table).prefix_with("IGNORE") for table in tables]
        total = total.on_duplicate_key_update({name: rollup.c[name] + total.inserted[name] for name in Spend._fields})
    else:
        absent = [upsert(table).on_conflict_do_nothing() for table in tables]
        sums = {name: rollup.c[name] + total.excluded[name] for name in Spend._fields}
        total = total.on_conflict_do_update(index_elements=list(rollup.primary_key), set_=sums)
    # how many rows were inserted is the answer; SQLAlchemy keeps that number of an INSERT only when told to
    counted = (one.inline().execution_options(preserve_rowcount=True) for one in absent)
    for_tenant, for_counter, for_entry, for_api_key = counted
    return Inserts(for_tenant, for_counter, for_entry, for_api_key, total)


def limit_row(row: Limit) -> dict[str, Any]:
    """Return the columns of a limit but its key."""
    columns = asdict(row)
    del columns["id"]
    return columns


def key_row(key: CounterKey) -> dict[str, Any]:
    """Return the parameters that find a counter."""
    return {"the_tenant": key.tenant_id, "the_limit": key.limit_id, "the_window": key.window_start}


OF_TENANT = hold.c.tenant_id == bindparam("the_tenant")
EXPIRED = hold.c.expires_at <= bindparam("the_time")
_AT_KEY = and_(
    counter.c.tenant_id == bindparam("the_tenant"),
    counter.c.limit_id == bindparam("the_limit"),
    counter.c.window_start == bindparam("the_window"),
)
_CEILING = select(limit.c.amount).where(limit.c.id == bindparam("the_limit")).scalar_subquery()

LOCK_TENANT = update(tenant).where(tenant.c.id == bindparam("the_tenant")).values(first_seen=tenant.c.first_seen)

LIMITS = (
    select(*(limit.c[f.name] for f in fields(Limit)))
    .where(limit.c.tenant_id == bindparam("the_tenant"))
    .order_by(limit.c.id)
)
INSERT_LIMIT = insert(limit)
UPDATE_LIMIT = (
    update(limit)
    .where(limit.c.id == bindparam("the_id"))
    .values({f.name: bindparam(f.name) for f in fields(Limit) if f.name != "id"})
)
DELETE_LIMITS = tuple(
    delete(column.table).where(column.in_(bindparam("the_ids", expanding=True)))
    # counters first: this waits for an admission in flight, whose hold items are then seen
    for column in (counter.c.limit_id, hold_item.c.limit_id, limit.c.id)
)

COUNTER = select(counter.c.settled, counter.c.held).where(_AT_KEY)
TAKE = update(counter).where(_AT_KEY).values(held=counter.c.held + bindparam("more_held"))
TAKE_BOUNDED = TAKE.where(counter.c.settled + counter.c.held < _CEILING)
CHARGE = TAKE.values(settled=counter.c.settled + bindparam("more_settled"))

_HOLDS = (
    select(
        hold.c.call_id,
        hold.c.tenant_id,
        hold.c.amount,
        hold.c.created_at,
        hold.c.expires_at,
        hold.c.origin,
        hold.c.state,
        hold_item.c.limit_id,
        hold_item.c.window_start,
    )
    .select_from(hold.outerjoin(hold_item, hold.c.call_id == hold_item.c.call_id))
    .order_by(hold.c.created_at, hold.c.call_id, hold_item.c.limit_id)
)
HOLD = _HOLDS.where(hold.c.call_id == bindparam("the_call"))
OPEN_HOLDS = _HOLDS.where(hold.c.state == "open")
INSERT_HOLD = insert(hold)
INSERT_ITEMS = insert(hold_item)
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

KNOWN_EVENTS = select(ledger.c.event_id).where(
    ledger.c.tenant_id == bindparam("the_tenant"), ledger.c.event_id.in_(bindparam("the_ids", expanding=True))
)
HELD_CALLS = select(hold.c.call_id).where(hold.c.call_id.in_(bindparam("the_ids", expanding=True)))
INSERT_ENTRIES = insert(ledger)

_IS_CALL = ledger.c.kind == "call"
SPEND = select(
    func.count(case((_IS_CALL, 1))),
    func.coalesce(func.sum(ledger.c.input_tokens), 0),
    func.coalesce(func.sum(ledger.c.output_tokens), 0),
    func.coalesce(func.sum(ledger.c.cost_nano), 0),
    func.count(case((and_(_IS_CALL, ledger.c.cost_nano.is_(None)), 1))),
).where(
    ledger.c.tenant_id == bindparam("the_tenant"),
    ledger.c.timestamp >= bindparam("the_start"),
    ledger.c.timestamp < bindparam("the_end"),
)

_CLOSED_BEFORE = and_(hold.c.state != "open", hold.c.created_at < bindparam("the_time"))
PRUNE_LEDGER = delete(ledger).where(ledger.c.timestamp < bindparam("the_time"))
PRUNE_ITEMS = delete(hold_item).where(hold_item.c.call_id.in_(select(hold.c.call_id).where(_CLOSED_BEFORE)))
PRUNE_HOLDS = delete(hold).where(_CLOSED_BEFORE)
PRUNE_COUNTERS = delete(counter).where(counter.c.window_end <= bindparam("the_time"))
