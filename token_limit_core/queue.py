"""EventQueue: carry events to a remote destination without making the LLM call wait."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from .errors import ConfigurationError, logger
from .events import LLMEvent


class EventQueue:
    """A bounded buffer of events and one daemon thread that hands them to `deliver` in batches.

    The thread starts at the first `put`, so a preforking server may build the queue before it forks. It delivers
    after `flush_interval` seconds or at `max_batch_size` events. When `max_queue_size` events wait, the oldest
    gives way and `dropped` counts it. A batch that `deliver` raises on is given up and goes to `on_flush_error`.

    Raises `ConfigurationError` when the interval or a size is not positive.
    """

    def __init__(
        self,
        deliver: Callable[[list[LLMEvent]], None],
        *,
        flush_interval: float = 5.0,
        max_batch_size: int = 50,
        max_queue_size: int = 1000,
        on_flush_error: Callable[[Exception], None] | None = None,
    ) -> None:
        if not min(flush_interval, max_batch_size, max_queue_size) > 0:
            raise ConfigurationError("flush_interval, max_batch_size and max_queue_size must be greater than 0")
        self._deliver, self._on_flush_error = deliver, on_flush_error or _log
        self._interval, self._batch_size, self._size = flush_interval, max_batch_size, max_queue_size
        self._reset()
        _reset_in_forked_children(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()  # over an RLock: a finaliser may put while its thread is in here
        self._buffer: deque[LLMEvent] = deque()
        self._thread: threading.Thread | None = None
        self._idle = self._delivering = self._flushing = self.dropped = 0

    @property
    def pending(self) -> int:
        """How many events wait; those being delivered are not among them."""
        return len(self._buffer)

    def put(self, event: LLMEvent) -> None:
        """Append an event; never waits for a delivery."""
        with self._changed:
            self._buffer.append(event)
            while len(self._buffer) > self._size:
                self._buffer.popleft()
                self.dropped += 1
            self._start()
            if self._idle or len(self._buffer) >= self._batch_size:
                self._changed.notify_all()

    def flush_now(self, timeout: float | None = None) -> bool:
        """Deliver what waits and block until it is done; False if `timeout` seconds were not enough."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            threadless = bool(self._buffer) and not self._start()
        while threadless and (batch := self._take()):
            self._send(batch)
        with self._changed:
            self._flushing += 1
            try:
                while self._buffer or self._delivering:
                    left = None if deadline is None else deadline - time.monotonic()
                    inside = self._thread is threading.current_thread()  # `deliver` asks: it would wait for itself
                    if inside or (left is not None and left <= 0) or (self._buffer and not self._start()):
                        return False
                    self._changed.notify_all()
                    self._changed.wait(left)
                return True
            finally:
                self._flushing -= 1

    def close(self, timeout: float | None = None) -> bool:
        """Flush and end the thread; False if `timeout` seconds were not enough. A later `put` starts a new one."""
        emptied = self.flush_now(timeout)
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if emptied and thread is not None:
            thread.join(timeout)
        return emptied

    def _start(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="token-limit-events", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had, or the interpreter is going down: flush_now still delivers
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while batch := self._next_batch(me):
                self._send(batch)
        finally:
            with self._changed:
                self._thread = None if self._thread is me else self._thread
                self._changed.notify_all()

    def _next_batch(self, me: threading.Thread) -> list[LLMEvent]:
        with self._changed:
            self._idle += 1  # a count: a thread that close() left behind in a slow delivery passes here once more
            self._changed.wait_for(lambda: self._buffer or self._thread is not me)
            self._idle -= 1
            self._changed.wait_for(lambda: self._due() or self._thread is not me, self._interval)
            return self._take() if self._thread is me else []

    def _due(self) -> bool:
        return self._flushing > 0 or len(self._buffer) >= self._batch_size

    def _take(self) -> list[LLMEvent]:
        with self._changed:
            batch = [self._buffer.popleft() for _ in range(min(len(self._buffer), self._batch_size))]
            self._delivering += bool(batch)
            return batch

    def _send(self, batch: list[LLMEvent]) -> None:
        try:
            self._deliver(batch)
        except Exception as error:
            try:
                self._on_flush_error(error)
            except Exception:
                logger.exception("on_flush_error raised; token-limit goes on")
        finally:
            with self._changed:
                self._delivering -= 1
                self._changed.notify_all()


def _log(error: Exception) -> None:
    logger.warning("token-limit could not deliver events: %r", error)


def _reset_in_forked_children(queue: EventQueue) -> None:
    # The parent delivers what it has buffered; a child has no thread, and may have inherited a lock that is taken.
    reset = weakref.WeakMethod(queue._reset)

    def after_fork() -> None:
        if (method := reset()) is not None:
            method()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_fork)
