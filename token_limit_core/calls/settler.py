"""The thread that settles what could not be settled on the spot.

Finalisers and cancelled tasks only put work on a reentrant `SimpleQueue`; a settle that failed because the store
was away waits in a bounded list and is tried again.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from ..runtime.background import BackgroundThread
from ..runtime.faults import StoreError, log_fault
from ..runtime.forks import after_fork

logger = logging.getLogger("token_limit")

Work = Callable[[], object]

RETRY_SECONDS = 1.0


def _wake() -> None:
    """Do nothing, once."""


class Settler:
    """Runs work in one daemon thread, started by the first call that may need it, fresh after a fork."""

    def __init__(self, max_waiting: int = 1000) -> None:
        self._max_waiting = max_waiting
        self._reset()
        self.lost = 0
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's work: the parent settles it."""
        self._queue: SimpleQueue[Work | threading.Event | None] = SimpleQueue()
        self._waiting: deque[Work] = deque()
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self._ended = False

    @property
    def waiting(self) -> int:
        """How many settles wait for the store to come back."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the thread if it is not running; call this before anything that may `put` from a finaliser."""
        if self.thread is not None:
            return
        with self._lock:
            if self.thread is None:
                thread = BackgroundThread(self._work, "token-limit-settler")
                try:
                    thread.start()
                except RuntimeError:  # no thread to be had, or the interpreter is ending: flush() does the work
                    logger.warning("the settler's thread cannot be started", exc_info=True)
                else:
                    self.thread = thread

    def put(self, work: Work) -> None:
        """Queue work; takes no lock and does no I/O, so that finalisers may call it.

        Those that only run as the process ends, of what it still holds, come when there is no thread any more.
        """
        if self._ended:
            self._run(work)
        else:
            self._queue.put(work)

    def retry_later(self, work: Work) -> None:
        """Keep work that met a StoreError; when the list is full the oldest is given up and counted."""
        if len(self._waiting) >= self._max_waiting:
            self._waiting.popleft()
            self.lost += 1
            logger.error("the store has been away for too long: a settled call is lost (%d so far)", self.lost)
        self._waiting.append(work)
        self.start()
        self._queue.put(_wake)  # a thread that waits for work does not know that there is a list to try again

    def collect(self) -> None:
        """Let abandoned streams come in before the process ends: an SDK's is a cycle, which nobody else may find."""
        if self.thread is not None:
            gc.collect()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything queued so far was tried (seconds; None is for ever); True when nothing is left."""
        if threading.current_thread() is self.thread:
            return False  # called from what the thread itself runs, such as on_event
        if self._queue.empty() and not self._waiting and self.thread is None:
            return True
        self.start()
        reached = threading.Event()
        self._queue.put(reached)
        if self.thread is None:
            while not reached.is_set():
                self._handle(self._queue.get())
        return reached.wait(timeout) and not self._waiting

    def stop(self, timeout: float | None = None) -> bool:
        """Flush, then end the thread; a later call starts it again."""
        done = self.flush(timeout)
        thread = self.thread
        if thread is not None and thread.is_alive():
            self._queue.put(None)
            thread.join(timeout)
            self.thread = None
        return done

    def end(self, timeout: float | None = None) -> None:
        """Stop for good, as the process ends; what is put from now on is done on the spot."""
        self.stop(timeout)
        self._ended = True

    def _work(self) -> None:
        try:
            self._work_until_told()
        finally:  # whatever ended it, the next call starts another
            if self.thread is threading.current_thread():
                self.thread = None

    def _work_until_told(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=RETRY_SECONDS if self._waiting else None)
            except Empty:
                self._retry()
                continue
            if item is None:
                return
            self._handle(item)

    def _handle(self, item: Work | threading.Event | None) -> None:
        if isinstance(item, threading.Event):
            self._retry()
            item.set()
        elif item is not None:
            self._run(item)

    def _retry(self) -> None:
        for _ in range(len(self._waiting)):
            work = self._waiting.popleft()
            try:
                work()
            except StoreError:
                self._waiting.appendleft(work)
                return
            except Exception:
                log_fault("token-limit could not settle a call; it is given up")

    def _run(self, work: Work) -> None:
        try:
            work()
        except StoreError:
            self.retry_later(work)
        except Exception:
            log_fault("token-limit failed in its settler thread; the application goes on")
