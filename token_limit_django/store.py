"""The Django store: limits and ledger in the project's own database.

It runs the SQL of `token_limit_core.stores.sql` on Django's connection. Every operation is one short transaction on our
own alias (`databases.py` says why). Called on a thread that runs an event loop it works in a thread of the store's,
since Django refuses database work there.

CONN_MAX_AGE holds: it is checked at the end of a request where there is one, after each operation in other threads,
as Django sends no signal there. A connection to an SQLite file stays open in the main thread and in the store's own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor as Pool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.core.signals import request_finished, request_started
from django.db import (
    DEFAULT_DB_ALIAS,
    DataError,
    Error,
    IntegrityError,
    ProgrammingError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from token_limit_core.limits import CounterKey
from token_limit_core.limits.notices import Notice
from token_limit_core.runtime.executor import Executor
from token_limit_core.runtime.faults import ConfigurationError, StoreBusy, StoreError
from token_limit_core.runtime.forks import after_fork
from token_limit_core.stores.leases import Lease
from token_limit_core.stores.records import Call
from token_limit_core.stores.sql.deadlines import bound
from token_limit_core.stores.sql.dialects import is_conflict, texts
from token_limit_core.stores.sql.transaction import BEGIN, SqlTransaction
from token_limit_core.stores.transaction import Transaction
from token_limit_core.stores.transactional import TransactionalStore

from .blocked import is_blocked, noticed
from .conf import settings
from .databases import location_of, store_alias, unsupported

T = TypeVar("T")


class DjangoStore(TransactionalStore):
    """Keep limits and ledger in tables of the project's.

    Uses the alias of the settings, or the one given; `threads` of its own keep it off event loops. A transaction that
    meets locks is retried for `timeout` seconds (default: the setting STORE_TIMEOUT); how long SQLite itself waits is
    an option of the alias.
    """

    def __init__(self, alias: str | None = None, *, threads: int | None = None, timeout: float | None = None) -> None:
        self._alias = alias
        self.timeout: float = settings.STORE_TIMEOUT if timeout is None else timeout
        self._executor = Executor(settings.STORE_THREADS if threads is None else threads)
        self._kept: set[BaseDatabaseWrapper] = set()
        self._inherited: list[BaseDatabaseWrapper] = []
        after_fork(self._leave_inherited)

    def __repr__(self) -> str:
        return f"DjangoStore({self.alias!r})"

    @property
    def alias(self) -> str:
        """The database alias the store works through."""
        return store_alias() if self._alias is None else self._alias

    @property
    def location(self) -> str | None:  # type: ignore[override]
        """What other processes call the database, without its password; None for one in memory and in tests."""
        return None if self.eager else location_of(self.alias)

    @property
    def eager(self) -> bool:
        """Whether operations join what is open on the default connection."""
        return self.alias == DEFAULT_DB_ALIAS

    def begin(self) -> AbstractContextManager[Transaction]:
        return self._transaction(BEGIN)

    def begin_reading(self) -> AbstractContextManager[Transaction]:
        return self._transaction({})

    def is_conflict(self, error: Exception) -> bool:
        return isinstance(error, (StoreBusy, _StaleConnection))

    def lease(self, call: Call, now: float, seconds: float, kept: Collection[CounterKey] = ()) -> Lease | None:
        """Lease nothing in a test's transaction, which is rolled back."""
        return None if self.eager else super().lease(call, now, seconds, kept)

    def schema(self) -> str | None:
        applied = MigrationRecorder(connections[self.alias]).applied_migrations()
        return max((f"migration {name}" for app, name in applied if app == "token_limit"), default="no migration")

    def check(self) -> None:
        self._read(lambda tx: tx.limits(""))

    async def run_async(self, work: Callable[[], T]) -> T:
        if is_blocked(self.alias):  # in this thread only: another one would reach the database
            return work()
        if self.eager:
            return await sync_to_async(work, thread_sensitive=True)()
        return await self._executor.run(partial(self._in_own_thread, work))

    def close(self) -> None:
        self._executor.close()
        self._off_loop(self._close_connections)
        self._executor.close()

    def _retry(self, begin: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        with noticed(self.alias):
            return self._off_loop(partial(super()._retry, begin, work))

    def _publish(self, notices: list[Notice]) -> None:
        if notices and connections[self.alias].in_atomic_block and not self.eager:
            transaction.on_commit(partial(super()._publish, notices), using=self.alias)
        else:
            super()._publish(notices)

    @contextmanager
    def _transaction(self, begin: dict[str, str]) -> Iterator[Transaction]:
        connection = connections[self.alias]
        kept = connection.connection
        try:
            with self._savepoint(connection, begin), connection.wrap_database_errors:
                tx = _start(connection, begin)
                try:
                    yield tx
                    tx.commit()
                except BaseException:
                    connection.errors_occurred |= not tx.roll_back()
                    raise
        except (DataError, IntegrityError):
            raise  # the engine is well, the row is not: a retry would not help
        except Error as error:
            lost = kept is not None and not connection.in_atomic_block and not _still_works(kept, connection)
            kind = _StaleConnection if lost else StoreBusy if is_conflict(error.__cause__) else StoreError
            raise kind(_describe(self.alias, error)) from error
        finally:
            self._tidy_up(connection)

    def _savepoint(self, connection: BaseDatabaseWrapper, begin: dict[str, str]) -> AbstractContextManager[Any]:
        """Join a transaction that is open on our alias, as in EAGER mode and in the admin."""
        return transaction.atomic(using=self.alias) if begin is BEGIN and _joined(connection) else nullcontext()

    def _tidy_up(self, connection: BaseDatabaseWrapper) -> None:
        if self.eager or connection.in_atomic_block:
            return  # Django would close it under an open block
        kept = getattr(_thread, "serves_request", False) or (connection.vendor == "sqlite" and _is_closed_later())
        if connection.errors_occurred or not kept:
            connection.close_if_unusable_or_obsolete()

    def _off_loop(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread where Django allows the ORM, and wait."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return work()
        if self.eager:  # the thread that has the test's transaction, found as `sync_to_async` finds it
            pool: Pool = getattr(AsyncToSync.executors, "current", None) or SyncToAsync.single_thread_executor
            return pool.submit(work).result()
        return self._executor.pool().submit(self._in_own_thread, work).result()

    def _in_own_thread(self, work: Callable[[], T]) -> T:
        _thread.is_ours = True
        try:
            return work()
        finally:
            connection = connections[self.alias]
            if connection.connection is not None:
                self._kept.add(connection)

    def _close_connections(self) -> None:
        while self._kept:
            connection = self._kept.pop()
            connection.inc_thread_sharing()  # its thread has ended
            connection.close()
        for connection in self._own():
            if not connection.in_atomic_block:  # a test's, which it rolls back
                connection.close()

    def _leave_inherited(self) -> None:
        """Leave the parent's connections alone; closing or collecting them here would end them for the parent."""
        self._inherited += self._kept
        self._kept = set()
        for connection in self._own():
            self._inherited.append(connection)
            del connections[connection.alias]

    def _own(self) -> list[BaseDatabaseWrapper]:
        """Return this thread's connection on our alias if it has one; the default one is the project's."""
        opened = connections.all(initialized_only=True)
        return [connection for connection in opened if connection.alias == self.alias != DEFAULT_DB_ALIAS]


_thread = threading.local()


def _request_started(**kwargs: Any) -> None:
    _thread.serves_request = True


def _request_finished(**kwargs: Any) -> None:
    _thread.serves_request = False


request_started.connect(_request_started, dispatch_uid="token_limit_django.store")
request_finished.connect(_request_finished, dispatch_uid="token_limit_django.store")


class _StaleConnection(StoreError):
    """A connection kept from an earlier operation has died since; another one may well work."""


def _start(connection: BaseDatabaseWrapper, begin: dict[str, str]) -> SqlTransaction:
    """Make the transaction on the driver's cursor, or on Django's where the project logs or wraps its queries.

    Django's cursor checks and translates each statement, which costs more than most of ours do on SQLite.
    """
    vendor = connection.vendor
    wrong = unsupported(connection.alias)
    if wrong is not None:
        raise ConfigurationError(wrong)
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    if connection.connection is not None and not connection.in_atomic_block:
        bound(connection.connection)
    wrapped = connection.queries_logged or bool(connection.execute_wrappers)
    cursor: Any
    single_message = vendor == "postgresql" and _is_psycopg3()
    paramstyle = None
    if wrapped:
        cursor = connection.cursor()
        paramstyle = "format" if vendor == "sqlite" else None
        single_message = single_message and not connection.settings_dict["OPTIONS"].get("server_side_binding")
    elif single_message:
        from psycopg import ClientCursor

        cursor = ClientCursor(connection.connection)
    else:
        cursor = connection.connection.cursor()
    statement = None if _joined(connection) else begin.get(vendor)
    return SqlTransaction(cursor, texts(vendor, paramstyle), statement, single_message)


def _joined(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or not connection.get_autocommit()


def _is_psycopg3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)


def _is_closed_later() -> bool:
    """Return whether this thread ends with the process, or with the store, which closes its connections."""
    return getattr(_thread, "is_ours", False) or threading.current_thread() is threading.main_thread()


def _still_works(kept: Any, connection: BaseDatabaseWrapper) -> bool:
    return connection.connection is kept and connection.is_usable()  # Django may have replaced it on the way out


def _describe(alias: str, error: Error) -> str:
    reason = str(error).strip().partition("\n")[0]
    missing = isinstance(error, ProgrammingError) or "no such table" in reason
    cure = "; run `manage.py migrate`" if missing else ""
    return f"the database {alias!r} failed: {type(error).__name__}: {reason}{cure}"
