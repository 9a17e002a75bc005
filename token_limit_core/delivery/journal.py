"""Journal: settled calls on disk until the store takes them, so that neither an outage nor a crash loses one.

One SQLite file beside the store, for all processes that use the store. It is made by the first settle that the store
does not take. Whichever process finds the store well again writes the rows; a row that two of them write counts once,
since a settle is idempotent.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..events import LLMEvent, event_of
from ..runtime.faults import StoreError, logger
from ..runtime.forks import after_fork
from .sqlite_file import SqliteFile
from .transport import wire_json

if TYPE_CHECKING:
    import sqlite3

MOST_ROWS = 100_000
"""The most rows of a journal, about 100 MB. While it is full, no call is admitted unverified."""

BUSY_SECONDS = 5.0
WAL_PAGES = 16_384
"""64 MB: the most that the write-ahead log grows to where no `checkpoint` comes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    call_id TEXT NOT NULL,
    event TEXT,
    cost_nano INTEGER,
    released TEXT,
    parked INTEGER NOT NULL DEFAULT 0
)
"""


class Kept(NamedTuple):
    """A settled call that waits for the store: a `Settlement`. Without an event only its hold is released."""

    call_id: str
    event: LLMEvent | None
    cost_nano: int | None
    released: str | None


class Journal:
    """Settled calls in one file. Every method raises `StoreError` when the file cannot be read or written."""

    def __init__(self, path: Path, *, private: bool = False) -> None:
        """Set the path. A `private` file lies in a directory of its own, which no other user may own."""
        self._file = SqliteFile(
            path, "journal", _TABLE, busy_seconds=BUSY_SECONDS, synchronous="NORMAL", wal_pages=WAL_PAGES
        )
        self.path: Path = self._file.path
        self._private = private
        self.rows: int = 0
        """The number of rows that wait: those of this process, and those of others at the last count."""

        after_fork(self._file.reset)

    @property
    def exists(self) -> bool:
        """Whether any process has written to the journal."""
        return self.path.exists() and (not self._private or _is_ours(self.path.parent))

    @property
    def full(self) -> bool:
        """Whether the journal is full."""
        return self.rows >= MOST_ROWS

    def add(self, kept: Kept) -> None:
        """Insert a settled call."""
        event = None if kept.event is None else wire_json(kept.event)
        row = (time.time(), kept.call_id, event, kept.cost_nano, kept.released)
        if self._private:
            _make_private(self.path.parent)
        with self._file.transaction() as db:
            db.execute("INSERT INTO journal (at, call_id, event, cost_nano, released) VALUES (?, ?, ?, ?, ?)", row)
        self.rows += 1

    def checkpoint(self) -> None:
        """Wait for the disk, so that no settle has to."""
        self._file.checkpoint()

    def oldest(self, limit: int) -> list[tuple[int, Kept]]:
        """Read the oldest rows with their ids. A row that cannot be read is parked."""
        with self._file.transaction() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM journal WHERE parked = 0 ORDER BY id LIMIT ?", (limit,))
            found = [(row[0], _read(row)) for row in rows.fetchall()]
            bad = [key for key, kept in found if kept is None]
            _park(db, bad)
            self.rows = _count(db)
        if bad:
            logger.error("%d settled calls in the journal %s cannot be read; they are parked", len(bad), self.path.name)
        return [(key, kept) for key, kept in found if kept is not None]

    def remove(self, keys: Sequence[int], *, park: Sequence[int] = ()) -> None:
        """Delete rows that the store has taken. Rows to `park` are kept without a retry."""
        with self._file.transaction() as db:
            db.executemany("DELETE FROM journal WHERE id = ?", [(key,) for key in keys])
            _park(db, park)
            self.rows = _count(db)

    def count(self) -> None:
        """Count the rows again."""
        if self.exists:
            with self._file.transaction() as db:
                self.rows = _count(db)

    def oldest_at(self) -> float | None:
        """Return when the oldest row was written (unix seconds); None when nothing waits."""
        if not self.exists:
            return None
        with self._file.transaction() as db:
            at: float | None = db.execute("SELECT min(at) FROM journal WHERE parked = 0").fetchone()[0]
        return at


_COLUMNS = "id, call_id, event, cost_nano, released"


def _read(row: tuple[Any, ...]) -> Kept | None:
    _, call_id, event, cost_nano, released = row
    try:
        return Kept(call_id, None if event is None else event_of(json.loads(event)), cost_nano, released)
    except (AttributeError, TypeError, ValueError, ArithmeticError):
        return None


def _park(db: sqlite3.Connection, keys: Sequence[int]) -> None:
    db.executemany("UPDATE journal SET parked = 1 WHERE id = ?", [(key,) for key in keys])


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM journal WHERE parked = 0").fetchone()[0])


@cache
def journal_at(path: str) -> Journal:
    """Return a journal in a file that the application names."""
    return Journal(Path(path))


@cache
def journal_beside(location: str) -> Journal:
    """Return the default journal of a store: beside its file, else in the user's own temporary directory.

    `location` is what all processes call the store: the absolute path of its file, or its URL without a password.
    """
    if os.path.isabs(location):
        return Journal(Path(f"{location}.unsettled"))
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    name = f"{hashlib.sha256(location.encode()).hexdigest()[:16]}.unsettled"
    return Journal(Path(tempfile.gettempdir(), f"token-limit-{user}", name), private=True)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the directory of the journal cannot be made: {error}") from error
    if not _is_ours(folder):
        raise StoreError(f"the directory {str(folder)!r} belongs to another user; set `journal` to the path of a file")


def _is_ours(folder: Path) -> bool:
    """Return whether only this user can write to a directory: rows of a journal are billed, so none may be forged."""
    if not hasattr(os, "getuid"):  # on Windows each user has a temporary directory
        return True
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
