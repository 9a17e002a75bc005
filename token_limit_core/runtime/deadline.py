"""A deadline for what the current thread does, for operations that cannot be given a time-out one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_local = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give what this thread does within a block so many seconds; stores read it with `time_left()`."""
    before = getattr(_local, "at", None)
    _local.at = time.monotonic() + seconds
    try:
        yield
    finally:
        _local.at = before


def time_left() -> float | None:
    """Return the seconds until the deadline of this thread, 0 when it has passed; None without one."""
    at: float | None = getattr(_local, "at", None)
    return None if at is None else max(0.0, at - time.monotonic())
