"""A clock that stands still until it is told otherwise."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

MIDDLE_OF_A_MONTH = datetime(2027, 1, 15, 12, tzinfo=UTC)


class Clock:
    """A clock to pass as `MeterConfig(clock=...)`: calling it gives unix seconds. Safe from any thread.

    Times are unix seconds or datetimes; a naive datetime means UTC.
    """

    def __init__(self, start: datetime | float = MIDDLE_OF_A_MONTH) -> None:
        self._lock = threading.Lock()
        self._now = _seconds(start)

    def __call__(self) -> float:
        with self._lock:
            return self._now

    def set(self, moment: datetime | float) -> None:
        """Go to a moment, which may lie in the past."""
        with self._lock:
            self._now = _seconds(moment)

    def advance(self, seconds: float) -> None:
        """Go forward by `seconds`."""
        with self._lock:
            self._now += seconds


def _seconds(moment: datetime | float) -> float:
    if not isinstance(moment, datetime):
        return float(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
