"""The state of tenants, their names and their rows, once, for every store with transactions."""

from __future__ import annotations

from dataclasses import replace

from ..limits import EVERYONE
from ..runtime.faults import ConfigurationError, shown
from .records import Tenant
from .reports import Change, ChangeKind
from .running import Running
from .tenants import Tenants
from .transaction import Transaction


class TransactionalTenants(Running, Tenants):
    """The part of a store that manages tenants."""

    def tenant(self, tenant_id: str) -> Tenant | None:
        return self._read(lambda tx: tx.tenant(tenant_id))

    def suspend(self, tenant_id: str, now: float, reason: str = "", by: str = "") -> bool:
        return self._suspension(tenant_id, now, made_change("suspend", tenant_id, now, by, note=reason))

    def resume(self, tenant_id: str, now: float, by: str = "") -> bool:
        return self._suspension(tenant_id, now, made_change("resume", tenant_id, now, by))

    def _suspension(self, tenant_id: str, now: float, change: Change) -> bool:
        suspended_at = now if change.kind == "suspend" else None

        def work(tx: Transaction) -> bool:
            tx.lock_tenant(tenant_id, now)
            before = known_tenant(tx, tenant_id)
            if (before.suspended_at is None) == (suspended_at is None):
                return False
            tx.update_tenant(before._replace(suspended_at=suspended_at))
            tx.insert_change(change)
            return True

        return self._run(work)

    def name_tenant(self, tenant_id: str, name: str, now: float, by: str = "") -> bool:
        change = made_change("name", tenant_id, now, by, note=name)
        return self._run(lambda tx: change_tenant(tx, change, name=name))

    def rename_tenant(self, tenant_id: str, new_id: str, now: float, by: str = "") -> None:
        def work(tx: Transaction) -> None:
            before = _existing(tx, tenant_id, "tenant_id")
            if tx.tenant(new_id) is not None:
                raise ConfigurationError(f"new_id: a tenant {shown(new_id)} exists; merge the two instead")
            _lock(tx, now, tenant_id, new_id)
            tx.update_tenant(before._replace(tenant_id=new_id))
            for row in tx.limits(tenant_id):
                tx.update_limit(replace(row, tenant_id=new_id))
            tx.move_counters(tenant_id, new_id)
            tx.move_rows(tenant_id, new_id)
            tx.delete_tenant(tenant_id)
            tx.insert_change(made_change("rename", new_id, now, by, note=f"before: {tenant_id}"))

        self._run(work)

    def merge_tenants(self, source: str, target: str, now: float, by: str = "") -> None:
        def work(tx: Transaction) -> None:
            if source == target:
                raise ConfigurationError(f"target: {shown(target)} is the source, too")
            for tenant_id, name in ((source, "source"), (target, "target")):
                _existing(tx, tenant_id, name)
            _lock(tx, now, source, target)
            _drop_limits(tx, source)
            tx.move_rows(source, target)
            own = [limit.id for limit in tx.rules(target).limits if limit.tenant_id != EVERYONE]
            tx.drop_counters(target, own)  # they start again from the ledger of both
            tx.delete_tenant(source)
            tx.insert_change(made_change("merge", target, now, by, note=f"with: {source}"))

        self._run(work)

    def erase_tenant(self, tenant_id: str, now: float, *, anonymous_id: str | None = None, by: str = "") -> int:
        def work(tx: Transaction) -> int:
            _existing(tx, tenant_id, "tenant_id")
            _lock(tx, now, tenant_id, *(() if anonymous_id is None else (anonymous_id,)))
            _drop_limits(tx, tenant_id)
            tx.drop_figures()
            erased = 0
            if anonymous_id is not None:
                erased = tx.anonymise_rows(tenant_id)
                tx.move_rows(tenant_id, anonymous_id)
            erased += tx.delete_tenant(tenant_id)
            note = f"{erased} events {'deleted' if anonymous_id is None else 'made anonymous'}"
            tx.insert_change(made_change("erase", anonymous_id or "", now, by, note=note))
            return erased

        return self._run(work)


def made_change(kind: ChangeKind, tenant_id: str, now: float, by: str, *, plan: str = "", note: str = "") -> Change:
    """Make the row of the history of what is done to a tenant or a plan now."""
    return Change(now, by[:255], kind, tenant_id, "", plan=plan, note=note[:255])


def change_tenant(tx: Transaction, change: Change, **fields: str | None) -> bool:
    """Write fields of a tenant's row and the change into the history; False, and nothing done, if it was so already."""
    tx.lock_tenant(change.tenant_id, change.at)
    before = known_tenant(tx, change.tenant_id)
    after = before._replace(**fields)  # type: ignore[arg-type]  # the callers' fields are texts
    if after == before:
        return False
    tx.update_tenant(after)
    tx.insert_change(change)
    return True


def known_tenant(tx: Transaction, tenant_id: str) -> Tenant:
    """Return the state of a tenant that is locked, so it has a row."""
    return tx.tenant(tenant_id) or Tenant(tenant_id)


def _existing(tx: Transaction, tenant_id: str, name: str) -> Tenant:
    found = tx.tenant(tenant_id)
    if found is None:
        raise ConfigurationError(f"{name}: unknown tenant {shown(tenant_id)}")
    return found


def _lock(tx: Transaction, now: float, *tenant_ids: str) -> None:
    for tenant_id in sorted(tenant_ids):  # one lock order
        tx.lock_tenant(tenant_id, now)


def leave_plan(tx: Transaction, tenant: Tenant) -> None:
    """Drop a tenant's counters of its plan, which no call is charged to from now on."""
    plan = tx.plan(tenant.plan) if tenant.plan else None
    if plan is not None and plan.limits:
        tx.drop_counters(tenant.tenant_id, [limit.id for limit in plan.limits])


def _drop_limits(tx: Transaction, tenant_id: str) -> None:
    """Delete a tenant's own limits, its counters and what its holds hold on them."""
    leave_plan(tx, known_tenant(tx, tenant_id))
    rows = tx.limits(tenant_id)
    if rows:
        tx.delete_limits([row.id for row in rows])
    tx.drop_hold_items(tenant_id)
