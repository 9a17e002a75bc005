"""Calls that have ended before it is known who pays: the application's resolver failed, and is asked again.

A resolver that fails is not a request without a tenant: its database may be away for a moment. The Scope keeps the
identity of the request, so the tenant can still be found when the call has ended.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..runtime.background import BackgroundThread
from ..runtime.faults import log_fault, logger
from ..runtime.forks import after_fork

if TYPE_CHECKING:
    from ..scope import Scope

RETRY_SECONDS = 1.0
MOST_FAILURES = 10
"""Failed look-ups after which a round ends: each may wait for a database that does not answer."""


class _Waiting(NamedTuple):
    flight: Any  # a `Flight`, which is above engines, and they are above this
    bill: Callable[[], object]
    until: float


class Unresolved:
    """Asks the resolvers of ended calls again, in a thread that lives as long as a call waits."""

    def __init__(self) -> None:
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's calls: the parent bills them."""
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, flight: Any, bill: Callable[[], object]) -> None:
        """Keep an ended call until its tenant is known, `hold_seconds` long at most; then call `bill`."""
        until = time.monotonic() + flight.engine.config.hold_seconds
        with self._lock:
            self._waiting.append(_Waiting(flight, bill, until))
            if self._thread is None:
                self._thread = BackgroundThread(self._work, "token-limit-tenants")
                self._thread.start()

    def retry(self, *, last: bool = False) -> bool:
        """Ask the resolvers once; return whether no call waits any more. After the `last` time none does."""
        failed: set[Scope] = set()
        with self._asking:
            for _ in range(len(self._waiting)):
                waiting = self._waiting[0]  # it stays, and counts, while its resolver is asked
                if _resolve(waiting.flight, failed):
                    _bill(waiting)
                elif last or time.monotonic() >= waiting.until:
                    _give_up(waiting)
                else:
                    self._waiting.rotate(-1)
                    if len(failed) >= MOST_FAILURES and not last:
                        break
                    continue
                self._waiting.popleft()
            return not self._waiting

    def _work(self) -> None:
        while True:
            self.retry()
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
            time.sleep(RETRY_SECONDS)


def _resolve(flight: Any, failed: set[Scope]) -> bool:
    """Look up who pays for a call; return whether that is known, if only that nobody does."""
    scope = flight.scope
    if scope is None or scope in failed or not scope.request.resolves_elsewhere:
        return False
    try:
        tenant_id = scope.tenant_elsewhere()
    except Exception:  # a misconfiguration, raised in tests
        tenant_id = None
    if tenant_id is None and scope.unresolved:
        failed.add(scope)
        return False
    if tenant_id is None:
        flight.engine.unattributed()
    flight.tenant_id = flight.engine.payer(tenant_id)
    return True


def _give_up(waiting: _Waiting) -> None:
    engine = waiting.flight.engine
    engine.count("unresolved")
    waiting.flight.tags["unresolved"] = True
    logger.error("a call is billed to %r: its tenant could not be resolved in time", waiting.flight.tenant_id)
    _bill(waiting)


def _bill(waiting: _Waiting) -> None:
    try:
        waiting.bill()
    except Exception:
        log_fault("token-limit could not settle a call; it is given up")
    finally:
        waiting.flight.done = True
