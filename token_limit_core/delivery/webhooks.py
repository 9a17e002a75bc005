"""Webhooks: notices on their way to a URL of the application's operator.

The store keeps a notice until it is delivered, in the transaction that made it. So a crash loses nothing, and any
process delivers what another has left. At least once: the notice's id makes a second delivery harmless.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..runtime.background import BackgroundThread
from ..runtime.faults import log_fault, logger
from ..runtime.forks import after_fork
from ..runtime.log_throttle import LogThrottle
from ..stores.notices import KEPT
from .signature import HEADER, sign

if TYPE_CHECKING:
    import requests

    from ..stores.contract import Store
    from ..stores.notices import NoticeRow

SECONDS = (3.05, 10.0)
"""Time-outs of a request: to connect, and to read."""

CLAIM_SECONDS = 120.0
"""After these another process may deliver what this one has claimed."""

LOOK_SECONDS = 30.0
"""How often a process looks for notices that others have left."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 60.0
GIVE_UP_SECONDS = 3 * 86400.0
"""A notice that nobody has taken for so long is dropped, and logged."""


class Webhook:
    """Delivers the notices of a store in one background thread, which starts at the first notice."""

    def __init__(self, store: Store, url: str, secret: str, clock: Callable[[], float]) -> None:
        self._store, self._url, self._secret, self._clock = store, url, secret, clock
        self._errors = LogThrottle()
        self.failed: int = 0
        """Attempts that failed in this process."""
        store.delivers_notices = True
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self._thread: threading.Thread | None = None
        self._session: requests.Session | None = None
        self._failures = 0
        self._ended = False

    def wake(self) -> None:
        """Deliver what is due, in the background."""
        self._changed.set()
        with self._lock:
            if self._thread is None and not self._ended:
                thread = BackgroundThread(self._run, "token-limit-webhooks")
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending: another process will deliver
                    return
                self._thread = thread

    def flush(self) -> bool:
        """Deliver what waits, also what waits for another attempt; False if an attempt failed."""
        return self._deliver(LONGEST_WAIT_SECONDS) is None

    def close(self) -> None:
        """Deliver what is due and end the thread; what is left stays in the store."""
        with self._lock:
            thread, self._thread, self._ended = self._thread, None, True
        self._changed.set()
        if thread is not None:
            thread.join(SECONDS[1])
        try:
            self._deliver()
        except Exception:
            log_fault("token-limit cannot deliver its notices; they stay in the store")
        self._ended = False

    def _run(self) -> None:
        while not self._ended:
            self._changed.clear()
            wait: float | None = LOOK_SECONDS
            try:
                wait = self._deliver()
            except Exception:  # the store is away
                log_fault("token-limit cannot read the notices that wait; it will try again")
            self._changed.wait(LOOK_SECONDS if wait is None else wait)

    def _deliver(self, ahead: float = 0.0) -> float | None:
        """Deliver what is due in `ahead` seconds, oldest first.

        Return the seconds to wait after a failure, None if there was none.
        """
        with self._delivering:
            while rows := self._store.claim_notices(self._clock() + ahead, self._clock() + CLAIM_SECONDS, 1):
                [row] = rows
                error = self._post(row)
                if error is not None and self._clock() - row.at < GIVE_UP_SECONDS:
                    return self._failed(row, error)
                if error is not None:
                    logger.error("a notice was not taken for three days and is dropped: %s: %s", row.body, error)
                self._failures = 0
                self._store.reschedule_notices([row.id], KEPT)
            return None

    def _failed(self, row: NoticeRow, error: str) -> float:
        self.failed += 1
        self._failures += 1
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(self._failures, 10))
        wait = longest * random.uniform(0.5, 1)
        self._store.reschedule_notices([row.id], self._clock() + wait)
        times = self._errors.due()
        if times:
            logger.warning("a notice could not be delivered (%d times since the last message): %s", times, error)
        return wait

    def _post(self, row: NoticeRow) -> str | None:
        """POST a notice; return why it was not taken, in words without the URL, which may have a secret."""
        import requests

        if self._session is None:
            self._session = requests.Session()
        body = row.body.encode()
        headers = {"Content-Type": "application/json", HEADER: sign(body, self._secret, time.time())}
        try:
            answer = self._session.post(self._url, data=body, headers=headers, timeout=SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            return type(error).__name__
        return None if 200 <= answer.status_code < 300 else f"HTTP {answer.status_code}"
