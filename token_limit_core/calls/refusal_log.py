"""The trace of refusals: counted in this process, and written to the store as one row a minute."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ..runtime.faults import StoreError
from ..runtime.forks import after_fork
from ..stores.records import Refusal

if TYPE_CHECKING:
    from ..limits import Decision
    from ..stores.contract import Store
    from .request import Request
    from .settler import Settler

PAUSE_SECONDS = 5.0
"""The first refusal of a minute is written at once; those after it are written together, at most this often."""

MAX_ROWS = 1000
"""Rows that wait while the store is away. A flood makes few: one a minute for each tenant, kind and limit."""

LONGEST_KEY = 255
"""Characters of `Refusal.limited_by`, which is a part of a key."""


class RefusalLog:
    """Counts refusals by tenant, limit, kind and minute. Safe from any thread."""

    def __init__(self, store: Store, settler: Settler) -> None:
        self._store = store
        self._settler = settler
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        """Forget the parent's refusals in a forked child: the parent writes them."""
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._rows: dict[Any, Refusal] = {}
        self._written: dict[Any, float] = {}

    def add(self, refusal: Refusal) -> None:
        """Count a refusal, and have what was counted written when it is due."""
        now = time.monotonic()
        with self._lock:
            self._count(refusal)
            due = now - self._written.get(refusal.key, -PAUSE_SECONDS) >= PAUSE_SECONDS
            if due:
                if len(self._written) >= MAX_ROWS:
                    self._written.clear()
                self._written[refusal.key] = now
        if not due:
            return
        if self._store.leaves_loop:
            self._settler.start()
            self._settler.put(self.write)
        else:
            self.write()

    def write(self) -> None:
        """Write what was counted, after any write that runs in another thread; keep it when the store is away."""
        with self._writing:
            with self._lock:
                rows, self._rows = list(self._rows.values()), {}
            if not rows:
                return
            try:
                self._store.add_refusals(rows)
            except StoreError:
                with self._lock:
                    for row in rows:
                        self._count(row)

    def _count(self, refusal: Refusal) -> None:
        known = self._rows.get(refusal.key)
        if known is not None:
            self._rows[refusal.key] = known.plus(refusal)
        elif len(self._rows) < MAX_ROWS:
            self._rows[refusal.key] = refusal


def refusal_of(decision: Decision, request: Request, attributes: dict[str, Any] | None, now: float) -> Refusal:
    """Make the trace of one refusal; `attributes` are those of its Scope."""
    user, feature = ((attributes or {}).get(name) for name in ("user", "feature"))
    return Refusal(
        tenant_id=decision.tenant_id,
        minute=int(now // 60) * 60,
        kind=decision.kind,
        limited_by=" ".join(filter(None, (decision.frequency, decision.filter)))[:LONGEST_KEY],
        calls=1,
        last_at=now,
        model=request.model,
        endpoint=request.endpoint,
        user=None if user is None else str(user),
        feature=None if feature is None else str(feature),
    )
