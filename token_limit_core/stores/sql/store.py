"""The SQL store: SQLite, PostgreSQL and MySQL, on connections that SQLAlchemy makes.

Nothing is opened before the first operation, which also makes or upgrades the tables. Connections are in autocommit
mode; each transaction sends its own BEGIN and COMMIT, on PostgreSQL only where one round trip does not do.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Engine, NullPool, PoolProxiedConnection, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...runtime.faults import ConfigurationError, StoreBusy, StoreError
from ...runtime.forks import after_fork
from ..transaction import Transaction
from ..transactional import TransactionalStore
from ..urls import masked
from .deadlines import bound
from .dialects import is_conflict, texts
from .migrations import SchemaTooNew, latest, migrate
from .transaction import BEGIN, BEGIN_READING, SqlTransaction

LEAST_CONNECT_SECONDS = 2
"""libpq takes no shorter time to connect."""


class LostConnection(StoreError):
    """The connection is dead; another one may work."""


class _Link(NamedTuple):
    """A connection of the pool, and the cursor that runs our statements on it."""

    connection: PoolProxiedConnection
    cursor: Any


class SqlStore(TransactionalStore):
    """Keep limits and ledger in an SQL database given by a SQLAlchemy URL.

    `timeout` (seconds) is how long an operation waits for locks and connections before it raises `StoreBusy`.
    """

    _lock: threading.Lock
    _engine: Engine | None
    _idle: list[_Link]

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self._url = make_url(url)
        self._shown = masked(url)
        self._dialect = self._url.get_backend_name()
        self._texts = texts(self._dialect)
        self.timeout = timeout
        if self._dialect == "sqlite":
            path = os.path.abspath(str(self._url.database))  # a later chdir must not change which file is meant
            self._url = self._url.set(database=path)
        self.location: str = str(self._url.database) if self._dialect == "sqlite" else self._shown
        self._inherited: list[Any] = []
        self._reset()
        after_fork(self._reset_in_child)

    def __repr__(self) -> str:
        return f"SqlStore({self._shown!r})"

    def __str__(self) -> str:
        return f"SqlStore at {masked(self._url.render_as_string(hide_password=False))}"

    def begin(self) -> AbstractContextManager[Transaction]:
        return self._transaction(BEGIN[self._dialect])

    def begin_reading(self) -> AbstractContextManager[Transaction]:
        return self._transaction(BEGIN_READING.get(self._dialect))

    def is_conflict(self, error: Exception) -> bool:
        return isinstance(error, (StoreBusy, LostConnection))

    def exists(self) -> bool:
        return self._dialect != "sqlite" or os.path.exists(str(self._url.database))

    def schema(self) -> str | None:
        return f"schema version {latest()}"

    def check(self) -> None:
        try:
            self._read(lambda tx: tx.limits(""))
        except SchemaTooNew as error:
            raise ConfigurationError(f"store: {error}") from error
        except StoreError as error:
            if self._dialect != "sqlite":
                raise
            raise ConfigurationError(
                f"store: {self._shown!r} cannot be opened ({_reason(error.__cause__)}); "
                "give the path of a file in a directory this process may write to"
            ) from error

    def close(self) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
            idle, self._idle = self._idle, []
        for link in idle:
            link.connection.close()
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _transaction(self, begin: str | None) -> Iterator[Transaction]:
        engine, link = self._checkout()
        bound(link.connection.driver_connection)
        tx = self._start(link.cursor, begin)
        try:
            yield tx
            tx.commit()
        except BaseException as error:
            if not tx.roll_back():
                link.connection.invalidate()
            if isinstance(error, engine.dialect.loaded_dbapi.Error):
                raise self._named(error, engine, link) from error
            raise
        finally:
            self._give_back(engine, link)

    def _start(self, cursor: Any, begin: str | None) -> SqlTransaction:
        return SqlTransaction(cursor, self._texts, begin, single_message=self._dialect == "postgresql")

    def _checkout(self) -> tuple[Engine, _Link]:
        try:
            engine = self._engine or self._open()
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise self._failure(error) from error
        if self._idle:
            with suppress(IndexError):  # another thread was faster
                return engine, self._idle.pop()
        try:
            connection = engine.raw_connection()
            return engine, _Link(connection, _cursor_of(connection.driver_connection, self._dialect))
        except (engine.dialect.loaded_dbapi.Error, DBAPIError, PoolTimeout, OSError) as error:  # a bare connection's
            raise self._failure(error) from error

    def _give_back(self, engine: Engine, link: _Link) -> None:
        """Return a connection to the pool; keep one to a file at hand, as the pool costs as much as the statements."""
        if self._dialect == "sqlite" and link.connection.is_valid and self._engine is engine:
            self._idle.append(link)
        else:
            link.connection.close()

    def _named(self, error: Exception, engine: Engine, link: _Link) -> Exception:
        """Return the exception to raise for a driver's."""
        dialect, connection = engine.dialect, link.connection
        known = DBAPIError.instance(
            None, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
        )
        if isinstance(known, (IntegrityError, DataError)):
            return known  # the engine is well, the row is not: a retry would not help
        if dialect.is_disconnect(error, connection.driver_connection, link.cursor):  # type: ignore[arg-type]
            if connection.is_valid:
                connection.invalidate()
            engine.dispose()  # what else is in the pool has died as well, most likely
            return LostConnection(f"the store {self._shown} failed: {_reason(error)}")
        return self._failure(error)

    def _failure(self, error: Exception) -> StoreError:
        waited = isinstance(error, PoolTimeout) or is_conflict(getattr(error, "orig", error))
        return (StoreBusy if waited else StoreError)(f"the store {self._shown} failed: {_reason(error)}")

    def _open(self) -> Engine:
        with self._lock:
            if self._engine is None:
                engine = _make_engine(self._url, self.timeout)
                try:
                    migrate(engine, self._shown)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._engine = None
        self._idle = []

    def _reset_in_child(self) -> None:
        """Leave the parent's connections alone; closing or collecting them here would end them for the parent."""
        if self._engine is not None:
            self._inherited.append((self._engine, self._idle))
        self._reset()


def _make_engine(url: URL, timeout: float) -> Engine:
    """Make an engine whose connections commit each statement by themselves, and that are reset by nobody."""
    backend = url.get_backend_name()
    options: dict[str, Any] = {"hide_parameters": True, "pool_reset_on_return": None}
    if backend == "sqlite":
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        wait = {} if "timeout" in url.query else {"timeout": timeout}
        engine = create_engine(url, poolclass=NullPool, connect_args=wait, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    patience = max(LEAST_CONNECT_SECONDS, math.ceil(timeout))
    connect: dict[str, Any] = {} if "connect_timeout" in url.query else {"connect_timeout": patience}
    if backend == "postgresql":
        connect["prepare_threshold"] = None  # PgBouncer may run each statement on another server connection
    if backend == "mysql":
        connect["read_timeout"] = patience  # for the handshake; `bound` gives each transaction its own
    engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_timeout=timeout, connect_args=connect, **options)
    if backend == "mysql":
        event.listen(engine, "connect", _prepare_mysql)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # no BEGIN of the driver's own
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _prepare_mysql(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def _cursor_of(connection: Any, dialect: str) -> Any:
    if dialect == "postgresql":
        from psycopg import ClientCursor

        return ClientCursor(connection)  # sends several statements in one message, and prepares none
    return connection.cursor()


def _reason(error: BaseException | None) -> str:
    """Name a failure in one line; the engine's first line has no parameters and no password."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
