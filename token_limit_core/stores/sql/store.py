"""The SQL store: SQLite, PostgreSQL and MySQL through SQLAlchemy Core.

Nothing is opened before the first operation; the tables are made then. No SELECT FOR UPDATE anywhere: locks are
taken by conditional updates, the same on every engine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...runtime.faults import ConfigurationError, StoreError
from ...runtime.forks import after_fork
from ..contract import Transaction
from ..transactional import CONFLICTS, SQLITE_CONFLICTS, TransactionalStore
from ..urls import masked
from .tables import metadata
from .transaction import SqlTransaction

SQLITE_WAIT_SECONDS = 30
CONNECT_SECONDS = 10


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

    def __str__(self) -> str:
        return f"SqlStore at {masked(self._url.render_as_string(hide_password=False))}"

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
            return code & 0xFF in SQLITE_CONFLICTS
        code = getattr(engine_says, "sqlstate", None)
        if code is None and engine_says is not None and engine_says.args:
            code = engine_says.args[0]
        return cause.connection_invalidated or code in CONFLICTS

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
                yield SqlTransaction(connection)
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
