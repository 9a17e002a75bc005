"""The default clock."""

from __future__ import annotations

import time


def system_time() -> float:
    """Return the unix time in seconds.

    `time.time` is looked up at each call, so that tests which replace it (freezegun) move limits and windows too.
    """
    return time.time()
