"""One transaction of the SQL store: the primitives of the ledger algorithm as SQLAlchemy statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from ...limits import CounterKey, Limit
from ..columns import batched, ledger_row, rollup_row, rollup_rows
from ..contract import Transaction
from ..records import Entry, Hold, Spend
from . import statements as sql
from .reports import SqlReports
from .services import SqlPeers


class SqlTransaction(SqlReports, SqlPeers, Transaction):
    """The primitives on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self._inserts = sql.inserts(connection.dialect.name)

    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        known = {"the_tenant": tenant_id}
        if self._changed(sql.LOCK_TENANT, known):
            return False
        if self._changed(self._inserts.tenant, {"id": tenant_id, "name": "", "first_seen": now}):
            return True
        self._changed(sql.LOCK_TENANT, known)  # somebody else was faster
        return False

    def limits(self, tenant_id: str) -> list[Limit]:
        return [Limit(*row) for row in self._execute(sql.LIMITS, {"the_tenant": tenant_id})]

    def insert_limit(self, limit: Limit) -> Limit:
        result = self._execute(sql.INSERT_LIMIT, sql.limit_row(limit))
        assert result.inserted_primary_key is not None
        return replace(limit, id=result.inserted_primary_key[0])

    def update_limit(self, limit: Limit) -> None:
        self._execute(sql.UPDATE_LIMIT, {**sql.limit_row(limit), "the_id": limit.id})

    def delete_limits(self, ids: Sequence[int]) -> None:
        for statement in sql.DELETE_LIMITS:
            self._execute(statement, {"the_ids": list(ids)})

    def counter(self, key: CounterKey) -> tuple[int, int] | None:
        row = self._execute(sql.COUNTER, sql.key_row(key)).first()
        return None if row is None else (row[0], row[1])

    def open_counter(self, key: CounterKey, window_end: int, settled: int) -> None:
        self._execute(self._inserts.counter, {**key._asdict(), "window_end": window_end, "settled": settled, "held": 0})

    def take(self, key: CounterKey, amount: int, bounded: bool) -> bool:
        return self._changed(sql.TAKE_BOUNDED if bounded else sql.TAKE, {**sql.key_row(key), "more_held": amount})

    def charge(self, key: CounterKey, settled: int, held: int) -> None:
        self._execute(sql.CHARGE, {**sql.key_row(key), "more_settled": settled, "more_held": held})

    def insert_hold(self, hold: Hold) -> None:
        row = hold._asdict()
        items = row.pop("items")
        self._execute(sql.INSERT_HOLD, row)
        if items:
            self._execute(
                sql.INSERT_ITEMS,
                [
                    {
                        "call_id": hold.call_id,
                        "limit_id": key.limit_id,
                        "window_start": key.window_start,
                        "amount": hold.held,
                    }
                    for key in items
                ],
            )

    def hold(self, call_id: str) -> Hold | None:
        found = _holds(self._execute(sql.HOLD, {"the_call": call_id}))
        return found[0] if found else None

    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        return self._changed(sql.CLOSE_HOLD, {"the_call": call_id, "the_state": state, "the_old_state": was})

    def renew_hold(self, call_id: str, expires_at: float) -> bool:
        return self._changed(sql.RENEW_HOLD, {"the_call": call_id, "the_expiry": expires_at})

    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[Hold]:
        statement = sql.OPEN_HOLDS
        known: dict[str, Any] = {}
        if tenant_id is not None:
            statement, known["the_tenant"] = statement.where(sql.OF_TENANT), tenant_id
        if expired_at is not None:
            statement, known["the_time"] = statement.where(sql.EXPIRED), expired_at
        return _holds(self._execute(statement, known))

    def insert_entry(self, entry: Entry) -> bool:
        return self._changed(self._inserts.entry, ledger_row(entry))

    def known_events(self, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
        known = {"the_tenant": tenant_id}
        return {
            event_id
            for some in batched(event_ids)
            for event_id in self._execute(sql.KNOWN_EVENTS, {**known, "the_ids": some}).scalars()
        }

    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        return {
            call_id
            for some in batched(call_ids)
            for call_id in self._execute(sql.HELD_CALLS, {"the_ids": some}).scalars()
        }

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        self._execute(sql.INSERT_ENTRIES, [ledger_row(entry) for entry in entries])

    def roll_up(self, entry: Entry) -> None:
        self._execute(self._inserts.rollup, rollup_row(entry))

    def roll_up_all(self, entries: Sequence[Entry]) -> None:
        self._execute(self._inserts.rollup, rollup_rows(entries))

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        row = self._execute(sql.SPEND, {"the_tenant": tenant_id, "the_start": start, "the_end": end}).one()
        return Spend(*map(int, row))  # PostgreSQL sums to Decimal

    def prune(self, before: float) -> tuple[int, int, int]:
        known = {"the_time": before}
        events = self._execute(sql.PRUNE_LEDGER, known).rowcount
        self._execute(sql.PRUNE_ITEMS, known)
        holds = self._execute(sql.PRUNE_HOLDS, known).rowcount
        counters = self._execute(sql.PRUNE_COUNTERS, known).rowcount
        return events, holds, counters

    def _changed(self, statement: Any, row: dict[str, Any]) -> bool:
        return bool(self._execute(statement, row).rowcount > 0)


def _holds(rows: Iterable[Any]) -> list[Hold]:
    """Gather the rows of holds joined with their items."""
    holds: dict[str, Hold] = {}
    for *columns, limit_id, window_start in rows:
        hold = Hold(*columns)
        hold = holds.setdefault(hold.call_id, hold)
        if limit_id is not None:
            key = CounterKey(hold.tenant_id, limit_id, window_start)
            holds[hold.call_id] = hold._replace(items=(*hold.items, key))
    return list(holds.values())
