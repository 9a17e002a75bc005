"""Throttle repeated log messages: log the first at once, then at most one a minute with a count."""

from __future__ import annotations

import time
from math import inf

INTERVAL_SECONDS = 60.0


class LogThrottle:
    """Decides when a repeated message is due. Threads may miscount, which only makes the count less exact."""

    def __init__(self) -> None:
        self._logged_at = -inf
        self._times = 0

    def due(self, times: int = 1) -> int:
        """Count `times` occurrences; return the number since the last message if one is due now, else 0."""
        self._times += times
        now = time.monotonic()
        if now - self._logged_at < INTERVAL_SECONDS:
            return 0
        self._logged_at = now
        count, self._times = self._times, 0
        return count
