"""EventQueue: deliver events to a remote destination in the background. An LLM call never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ..events import LLMEvent
from ..runtime.background import BackgroundThread
from ..runtime.faults import ConfigurationError, TokenLimitError, log_fault, logger
from ..runtime.forks import after_fork, warn_without_threads
from ..runtime.log_throttle import LogThrottle
from .buffers import RECOUNT_SECONDS, Buffer, MemoryBuffer


class DeliverLater(TokenLimitError):
    """The destination cannot take events now: keep them and retry after `seconds`.

    With `asked` the destination named the time itself (Retry-After). Then a flush does not retry earlier either.
    """

    def __init__(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        super().__init__(reason)
        self.seconds: float = seconds
        self.asked: bool = asked


class DeliveryRefused(TokenLimitError):
    """The destination refuses these events for good. `status` is its HTTP status.

    `reasons` has the destination's message per event id, if it sent any.
    """

    def __init__(self, status: int, events: Sequence[LLMEvent], reasons: Mapping[str, str] | None = None) -> None:
        self.status: int = status
        self.events: list[LLMEvent] = list(events)
        self.reasons: dict[str, str] = dict(reasons or {})
        first = next(iter(self.reasons.values()), None)
        super().__init__(f"the backend refused {len(events)} events with {status}" + (f": {first}" if first else ""))


class EventQueue:
    """A buffer of events and one daemon thread that passes them to `deliver` in batches.

    The thread starts at the first `put`, so a server may make the queue before it forks. It delivers every
    `flush_interval` seconds, or earlier when `max_batch_size` events wait. `deliver` may raise:

    - `DeliverLater`: the batch goes back to the front of the buffer.
    - `DeliveryRefused`: the events it names are parked (not retried) and counted in `parked`.
    - Any other exception: the whole batch is parked.

    `on_flush_error` gets the error of each failed attempt. When `max_queue_size` events wait, the oldest are dropped,
    counted in `dropped` and passed to `on_dropped`.

    Raises `ConfigurationError` when the interval or a size is not positive.
    """

    def __init__(
        self,
        deliver: Callable[[list[LLMEvent]], None],
        *,
        flush_interval: float = 5.0,
        max_batch_size: int = 50,
        max_queue_size: int = 1000,
        buffer: Buffer | None = None,
        on_flush_error: Callable[[Exception], None] | None = None,
        on_dropped: Callable[[Sequence[LLMEvent]], None] | None = None,
    ) -> None:
        if not min(flush_interval, max_batch_size, max_queue_size) > 0:
            raise ConfigurationError("flush_interval, max_batch_size and max_queue_size must be greater than 0")
        self._deliver, self._on_dropped = deliver, on_dropped
        self._on_flush_error = _ignore if on_flush_error is None else on_flush_error
        self._errors = LogThrottle()
        self._interval, self._batch_size = flush_interval, max_batch_size
        self._buffer: Buffer = MemoryBuffer(max_queue_size) if buffer is None else buffer
        self._reset()
        after_fork(self._reset)
        warn_without_threads()

    def _reset(self) -> None:
        # also in a forked child: it has no thread, and the parent delivers the events of the parent
        self._changed = threading.Condition()  # an RLock: a finaliser may call `put` under it
        self._buffer.reset()
        self._thread: threading.Thread | None = None
        self._starting = False
        self._idle = self._delivering = self._flushing = 0
        self.parked: int = 0
        self._not_before, self._asked = 0.0, False

    @property
    def pending(self) -> int:
        """The number of events that wait, without those that are being delivered."""
        return len(self._buffer)

    @property
    def dropped(self) -> int:
        """The number of events that were dropped because the queue was full."""
        return self._buffer.dropped

    def health(self) -> dict[str, int]:
        """Count the events that wait, were dropped, and were refused for good since this process started."""
        return {"events_waiting": self.pending, "events_dropped": self.dropped, "events_parked": self.parked}

    def put(self, event: LLMEvent) -> None:
        """Append an event. Never waits for a delivery."""
        with self._changed:
            gone = self._buffer.put(event)
        self.wake()
        self._report_dropped(gone)

    def wake(self) -> None:
        """Let the thread look at the buffer, because it has new events."""
        self._start()
        with self._changed:
            if self._idle or len(self._buffer) >= self._batch_size:
                self._changed.notify_all()

    def flush_now(self, timeout: float | None = None) -> bool:
        """Deliver all events that wait, and block until that is done; False after `timeout` seconds.

        The first attempt is made at once, unless the destination has asked for a later one.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        threadless = len(self._buffer) > 0 and not self._start()
        with self._changed:
            if not self._asked:
                self._not_before = 0.0
        while threadless and self._not_before <= time.monotonic() and (batch := self._take()):
            if not self._send(batch):
                return False
        with self._changed:
            self._flushing += 1
        try:
            while (emptied := self._is_emptied(deadline)) is None:
                pass
            return emptied
        finally:
            with self._changed:
                self._flushing -= 1

    def _is_emptied(self, deadline: float | None) -> bool | None:
        """Wait for the thread to go on; True when nothing waits any more, False when nothing will be delivered."""
        threadless = len(self._buffer) > 0 and not self._start()
        with self._changed:
            if not (len(self._buffer) or self._delivering):
                return True
            left = None if deadline is None else deadline - time.monotonic()
            inside = self._thread is threading.current_thread()  # else `deliver` would wait for itself
            if inside or threadless or (left is not None and left <= 0):
                return False
            if deadline is not None and self._asked and self._not_before > deadline and not self._delivering:
                return False  # nothing else would deliver them
            self._changed.notify_all()
            self._changed.wait(left)
            return None

    def close(self, timeout: float | None = None) -> bool:
        """Flush and end the thread; False after `timeout` seconds. A later `put` starts a new thread."""
        emptied = self.flush_now(timeout)
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if emptied and thread is not None:
            thread.join(timeout)
        return emptied

    def _start(self) -> bool:
        """Start the thread if it is not running; False where none can start, as at interpreter exit.

        Not under the lock: `start` waits for the thread, which may first collect an object whose finaliser puts.
        """
        with self._changed:
            if self._thread is not None and (self._starting or self._thread.is_alive()):
                return True
            thread = self._thread = BackgroundThread(self._run, "token-limit-events")
            self._starting = True
        try:
            thread.start()
        except RuntimeError:  # flush_now still delivers
            with self._changed:
                self._thread = None if self._thread is thread else self._thread
            return False
        finally:
            self._starting = False
        return True

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while self._step(me):
                pass
        finally:
            with self._changed:
                self._thread = None if self._thread is me else self._thread
                self._changed.notify_all()

    def _step(self, me: threading.Thread) -> bool:
        """Deliver the next batch; False when the thread has to end."""
        try:
            batch = self._next_batch(me)
            if batch:
                self._send(batch)
            return bool(batch)
        except Exception:  # the store or the spool is away
            log_fault("token-limit cannot reach the events that wait; it will try again")
        with self._changed:
            return not self._changed.wait_for(lambda: self._thread is not me, min(self._interval, RECOUNT_SECONDS))

    def _next_batch(self, me: threading.Thread) -> list[LLMEvent]:
        with self._changed:
            while self._thread is me:
                self._await_events(me)
                self._changed.wait_for(lambda: self._due() or self._thread is not me, self._interval)
                while self._thread is me and (wait := self._not_before - time.monotonic()) > 0:
                    self._changed.wait(wait)
                if self._thread is me and (batch := self._take()):
                    return batch
                self._changed.notify_all()  # another process took the rows: a flush has nothing left to wait for
            return []

    def _await_events(self, me: threading.Thread) -> None:
        self._idle += 1  # a counter: a thread that close() has left in a slow delivery comes here, too
        try:
            looking = self._interval if self._buffer.shared else None
            self._changed.wait_for(lambda: len(self._buffer) or self._thread is not me, looking)
        finally:
            self._idle -= 1

    def _due(self) -> bool:
        return self._flushing > 0 or len(self._buffer) >= self._batch_size

    def _take(self) -> list[LLMEvent]:
        with self._changed:
            batch = self._buffer.take(self._batch_size)
            self._delivering += bool(batch)
            return batch

    def _send(self, batch: list[LLMEvent]) -> bool:
        """Deliver a batch; False when it has to wait."""
        gone: Sequence[LLMEvent] = ()
        try:
            error = self._attempt(batch)
            later = isinstance(error, DeliverLater)
            with self._changed:
                if isinstance(error, DeliverLater):
                    self._not_before, self._asked = time.monotonic() + error.seconds, error.asked
                    gone = self._buffer.restore(batch)
                else:
                    self._asked = False
                    self._park(batch, error)
                    self._buffer.done(batch)
            if error is not None:
                self._report_error(error)
            self._report_dropped(gone)
            return not later
        finally:
            with self._changed:
                self._delivering -= 1
                self._changed.notify_all()

    def _attempt(self, batch: list[LLMEvent]) -> Exception | None:
        try:
            self._deliver(batch)
        except Exception as error:
            return error
        return None

    def _park(self, batch: Sequence[LLMEvent], error: Exception | None) -> None:
        """Park events that are not retried; after an unexpected error the whole batch, so that no retry is endless."""
        if error is not None:
            parked = error.events if isinstance(error, DeliveryRefused) else batch
            self._buffer.park(parked)
            self.parked += len(parked)

    def _report_error(self, error: Exception) -> None:
        times = self._errors.due()
        if times:
            logger.warning("events could not be delivered (%d times since the last message): %r", times, error)
        try:
            self._on_flush_error(error)
        except Exception:
            log_fault("on_flush_error raised; token-limit goes on")

    def _report_dropped(self, gone: Sequence[LLMEvent]) -> None:
        if gone and self._on_dropped is not None:
            self._on_dropped(gone)


def _ignore(error: Exception) -> None:
    """Do nothing: the warning is enough."""
