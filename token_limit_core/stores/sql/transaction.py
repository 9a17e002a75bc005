"""One transaction of an SQL store: the primitives of the ledger algorithm on a DB-API cursor in autocommit mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ClauseElement

from ...limits import CounterKey, Decision, Limit
from ..columns import batched, ledger_row, refusal_row, rollup_row, rollup_rows, user_rollup_rows
from ..entries import Entry, Spend
from ..records import Call, Counter, Refusal
from ..transaction import Retry
from . import at_once, settlement
from . import statements as sql
from .dialects import Convert, Sql, Texts
from .holds import SqlHolds
from .notices import SqlNotices
from .plans import SqlPlans
from .reports import SqlReports
from .services import SqlServices
from .upserts import upserts

NOTHING: dict[str, Any] = {}
HAS_RETURNING = sqlite3.sqlite_version_info >= (3, 35)

NO_JIT = "SET LOCAL jit = off; "
"""Before a statement of PostgreSQL's that is large, in one message with it.

From thousands of limits on the planner takes it for a dear one, and would compile it for seconds at each call.
"""

BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED", "mysql": "BEGIN"}
"""How a transaction that writes begins. SQLite: an upgrade from reader to writer fails at once under concurrency."""

BEGIN_READING = {"sqlite": "BEGIN"}
"""How a transaction that reads begins; on the others each statement sees what is committed, with or without one."""


class SqlTransaction(SqlPlans, SqlReports, SqlServices, SqlNotices, SqlHolds):
    """The primitives on one cursor.

    `begin` is the statement that starts the transaction; it is sent with the first primitive, so that what is done
    in one round trip needs none. Without it the cursor's connection is in a transaction of somebody else's.
    """

    def __init__(self, cursor: Any, texts: Texts, begin: str | None, single_message: bool = False) -> None:
        self._cursor = cursor
        self._texts = texts
        self._upserts = upserts(texts.name)
        self._begin = begin
        self._begun = False
        self._single_message = single_message

    def commit(self) -> None:
        """Commit what this transaction began."""
        if self._begun:
            self._cursor.execute("COMMIT")

    def roll_back(self) -> bool:
        """Roll back what this transaction began; return False when the connection cannot be used any more."""
        if self._begun:
            try:
                self._cursor.execute("ROLLBACK")
            except Exception:
                return False
        return True

    # -- limits and counters --------------------------------------------------------------------

    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        row = {"id": tenant_id, "name": "", "first_seen": now, "plan": None, "suspended_at": None, "markup": None}
        if self._texts.name == "sqlite":
            return self._changed(self._upserts.tenant, row)  # BEGIN IMMEDIATE keeps other writers out
        known = {"the_tenant": tenant_id}
        if self._changed(sql.LOCK_TENANT, known):
            return False
        if self._changed(self._upserts.tenant, row):
            return True
        self._run(sql.LOCK_TENANT, known)  # another transaction has inserted it
        return False

    def limits(self, tenant_id: str) -> list[Limit]:
        return [Limit(*row) for row in self._rows(sql.LIMITS, {"the_tenant": tenant_id})]

    def insert_limit(self, limit: Limit) -> Limit:
        row = sql.limit_row(limit)
        if self._texts.name == "postgresql":
            return replace(limit, id=self._rows(sql.INSERT_LIMIT_RETURNING, row)[0][0])
        return replace(limit, id=self._run(sql.INSERT_LIMIT, row).lastrowid)

    def update_limit(self, limit: Limit) -> None:
        self._run(sql.UPDATE_LIMIT, {**sql.limit_row(limit), "the_id": limit.id})

    def delete_limits(self, ids: Sequence[int]) -> None:
        for statement in sql.delete_limits(sql.size_for(ids)):
            self._run(statement, sql.listed("the_ids", ids))

    def counter(self, key: CounterKey) -> Counter | None:
        rows = self._rows(sql.COUNTER, sql.key_row(key))
        return Counter(*rows[0]) if rows else None

    def open_counter(self, key: CounterKey, window_end: int, counter: Counter) -> None:
        self._run(self._upserts.counter, {**key._asdict(), "window_end": window_end, **counter._asdict()})

    def drop_earlier(self, key: CounterKey, before: int) -> None:
        self._run(sql.DROP_EARLIER, {**sql.key_row(key), "the_time": before})

    def take(self, key: CounterKey, amount: int, needed: int | None, now: float) -> bool:
        row = {**sql.key_row(key), "more_held": amount, "the_time": now}
        if needed is None:
            return self._changed(sql.TAKE, row)
        return self._changed(sql.TAKE_BOUNDED, {**row, "more_needed": needed})

    def charge_below(self, key: CounterKey, settled: int, held: int) -> bool:
        return self._changed(sql.CHARGE_BELOW, {**sql.key_row(key), "more_settled": settled, "more_held": held})

    def charge(self, key: CounterKey, settled: int, held: int) -> bool:
        return self._changed(sql.CHARGE, {**sql.key_row(key), "more_settled": settled, "more_held": held})

    def counter_keys(self, now: float, tenant_id: str | None = None) -> list[CounterKey]:
        statement = sql.counter_keys(tenant_id is not None)
        return [CounterKey(*row) for row in self._rows(statement, {"the_time": now, "the_tenant": tenant_id})]

    def lock_counters(self, keys: Sequence[CounterKey]) -> None:
        for key in keys:
            self.charge(key, 0, 0)

    def reset_counter(self, key: CounterKey, settled: int, held: int) -> None:
        self._run(sql.RESET, {**sql.key_row(key), "the_settled": settled, "the_held": held})

    # -- ledger ---------------------------------------------------------------------------------

    def insert_entry(self, entry: Entry) -> bool:
        return self._changed(self._upserts.entry, ledger_row(entry))

    def known_events(self, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
        known: set[str] = set()
        for some in batched(event_ids):
            row = {"the_tenant": tenant_id, **sql.listed("the_ids", some)}
            known.update(event_id for (event_id,) in self._rows(sql.known_events(sql.size_for(some)), row))
        return known

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        self._run_many(sql.INSERT_ENTRY, map(ledger_row, entries))

    def roll_up(self, entry: Entry) -> None:
        self._run(self._upserts.rollup, rollup_row(entry))
        for row in user_rollup_rows((entry,)):
            self._run(self._upserts.user_rollup, row)

    def roll_up_all(self, entries: Sequence[Entry]) -> None:
        self._run_many(self._upserts.rollup, rollup_rows(entries))
        rows = user_rollup_rows(entries)
        if rows:
            self._run_many(self._upserts.user_rollup, rows)

    def add_refusals(self, refusals: Sequence[Refusal]) -> None:
        self._run_many(self._upserts.refusal, map(refusal_row, refusals))

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        [row] = self._rows(sql.SPEND, {"the_tenant": tenant_id, "the_start": start, "the_end": end})
        return Spend(*map(int, row))  # PostgreSQL and MySQL sum to Decimal

    def prune(self, before: float) -> tuple[int, int, int]:
        known = {"the_time": before}
        events = self._run(sql.PRUNE_LEDGER, known).rowcount
        self._run(sql.PRUNE_ITEMS, known)
        holds = self._run(sql.PRUNE_HOLDS, known).rowcount
        counters = self._run(sql.PRUNE_COUNTERS, known).rowcount
        self._run(sql.PRUNE_REFUSALS, known)
        self._run(sql.PRUNE_NOTICES, known)
        return events, holds, counters

    # -- plain cases ----------------------------------------------------------------------------

    def admit_at_once(self, call: Call, now: float, assigns_plans: bool) -> Decision | Retry | None:
        if not self._single_message:
            return None
        rows = self._message((at_once.ADMIT,), at_once.admission_row(call, now, assigns_plans))
        return at_once.decide(rows, call, now, assigns_plans)

    def settle_at_once(self, call_id: str, entry: Entry, destinations: Sequence[str]) -> bool | None:
        if self._single_message:
            rows = self._message(settlement.SETTLE, settlement.message_row(call_id, entry, destinations))
            return any(crosses for _, crosses in rows) if rows else None
        if self._texts.name != "sqlite" or not HAS_RETURNING:
            return None
        row = settlement.settlement_row(call_id, entry)
        if not self._changed(settlement.SETTLE_ENTRY, row):
            return None
        self.roll_up(entry)
        for destination in destinations:
            self.insert_deliveries(destination, (entry,))
        crosses = any(crosses for (crosses,) in self._rows(settlement.SETTLE_COUNTERS, row))
        self.close_hold(call_id, "settled")
        return crosses

    # -- running statements ---------------------------------------------------------------------

    def _run(self, statement: ClauseElement, row: Mapping[str, Any] = NOTHING) -> Any:
        """Run a statement that is used again and again; return the cursor."""
        if self._begin is not None:
            self._start()
        sql_text = self._texts.of(statement)
        self._cursor.execute(sql_text.text, sql_text.bind(row))
        return self._cursor

    def _run_many(self, statement: ClauseElement, rows: Iterable[Mapping[str, Any]]) -> None:
        if self._begin is not None:
            self._start()
        text, bind, _, _ = self._texts.of(statement)
        self._cursor.executemany(text, [bind(row) for row in rows])

    def _changed(self, statement: ClauseElement, row: Mapping[str, Any]) -> bool:
        return bool(self._run(statement, row).rowcount > 0)

    def _rows(self, statement: ClauseElement, row: Mapping[str, Any] = NOTHING) -> list[Any]:
        """Run a SELECT that is used again and again; return its rows as tuples."""
        return read(self._run(statement, row), self._texts.of(statement))

    def _ask(self, statement: ClauseElement) -> list[Any]:
        """Run a SELECT that is built for one question; return its rows as tuples."""
        if self._begin is not None:
            self._start()
        sql_text = self._texts.once(statement)
        self._cursor.execute(f"{NO_JIT * self._single_message}{sql_text.text}", sql_text.bind(NOTHING))
        while self._single_message and self._cursor.nextset():
            pass
        return read(self._cursor, sql_text)

    def _message(self, statements: Sequence[ClauseElement], row: Mapping[str, Any]) -> list[Any]:
        """Send statements in one message, which is a transaction of its own; return the rows of the last."""
        message = self._texts.message(statements)
        self._cursor.execute(f"{NO_JIT}{message.text}", message.bind(row))
        while self._cursor.nextset():
            pass
        return read(self._cursor, message)

    def _start(self) -> None:
        begin, self._begin = self._begin, None
        self._cursor.execute(begin)
        self._begun = True


def read(cursor: Any, sql_text: Sql) -> list[Any]:
    """Fetch all rows as tuples, and convert what the driver leaves in the engine's form."""
    rows = cursor.fetchall()
    if not sql_text.readers:
        return list(rows)
    return [_converted(row, sql_text.readers) for row in rows]


def _converted(row: Sequence[Any], readers: Sequence[tuple[int, Convert]]) -> tuple[Any, ...]:
    values = list(row)
    for place, convert in readers:
        if values[place] is not None:
            values[place] = convert(values[place])
    return tuple(values)
