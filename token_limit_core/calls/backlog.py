"""Backlog: settled calls that the store did not take, in order, until it takes them.

They are kept in the journal on disk. Where the store has none, or the journal cannot be written (a full disk), they are
kept in memory, where the end of the process loses them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ..delivery.journal import Journal, Kept
from ..runtime.faults import StoreError, log_fault, logger
from ..runtime.forks import after_fork
from ..runtime.log_throttle import LogThrottle
from .request import Settlement

MOST_IN_MEMORY = 10_000
"""Settled calls kept in memory, about 2 KB each. While it is full no further call is admitted unverified."""

AT_ONCE = 100
RETRY_SECONDS = 1.0
"""Seconds between two attempts at a store, or a journal, that fails."""

Release = tuple[str, None, None, str]
"""A settlement without an event: only a hold is to be released."""

Write = Callable[[Kept], object]
"""Gives a settled call to the store; raises `StoreError` when the store does not take it."""


class Backlog:
    """What waits for the store. Nothing is dropped: while the backlog is `full`, admission refuses.

    `lost` counts what the store can never take, such as a row that its engine rejects.
    """

    def __init__(self, find_journal: Callable[[], Journal | None]) -> None:
        self._find_journal = find_journal
        self.lost: int = 0
        self._looked = False
        self._journal_errors = LogThrottle()
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's calls in a forked child: the parent settles them."""
        self.in_memory: deque[Kept] = deque()
        self._draining = threading.Lock()

    @property
    def journal(self) -> Journal | None:
        """The journal of the store; None where settled calls are kept in memory."""
        return self._find_journal()

    def __len__(self) -> int:
        """Count what waits, of other processes too if this one has read the journal."""
        journal = self.journal
        return len(self.in_memory) + (0 if journal is None else journal.rows)

    @property
    def full(self) -> bool:
        """Whether nothing more should be added."""
        journal = self.journal
        return len(self.in_memory) >= MOST_IN_MEMORY or (journal is not None and journal.full)

    def look(self) -> bool:
        """Tell whether anything waits, perhaps of a process that was killed; reads the journal the first time."""
        journal = self.journal
        if journal is not None and not self._looked:
            self._looked = True
            try:
                journal.count()
            except StoreError as error:
                self._journal_failed(error)
        return len(self) > 0

    def add(self, settlement: Settlement | Release) -> None:
        """Keep a settled call; does not raise `StoreError`."""
        kept, journal = Kept(*settlement), self.journal
        if journal is not None:
            try:
                journal.add(kept)
                return
            except StoreError as error:
                self._journal_failed(error)
        self.in_memory.append(kept)

    def drain(self, write: Write, at_once: int = AT_ONCE) -> float | None:
        """Give the store the oldest settled calls, at most `at_once` of the journal.

        Return the seconds until the next attempt, None when nothing is left. Raises `StoreError` when the store does
        not take one; that and those behind it stay.
        """
        with self._draining:
            while self.in_memory:
                self._give(write, self.in_memory[0])
                self.in_memory.popleft()
            journal = self.journal
            if journal is None or not journal.exists:
                return None
            try:
                journal.checkpoint()
                rows = journal.oldest(at_once)
            except StoreError as error:
                self._journal_failed(error)
                return RETRY_SECONDS
            return self._drain_rows(journal, write, rows)

    def _drain_rows(self, journal: Journal, write: Write, rows: list[tuple[int, Kept]]) -> float | None:
        taken: list[int] = []
        refused: list[int] = []
        pause = 0.0
        try:
            for key, kept in rows:
                (taken if self._give(write, kept) else refused).append(key)
        finally:
            try:
                if taken or refused:
                    journal.remove(taken, park=refused)
            except StoreError as error:  # the next attempt gives them again, which the store counts once
                self._journal_failed(error)
                pause = RETRY_SECONDS
        return pause if journal.rows else None

    def close(self) -> None:
        """Say what is left as the process ends."""
        if self.in_memory:
            self.lost += len(self.in_memory)
            logger.error("%d settled calls are lost: the store did not take them", len(self.in_memory))
        journal = self.journal
        if journal is not None and journal.rows:
            logger.warning("%d settled calls wait in the journal %s", journal.rows, journal.path)

    def _give(self, write: Write, kept: Kept) -> bool:
        """Give a settled call to the store; False for one that the store can never take."""
        try:
            write(kept)
        except StoreError:
            raise
        except Exception:
            self.lost += 1
            log_fault("the store can never take a settled call; it is given up")
            return False
        return True

    def _journal_failed(self, error: StoreError) -> None:
        times = self._journal_errors.due()
        if times:
            logger.error(
                "the journal failed (%d times since the last message); settled calls are kept in memory: %s",
                times,
                error,
            )
