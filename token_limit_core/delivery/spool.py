"""Spool: events on disk until a remote backend has them, so that neither a crash nor a long outage loses one.

One SQLite file for any number of processes. A sender claims rows before it delivers them; a claim whose process died
runs out, and another process delivers the rows. What the backend refused for good stays, parked, to be looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence

from ..events import LLMEvent, event_of
from ..runtime.faults import logger
from ..stores.columns import batched
from .buffers import CLAIM_SECONDS, MOST_COUNTED, SharedBuffer
from .sqlite_file import SqliteFile
from .transport import wire_json

BUSY_SECONDS = 30

_TABLE = """
CREATE TABLE IF NOT EXISTS spool (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    claimed_by TEXT,
    claimed_until REAL NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0
)
"""
_WAITING = "parked = 0 AND claimed_until <= ?"


class Spool(SharedBuffer):
    """A buffer on disk. Raises `StoreError` when the file cannot be written."""

    def __init__(self, path: str) -> None:
        self._file = SqliteFile(path, "spool", _TABLE, busy_seconds=BUSY_SECONDS, synchronous="FULL")
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._file.reset()

    def check(self) -> None:
        """Open the file, for checks at start-up. Raises `ConfigurationError` when it cannot be opened."""
        self._file.check()

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        """Insert an event, once. Nothing is dropped on disk."""
        with self._file.transaction() as db:
            row = (event.event_id, wire_json(event))
            self._count += db.execute("INSERT OR IGNORE INTO spool (event_id, body) VALUES (?, ?)", row).rowcount
        return ()

    def take(self, limit: int) -> list[LLMEvent]:
        """Claim the oldest rows that no process has claimed."""
        now = time.time()
        with self._file.transaction() as db:
            rows = db.execute(
                f"SELECT id, body FROM spool WHERE {_WAITING} ORDER BY id LIMIT ?", (now, limit)
            ).fetchall()
            db.executemany(
                "UPDATE spool SET claimed_by = ?, claimed_until = ? WHERE id = ?",
                [(self._me, now + CLAIM_SECONDS, key) for key, _ in rows],
            )
        self._took(len(rows), limit)
        return [event for key, body in rows if (event := self._read(key, body)) is not None]

    def _read(self, key: int, body: str) -> LLMEvent | None:
        """Read a row. A row that cannot be read is parked, so that it does not block the others."""
        try:
            return event_of(json.loads(body))
        except (AttributeError, TypeError, ValueError, ArithmeticError):
            logger.exception("an event in the spool cannot be read; it is parked")
        with self._file.transaction() as db:
            db.execute("UPDATE spool SET parked = 1 WHERE id = ?", (key,))
        return None

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Delete the rows of delivered events. Parked rows stay."""
        with self._file.transaction() as db:
            db.executemany("DELETE FROM spool WHERE event_id = ? AND parked = 0", [(e.event_id,) for e in batch])

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Park rows that the backend refused for good: keep them without a retry."""
        with self._file.transaction() as db:
            db.executemany("UPDATE spool SET parked = 1 WHERE event_id = ?", [(event.event_id,) for event in batch])

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        """Release the claims of rows."""
        with self._file.transaction() as db:
            db.executemany("UPDATE spool SET claimed_until = 0 WHERE event_id = ?", [(e.event_id,) for e in batch])
        self._count += len(batch)
        return ()

    def unpark(self) -> int:
        """Unpark rows, for example after a wrong key was corrected; return how many."""
        with self._file.transaction() as db:
            freed = db.execute("UPDATE spool SET parked = 0, claimed_until = 0 WHERE parked = 1").rowcount
        self._count += freed
        return freed

    def gone(self, event_ids: Collection[str]) -> set[str]:
        """Return the ids that have no row any more: another process may have delivered them."""
        waiting: set[str] = set()
        with self._file.transaction() as db:
            for ids in batched(list(event_ids)):
                marks = ", ".join("?" * len(ids))
                found = db.execute(f"SELECT event_id FROM spool WHERE parked = 0 AND event_id IN ({marks})", ids)
                waiting.update(row[0] for row in found)
        return set(event_ids) - waiting

    @property
    def parked(self) -> int:
        """The number of rows that the backend refused for good."""
        with self._file.transaction() as db:
            return int(db.execute("SELECT count(*) FROM spool WHERE parked = 1").fetchone()[0])

    def _count_waiting(self) -> int:
        waiting = f"SELECT count(*) FROM (SELECT 1 FROM spool WHERE {_WAITING} LIMIT {MOST_COUNTED})"
        with self._file.transaction() as db:
            return int(db.execute(waiting, (time.time(),)).fetchone()[0])
