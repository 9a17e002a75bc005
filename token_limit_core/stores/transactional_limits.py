"""The changes of limits, once, for every store with transactions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..errors import LimitChanged
from ..limits import Limit, scheduled
from .contract import Ledger
from .counters import notice_limits
from .plans import Rules
from .reports import Change, change_of
from .running import Running
from .transaction import Transaction


class TransactionalLimits(Running, Ledger):
    """The part of a store that changes limits."""

    def limits(self, tenant_id: str) -> list[Limit]:
        return self._read(lambda tx: tx.limits(tenant_id))

    def rules(self, tenant_id: str) -> Rules:
        return self._read(lambda tx: tx.rules(tenant_id))

    def set_limit(self, limit: Limit, now: float, by: str = "", expected: Collection[Limit] | None = None) -> Limit:
        def work(tx: Transaction) -> Limit:
            tx.lock_tenant(limit.tenant_id, now)
            rows = [row for row in tx.limits(limit.tenant_id) if row.identity == limit.identity]
            if expected is not None and set(expected) != set(rows):
                raise LimitChanged("the limit was changed since it was read")
            placed, dropped = place(tx, rows, limit, now)
            before = dropped or [row for row in rows if row.in_force(now)]
            tx.insert_change(change_of("set", before[0] if before else None, placed, now, by))
            if placed.in_force(now):
                notice_limits(tx, (placed,), now, limit.tenant_id)
            return placed

        return self._run(work)

    def welcome(self, limit: Limit, now: float) -> bool:
        def work(tx: Transaction) -> bool:
            new = tx.lock_tenant(limit.tenant_id, now) and not tx.limits(limit.tenant_id)
            if new:
                tx.insert_limit(limit)
                tx.insert_change(change_of("set", None, limit, now, ""))
            return new

        return self._run(work)

    def remove_limit(
        self, tenant_id: str, frequency: str | None, now: float, by: str = "", filter: str | None = None
    ) -> int:
        def work(tx: Transaction) -> int:
            tx.lock_tenant(tenant_id, now)
            rows = [
                row
                for row in tx.limits(tenant_id)
                if frequency in (None, row.frequency) and filter in (None, row.filter)
            ]
            for row in rows:
                if not row.ended(now):  # what has ended is history already
                    tx.insert_change(_removal(row, now, by))
            if rows:
                tx.delete_limits([row.id for row in rows])
            return len(rows)

        return self._run(work) if self.limits(tenant_id) else 0  # nobody becomes a tenant by this

    def cancel_limit(self, limit: Limit, now: float, by: str = "") -> None:
        def work(tx: Transaction) -> None:
            tx.lock_tenant(limit.tenant_id, now)
            rows = tx.limits(limit.tenant_id)
            if limit not in rows:
                raise LimitChanged("the limit was changed since it was read")
            for row in rows if limit.effective_from > now else ():
                if row.identity == limit.identity and row.effective_until == limit.effective_from:
                    tx.update_limit(replace(row, effective_until=limit.effective_until))
            tx.delete_limits([limit.id])
            if not limit.ended(now):
                tx.insert_change(_removal(limit, now, by))

        self._run(work)


def place(tx: Transaction, rows: list[Limit], limit: Limit, now: float) -> tuple[Limit, list[Limit]]:
    """Write a limit among the rows of its identity; return it with its id, and the rows that it replaces."""
    placed, ended, dropped = scheduled(rows, limit, now)
    for row in ended:
        tx.update_limit(row)
    if dropped:
        tx.delete_limits([row.id for row in dropped])
    if not placed.id:
        return tx.insert_limit(placed), dropped
    tx.update_limit(placed)
    return placed, dropped


def _removal(limit: Limit, now: float, by: str) -> Change:
    return change_of("cancel" if limit.effective_from > now else "remove", limit, None, now, by)
