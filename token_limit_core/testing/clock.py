"""A clock that moves only when a test moves it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

MIDDLE_OF_A_MONTH = datetime(2027, 1, 15, 12, tzinfo=UTC)


class Clock:
    """A clock for `MeterConfig(clock=...)`. Calling it returns unix seconds. Safe to use from any thread.

    Times are unix seconds or datetimes; a naive datetime means UTC.
    """

    def __init__(self, start: datetime | float = MIDDLE_OF_A_MONTH) -> None:
        self._lock = threading.Lock()
        self._now = _seconds(start)

    def __call__(self) -> float:
        with self._lock:
            return self._now

    def set(self, moment: datetime | float) -> None:
        """Set the time, also to the past."""
        with self._lock:
            self._now = _seconds(moment)

    def advance(self, seconds: float) -> None:
        """Advance the time by `seconds`."""
        with self._lock:
            self._now += seconds


def _seconds(moment: datetime | float) -> float:
    if not isinstance(moment, datetime):
        return float(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
