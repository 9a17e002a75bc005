"""What happens again and again is told at once, and then at most once a minute, with how often it has happened."""

from __future__ import annotations

import time
from math import inf

REST_SECONDS = 60.0


class Seldom:
    """Says when to tell of something; threads that meet in here may miscount, which is of no consequence."""

    def __init__(self) -> None:
        self._told_at = -inf
        self._times = 0

    def due(self, times: int = 1) -> int:
        """Count what happened; return how often it did since it was last told if it is time to tell, else 0."""
        self._times += times
        now = time.monotonic()
        if now - self._told_at < REST_SECONDS:
            return 0
        self._told_at = now
        told, self._times = self._times, 0
        return told
