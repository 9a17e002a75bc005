"""What the ORM store keeps of other services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from django.db.models import Model, QuerySet

from token_limit_core.ingest import keys
from token_limit_core.stores.columns import read_entry
from token_limit_core.stores.records import Entry
from token_limit_core.stores.services import Claim, PeersTransaction

from .models import ApiKey, Delivery, LedgerEntry

M = TypeVar("M", bound=Model)


class OrmPeers(PeersTransaction):
    """The primitives on one database alias."""

    if TYPE_CHECKING:

        def _rows(self, model: type[M]) -> QuerySet[M]: ...

    def insert_api_key(self, key: keys.ApiKey) -> bool:
        if self.api_key(key.public_id) is not None:
            return False
        columns = {**asdict(key), "tenants": list(key.tenants), "permissions": list(key.permissions)}
        self._rows(ApiKey).bulk_create([ApiKey(**columns)], ignore_conflicts=True)
        found = self.api_key(key.public_id)  # of two at once the second is told nothing of its conflict
        return found is not None and found.digest == key.digest

    def api_key(self, public_id: str) -> keys.ApiKey | None:
        row = self._rows(ApiKey).filter(public_id=public_id).values().first()
        return None if row is None else _key_of(row)

    def api_keys(self, account: str | None) -> list[keys.ApiKey]:
        rows = self._rows(ApiKey).order_by("account", "created_at", "public_id")
        return [_key_of(row) for row in (rows if account is None else rows.filter(account=account)).values()]

    def revoke_api_key(self, public_id: str, at: float) -> bool:
        return self._rows(ApiKey).filter(public_id=public_id, revoked_at=None).update(revoked_at=at) > 0

    def insert_deliveries(self, destination: str, entries: Sequence[Entry]) -> None:
        rows = [
            Delivery(destination=destination, tenant_id=entry.event.tenant_id, event_id=entry.event.event_id)
            for entry in entries
        ]
        self._rows(Delivery).bulk_create(rows, batch_size=500)

    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]:
        oldest = self._waiting(destination, now).order_by("id").values_list("id", flat=True)[:limit]
        ids = list(oldest)
        if not ids:
            return []
        these = self._rows(Delivery).filter(id__in=ids)
        these.filter(claimed_until__lte=now).update(claimed_by=claimer, claimed_until=until)
        mine = list(these.filter(claimed_by=claimer, claimed_until=until).order_by("id"))
        entries = self._entries(mine)
        gone = [row.id for row in mine if (row.tenant_id, row.event_id) not in entries]
        if gone:  # pruned before anybody took it
            self.delete_deliveries(gone)
        return [
            Claim(row.id, entries[row.tenant_id, row.event_id])
            for row in mine
            if (row.tenant_id, row.event_id) in entries
        ]

    def delete_deliveries(self, ids: Sequence[int]) -> None:
        self._rows(Delivery).filter(id__in=ids, parked=False).delete()

    def free_deliveries(self, ids: Sequence[int]) -> None:
        self._rows(Delivery).filter(id__in=ids).update(claimed_until=0.0)

    def park_deliveries(self, ids: Sequence[int]) -> None:
        self._rows(Delivery).filter(id__in=ids).update(parked=True)

    def unpark_deliveries(self, destination: str) -> int:
        return self._rows(Delivery).filter(destination=destination, parked=True).update(parked=False, claimed_until=0.0)

    def waiting_deliveries(self, destination: str, now: float, most: int) -> int:
        return self._waiting(destination, now).values("id")[:most].count()

    def parked_deliveries(self, destination: str) -> int:
        return self._rows(Delivery).filter(destination=destination, parked=True).count()

    def _waiting(self, destination: str, now: float) -> QuerySet[Delivery]:
        return self._rows(Delivery).filter(destination=destination, parked=False, claimed_until__lte=now)

    def _entries(self, rows: Sequence[Delivery]) -> dict[tuple[str, str], Entry]:
        tenants, events = {row.tenant_id for row in rows}, [row.event_id for row in rows]
        found = self._rows(LedgerEntry).filter(tenant_id__in=tenants, event_id__in=events).values()
        return {(row["tenant_id"], row["event_id"]): read_entry(row) for row in found}


def _key_of(row: Any) -> keys.ApiKey:
    return keys.ApiKey(**{**row, "tenants": tuple(row["tenants"]), "permissions": tuple(row["permissions"])})
