"""Running short transactions on an engine, and running them again after a conflict."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from ..limits.notices import Notice
from .transaction import Transaction

T = TypeVar("T")
ATTEMPTS = 8


class Running(ABC):
    """What runs the operations of a store with transactions."""

    timeout: float = 10.0
    """After this many seconds a transaction that meets a conflict is not retried: an engine may wait long by itself."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[Transaction]:
        """Start a short transaction of its own, never the host's; commit at the end, roll back on an exception."""

    def begin_reading(self) -> AbstractContextManager[Transaction]:
        """Start a transaction that changes nothing, for engines where that keeps out of the writers' way."""
        return self.begin()

    @abstractmethod
    def _watch(self, tx: Transaction) -> None:
        """Prepare a transaction for notices."""

    @abstractmethod
    def _publish(self, notices: list[Notice]) -> None:
        """Pass on the notices of a transaction that was committed."""

    def is_conflict(self, error: Exception) -> bool:
        """Return whether the transaction may be run again: a lock, a deadlock, a serialisation failure, a lost link."""
        return False

    def _run(self, work: Callable[[Transaction], T]) -> T:
        return self._retry(self.begin, work)

    def _read(self, work: Callable[[Transaction], T]) -> T:
        return self._retry(self.begin_reading, work)

    def _retry(self, begin: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        deadline = time.monotonic() + self.timeout
        for attempt in range(ATTEMPTS):
            try:
                with begin() as tx:
                    self._watch(tx)
                    result = work(tx)
                self._publish(tx.notices)
                return result
            except Exception as error:
                if attempt == ATTEMPTS - 1 or time.monotonic() > deadline or not self.is_conflict(error):
                    raise
                time.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise AssertionError("unreachable")
