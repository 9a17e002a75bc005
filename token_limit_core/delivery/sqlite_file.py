"""A SQLite file that several processes and threads write to: the spool and the journal."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..runtime.faults import ConfigurationError, StoreError


class SqliteFile:
    """One table in a file of its own. `name` is what messages call the file, also the setting that names its path.

    Opened by the first transaction, and closed when nothing refers to it any more. The threads share one connection in
    turn, since SQLite lets only one of them write. `reset()` must run in a forked child. What is committed survives the
    end of a process; with `synchronous` "FULL" also a power cut, at the price of a disk flush. A transaction that finds
    `wal_pages` pages in the write-ahead log copies them into the file, and waits for the disk.
    """

    def __init__(
        self, path: str | Path, name: str, table: str, *, busy_seconds: float, synchronous: str, wal_pages: int = 1000
    ) -> None:
        self.path: Path = Path(path).resolve()
        self._name, self._table = name, table
        self._busy_seconds, self._synchronous, self._wal_pages = busy_seconds, synchronous, wal_pages
        self._inherited: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closing: weakref.finalize[..., SqliteFile] | None = None
        self._db: sqlite3.Connection | None = None

    def reset(self) -> None:
        """Forget the parent's connection. SQLite forbids to close it in a forked child."""
        self._lock = threading.Lock()
        if self._db is not None and self._closing is not None:
            self._closing.detach()
            self._inherited.append(self._db)
        self._db = self._closing = None

    def check(self) -> None:
        """Open the file, for checks at start-up. Raises `ConfigurationError` when it cannot be opened."""
        try:
            with self.transaction():
                pass
        except StoreError as error:
            raise ConfigurationError(
                f"{self._name}: {str(self.path)!r} cannot be opened ({error.__cause__}); expected the path of a file "
                f"in a directory that this process may write to, for example '/var/lib/app/token_limit_{self._name}.db'"
            ) from error

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the file while transactions go on, so that none has to. Raises `StoreError`."""
        try:
            with closing(sqlite3.connect(self.path, timeout=self._busy_seconds)) as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block in a write transaction: commit at its end, roll back on an exception. Raises `StoreError`."""
        with self._lock:
            try:
                db = self._connection()
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the {self._name} {self.path.name} failed: {error}")

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            wait = self._busy_seconds
            db = sqlite3.connect(self.path, timeout=wait, isolation_level=None, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute(f"PRAGMA synchronous={self._synchronous}")
                db.execute(f"PRAGMA wal_autocheckpoint={self._wal_pages}")
                db.execute(self._table)
            except BaseException:
                db.close()
                raise
            self._closing = weakref.finalize(self, db.close)
            self._closing.atexit = False  # a daemon thread may be writing then
            self._db = db
        return self._db
