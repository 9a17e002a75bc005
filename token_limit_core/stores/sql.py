"""The SQL store: SQLite, PostgreSQL and MySQL through SQLAlchemy Core.

Nothing is opened before the first operation; the tables are made then. No SELECT FOR UPDATE anywhere: locks are
taken by conditional updates, the same on every engine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..errors import ConfigurationError, StoreError
from ..limits import CounterKey, Limit
from ..processes import after_fork
from . import statements as sql
from .base import Transaction
from .records import Entry, Hold, Spend
from .rows import batched, ledger_row, rollup_row, rollup_rows
from .sql_peers import SqlPeers
from .sql_reports import SqlReports
from .tables import metadata
from .transactional import TransactionalStore
from .urls import masked

SQLITE_WAIT_SECONDS = 30
CONNECT_SECONDS = 10

_CONFLICTS = {"40001", "40P01", "55P03", 1205, 1213}
"""PostgreSQL: serialisation, deadlock, lock not available. MySQL: lock wait timeout, deadlock."""

_SQLITE_CONFLICTS = {5, 6}
"""SQLITE_BUSY and SQLITE_LOCKED, without their extensions."""


class SqlStore(TransactionalStore):
    """Keep limits and ledger in an SQL database given by a SQLAlchemy URL."""

    _lock: threading.Lock
    _engine: Engine | None

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._shown = masked(url)
        if self._url.get_backend_name() == "sqlite":
            path = os.path.abspath(str(self._url.database))  # a later chdir must not change which file is meant
            self._url = self._url.set(database=path)
        self._inherited: list[Engine] = []
        self._reset()
        after_fork(self._reset_in_child)

    def __repr__(self) -> str:
        return f"SqlStore({self._shown!r})"

    def begin(self) -> AbstractContextManager[Transaction]:
        return self._transaction(read_only=False)

    def begin_reading(self) -> AbstractContextManager[Transaction]:
        return self._transaction(read_only=True)

    def is_conflict(self, error: Exception) -> bool:
        cause = error.__cause__
        if not isinstance(error, StoreError) or not isinstance(cause, DBAPIError):
            return False
        engine_says = cause.orig
        code = getattr(engine_says, "sqlite_errorcode", None)
        if code is not None:
            return code & 0xFF in _SQLITE_CONFLICTS
        code = getattr(engine_says, "sqlstate", None)
        if code is None and engine_says is not None and engine_says.args:
            code = engine_says.args[0]
        return cause.connection_invalidated or code in _CONFLICTS

    def check(self) -> None:
        try:
            self._run(lambda tx: None)
        except StoreError as error:
            if self._url.get_backend_name() != "sqlite":
                raise
            raise ConfigurationError(
                f"store: {self._shown!r} cannot be opened ({_reason(error.__cause__)}); "
                "give the path of a file in a directory this process may write to"
            ) from error

    def close(self) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _transaction(self, read_only: bool) -> Iterator[Transaction]:
        try:
            engine = self._engine
            if engine is None:
                engine = self._open()
            with _begin(engine, read_only) as connection:
                yield _SqlTransaction(connection)
        except (DBAPIError, PoolTimeout, OSError) as error:
            if isinstance(error, (IntegrityError, DataError)):
                raise  # the engine is well, the row is not: waiting for another time will not help
            raise StoreError(f"the store {self._shown} failed: {_reason(error)}") from error

    def _open(self) -> Engine:
        with self._lock:
            if self._engine is None:
                engine = _make_engine(self._url)
                try:
                    _make_tables(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._engine = None

    def _reset_in_child(self) -> None:
        """Leave the parent's connections alone; closing or collecting them here would end them for the parent."""
        if self._engine is not None:
            self._inherited.append(self._engine)
        self._reset()


def _make_engine(url: Any) -> Engine:
    if url.get_backend_name() == "sqlite":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        timeout = {} if "timeout" in url.query else {"timeout": SQLITE_WAIT_SECONDS}
        engine = create_engine(url, hide_parameters=True, connect_args=timeout)
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    patience = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    return create_engine(url, hide_parameters=True, isolation_level="READ COMMITTED", connect_args=patience)


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # no BEGIN of the driver's own: `_begin` says which
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def _begin(engine: Engine, read_only: bool = False) -> Iterator[Connection]:
    """Begin a transaction, on SQLite a writing one as a writer: an upgrade from reader fails at once under concurrency.

    Said here and not in a listener, as SQLAlchemy then has no events to look for at each statement.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
        yield connection


def _make_tables(engine: Engine) -> None:
    """Create what is missing, one process at a time (SQLite: the transaction is exclusive already)."""
    dialect = engine.dialect.name
    with _begin(engine) as connection:
        if dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7463905411202)"))
        elif dialect == "mysql":
            connection.execute(text("SELECT GET_LOCK('token_limit_schema', 60)"))
        try:
            metadata.create_all(connection)
        finally:
            if dialect == "mysql":
                connection.execute(text("DO RELEASE_LOCK('token_limit_schema')"))


def _reason(error: BaseException | None) -> str:
    """Name a failure in one line; the engine's first line has no parameters and no password."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


class _SqlTransaction(SqlReports, SqlPeers, Transaction):
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

    def prune(self, before: float, windows_before: float) -> tuple[int, int, int]:
        known = {"the_time": before}
        events = self._execute(sql.PRUNE_LEDGER, known).rowcount
        self._execute(sql.PRUNE_ITEMS, known)
        holds = self._execute(sql.PRUNE_HOLDS, known).rowcount
        counters = self._execute(sql.PRUNE_COUNTERS, {"the_time": windows_before}).rowcount
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
