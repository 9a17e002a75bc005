"""The inserts of the SQL stores that leave or add to what is there: each dialect has a syntax of its own."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Table, bindparam
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from ..entries import Spend
from ..records import Refusal
from .tables import api_key, counter, figures, ledger, notice, plan, refusal, rollup, tenant, user_rollup


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
    figures: Insert
    rollup: Insert
    user_rollup: Insert
    refusal: Insert
    notice: Insert


@cache
def upserts(dialect: str) -> Upserts:
    """Return the upserts of a dialect."""
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert, "mysql": mysql.insert}[dialect]
    absent = [filled(insert(table)) for table in (tenant, counter, ledger, api_key, plan, figures, notice)]
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
