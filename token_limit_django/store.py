"""The ORM store: limits and ledger in the project's own database, whatever engine that is.

Every operation is one short transaction on our own alias (`databases.py` says why). Called on a thread that runs an
event loop it works in a thread of the store's, since Django refuses the ORM there. CONN_MAX_AGE holds: counted by
request where there is one, by operation in all other threads, which no signal of Django's ever cleans up after.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
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
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from token_limit_core.errors import StoreError
from token_limit_core.runtime.executor import Executor
from token_limit_core.runtime.forks import after_fork
from token_limit_core.stores.contract import Transaction
from token_limit_core.stores.transactional import CONFLICTS, SQLITE_CONFLICTS, TransactionalStore

from .conf import settings
from .databases import store_alias
from .transactions import OrmTransaction

T = TypeVar("T")


class DjangoStore(TransactionalStore):
    """Keep limits and ledger in tables of the project's.

    Uses the alias of the settings, or the one given; `threads` of its own keep it off event loops.
    """

    def __init__(self, alias: str | None = None, *, threads: int | None = None) -> None:
        self._alias = alias
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
    def eager(self) -> bool:
        """Whether operations join what is open on the default connection."""
        return self.alias == DEFAULT_DB_ALIAS

    def begin(self) -> AbstractContextManager[Transaction]:
        return self._transaction(transaction.atomic(using=self.alias))

    def begin_reading(self) -> AbstractContextManager[Transaction]:
        return self._transaction(nullcontext())

    def is_conflict(self, error: Exception) -> bool:
        cause = error.__cause__
        if isinstance(error, _StaleConnection) or not isinstance(cause, OperationalError):
            return isinstance(error, _StaleConnection)
        code = getattr(cause.__cause__, "sqlite_errorcode", None)
        if code is not None:
            return code & 0xFF in SQLITE_CONFLICTS
        code = getattr(cause.__cause__, "sqlstate", None)
        return (code or next(iter(cause.args), None)) in CONFLICTS

    def check(self) -> None:
        self._read(lambda tx: tx.limits(""))

    async def run_async(self, work: Callable[[], T]) -> T:
        if self.eager:
            return await sync_to_async(work, thread_sensitive=True)()
        return await self._executor.run(partial(self._in_own_thread, work))

    def close(self) -> None:
        self._executor.close()
        self._off_loop(self._close_connections)
        self._executor.close()

    def _retry(self, begin: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        return self._off_loop(partial(super()._retry, begin, work))

    @contextmanager
    def _transaction(self, atomic: AbstractContextManager[Any]) -> Iterator[Transaction]:
        connection = connections[self.alias]
        kept = connection.connection
        try:
            with atomic:
                yield OrmTransaction(self.alias)
        except (DataError, IntegrityError):
            raise  # the engine is well, the row is not
        except Error as error:
            lost = kept is not None and not connection.in_atomic_block and not _still_works(kept, connection)
            raise (_StaleConnection if lost else StoreError)(_describe(self.alias, error)) from error
        finally:
            # Django would close it under an open block; in a thread that serves a request it does this at the end
            due = connection.errors_occurred or not getattr(_thread, "serves_request", False)
            if due and not (self.eager or connection.in_atomic_block):
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


def _still_works(kept: Any, connection: BaseDatabaseWrapper) -> bool:
    return connection.connection is kept and connection.is_usable()  # Django may have replaced it on the way out


def _describe(alias: str, error: Error) -> str:
    reason = str(error).strip().partition("\n")[0]
    missing = isinstance(error, ProgrammingError) or "no such table" in reason
    cure = "; run `manage.py migrate`" if missing else ""
    return f"the database {alias!r} failed: {type(error).__name__}: {reason}{cure}"
