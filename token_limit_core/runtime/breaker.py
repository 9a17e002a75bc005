"""Circuit breaker: a service that did not answer is asked again by one caller at a time; the others fail at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from .faults import StoreBusy, StoreError
from .forks import after_fork

T = TypeVar("T")

PAUSE_FACTOR = 100.0
LONGEST_PAUSE_SECONDS = 30.0
"""After an attempt that failed, callers pause for `PAUSE_FACTOR` times what it took, at most for so long."""


class Breaker:
    """Guards the requests to one service. Threads share it; a forked child starts with a closed one.

    `since` is the unix time of the first failure, None while the service answers. `on_closed` is called with that time
    when the service answers again.
    """

    since: float | None

    def __init__(self, on_closed: Callable[[float], None]) -> None:
        self._on_closed = on_closed
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._asking = False
        self._not_before = 0.0
        self.since = None

    def call(self, operation: Callable[..., T], *args: Any, patient: bool = True) -> T:
        """Run an operation of the service and return its result.

        Raises the operation's `StoreError`, which opens the breaker, unless the service is only busy. While the breaker
        is open, raises `StoreError` at once when another caller asks, or (if `patient`) during the pause.
        """
        if self.since is not None:
            return self._ask_alone(operation, args, patient)
        started = time.monotonic()
        try:
            return operation(*args)
        except StoreBusy:
            raise
        except StoreError:
            self._failed(started)
            raise

    def _ask_alone(self, operation: Callable[..., T], args: tuple[Any, ...], patient: bool) -> T:
        started = time.monotonic()
        with self._lock:
            if self._asking or (patient and started < self._not_before):
                raise StoreError("it did not answer a moment ago")
            self._asking = True
        try:
            result = operation(*args)
        except StoreBusy:
            self._close()
            raise
        except StoreError:
            self._failed(started)
            raise
        finally:
            self._asking = False
        self._close()
        return result

    def _failed(self, started: float) -> None:
        now = time.monotonic()
        with self._lock:
            self._not_before = now + min(LONGEST_PAUSE_SECONDS, PAUSE_FACTOR * (now - started))
            if self.since is None:
                self.since = time.time()

    def _close(self) -> None:
        with self._lock:
            since, self.since = self.since, None
        if since is not None:
            self._on_closed(since)
