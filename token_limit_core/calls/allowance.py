"""Allowance: what each tenant's calls may cost while the store does not answer (`outage_allowance_usd`)."""

from __future__ import annotations

import threading
from collections import Counter

from ..runtime.forks import after_fork
from ..stores.records import Call


class Allowance:
    """Counts, in nano-dollars, the calls of each tenant that went out unverified and that the store does not know yet.

    A call is let out while something of its tenant's allowance is left. It counts at its estimate until it ends, then
    at its cost, and no longer once the store has its settle.
    """

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, tuple[str, int]] = {}
        self._used: Counter[str] = Counter()

    def is_left(self, tenant_id: str) -> bool:
        """Tell whether another call of the tenant may go out."""
        return self._used[tenant_id] < self._amount

    def take(self, call: Call) -> bool:
        """Count a call that is about to go out; False when nothing of the tenant's allowance is left."""
        with self._lock:
            if not self.is_left(call.tenant_id):
                return False
            self._put(call.call_id, call.tenant_id, call.estimate)
            return True

    def ended(self, call_id: str, cost: int | None) -> None:
        """Count a call at its cost, which the store does not know yet."""
        with self._lock:
            if call_id in self._calls:
                tenant_id, _ = self._calls[call_id]
                self._remove(call_id)
                self._put(call_id, tenant_id, cost)

    def settled(self, call_id: str) -> None:
        """Count a call no longer: the store knows it, or it was never made."""
        if call_id in self._calls:
            with self._lock:
                self._remove(call_id)

    def _put(self, call_id: str, tenant_id: str, amount: int | None) -> None:
        nano = 0 if amount is None else amount
        self._calls[call_id] = (tenant_id, nano)
        self._used[tenant_id] += nano

    def _remove(self, call_id: str) -> None:
        tenant_id, nano = self._calls.pop(call_id, ("", 0))
        self._used[tenant_id] -= nano
        if not self._used[tenant_id]:
            del self._used[tenant_id]
