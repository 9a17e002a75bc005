"""Holds of calls in flight, and counters that are compared with the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..scope import check_payer
from ..stores.records import Drift, Hold

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..stores.contract import Store


class ManagesHolds:
    """The part of a Meter that looks after holds and counters. `by` names who does it in the history."""

    if TYPE_CHECKING:
        config: MeterConfig

        @property
        def store(self) -> Store: ...

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        """List the open holds of a tenant or all, oldest first; `process` is the `host:pid` that makes the call."""
        return self.store.holds(None if tenant_id is None else check_payer(tenant_id))

    def release(self, call_id: str, *, by: str = "") -> bool:
        """Give the hold of a dead call back without a charge; False when it is no longer open.

        A call that still ends is charged what it cost.
        """
        return self.store.release(call_id, self.config.clock(), by)

    def reconcile(self, tenant_id: str | None = None, *, fix: bool = False) -> list[Drift]:
        """List the counters of current windows that differ from ledger and holds, of a tenant or all.

        With `fix` each is corrected, in one short transaction a tenant; calls in flight are not lost. Limits `total`
        are left out where the ledger alone cannot tell what was spent: in tokens or requests, on all tenants together.
        Raises `StoreError` where the store has no counters, or cannot answer.
        """
        payer = None if tenant_id is None else check_payer(tenant_id)
        return self.store.reconcile(self.config.clock(), payer, fix)
