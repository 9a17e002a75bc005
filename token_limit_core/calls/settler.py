"""The thread that settles what could not be settled on the spot.

Finalisers and cancelled tasks only put work on a reentrant `SimpleQueue`. The same thread gives the store what waits
for it after an outage.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple

from ..runtime.background import BackgroundThread
from ..runtime.faults import log_fault, logger
from ..runtime.forks import after_fork

Work = Callable[[], object]


def _wake() -> None:
    """Do nothing, once."""


class _Later(NamedTuple):
    at: float
    number: int
    work: Work


class Settler:
    """Runs work in one daemon thread, started by the first call that may need it, fresh after a fork.

    From `watch()` on it also calls `recover` again and again, after as many seconds as `recover` returned, until that
    returns None.
    """

    def __init__(self, recover: Callable[[], float | None]) -> None:
        self._recover = recover
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's work: the parent settles it."""
        self._queue: SimpleQueue[Work | threading.Event | _Later | None] = SimpleQueue()
        self._later: list[_Later] = []
        self._numbers = itertools.count()
        self._recover_at: float | None = None
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self._ended = False

    def start(self) -> None:
        """Start the thread if it is not running; call this before anything that may `put` from a finaliser."""
        if self.thread is not None or self._ended:
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

        Finalisers that run while the interpreter ends find no thread any more: then the work is done on the spot.
        """
        if self._ended:
            self._run(work)
        else:
            self._queue.put(work)

    def put_later(self, seconds: float, work: Work) -> None:
        """Queue work for later; it is not done where the thread has ended by then, and `flush` does not wait for it."""
        self._queue.put(_Later(time.monotonic() + seconds, next(self._numbers), work))

    def watch(self) -> None:
        """Have `recover` called until there is nothing to recover."""
        if self._recover_at is None and not self._ended:
            self._recover_at = time.monotonic()
            self.start()
            self._queue.put(_wake)  # a thread that waits for work does not look at the time

    def collect(self) -> None:
        """Let abandoned streams come in before the process ends: an SDK's is a cycle, which nobody else may find."""
        if self.thread is not None:
            gc.collect()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything queued so far was tried (seconds; None is for ever); True when nothing is left."""
        if threading.current_thread() is self.thread:
            return False  # called from what the thread itself runs, such as on_event
        if self._queue.empty() and self._recover_at is None and self.thread is None:
            return True
        self.start()
        reached = threading.Event()
        self._queue.put(reached)
        if self.thread is None:
            while not reached.is_set():
                self._handle(self._queue.get())
        return reached.wait(timeout) and self._recover_at is None

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
            now = time.monotonic()
            if self._recover_at is not None and self._recover_at <= now:
                self._try_to_recover()
            if self._later and self._later[0].at <= now:
                self._run(heapq.heappop(self._later).work)
            due = [at for at in (self._recover_at, self._later[0].at if self._later else None) if at is not None]
            wait = max(0.0, min(due) - time.monotonic()) if due else None
            try:
                item = self._queue.get(timeout=wait)
            except Empty:
                continue
            if item is None:
                return
            self._handle(item)

    def _handle(self, item: Work | threading.Event | _Later | None) -> None:
        if isinstance(item, threading.Event):
            while self._recover_at is not None and self._try_to_recover() == 0.0:
                pass
            item.set()
        elif isinstance(item, _Later):
            heapq.heappush(self._later, item)
        elif item is not None:
            self._run(item)

    def _try_to_recover(self) -> float | None:
        pause: float | None = None
        self._recover_at = None  # before the attempt: a `watch()` from now on asks for another one
        try:
            pause = self._recover()
        except Exception:
            log_fault("token-limit failed to give the store what waits for it")
        if pause is not None:
            self._recover_at = time.monotonic() + pause
        return pause

    def _run(self, work: Work) -> None:
        try:
            work()
        except Exception:
            log_fault("token-limit failed in its settler thread; the application goes on")
