"""What the SQL store keeps of other services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, insert, select, update

from ...ingest.keys import ApiKey
from ..columns import read_entry
from ..records import Entry
from ..services import Claim, PeersTransaction
from .statements import Inserts
from .tables import api_key, delivery, ledger

_KEYS = select(api_key)
_REVOKE = (
    update(api_key)
    .where(api_key.c.public_id == bindparam("the_key"), api_key.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("the_time"))
)

_WAITING = and_(
    delivery.c.destination == bindparam("the_destination"),
    delivery.c.parked.is_(False),
    delivery.c.claimed_until <= bindparam("the_time"),
)
_THESE = delivery.c.id.in_(bindparam("the_ids", expanding=True))
_INSERT = insert(delivery)
_OLDEST = select(delivery.c.id).where(_WAITING).order_by(delivery.c.id).limit(bindparam("the_limit"))
_CLAIM = (
    update(delivery)
    .where(_THESE, delivery.c.claimed_until <= bindparam("the_time"))
    .values(claimed_by=bindparam("the_claimer"), claimed_until=bindparam("the_end"))
)
_CLAIMED = (
    select(delivery.c.id.label("delivery_id"), ledger)
    .join(
        ledger, and_(ledger.c.tenant_id == delivery.c.tenant_id, ledger.c.event_id == delivery.c.event_id), isouter=True
    )
    .where(_THESE, delivery.c.claimed_by == bindparam("the_claimer"), delivery.c.claimed_until == bindparam("the_end"))
    .order_by(delivery.c.id)
)
_DELETE = delete(delivery).where(_THESE, delivery.c.parked.is_(False))
_FREE = update(delivery).where(_THESE).values(claimed_until=0.0)
_PARK = update(delivery).where(_THESE).values(parked=True)
_UNPARK = (
    update(delivery)
    .where(delivery.c.destination == bindparam("the_destination"), delivery.c.parked.is_(True))
    .values(parked=False, claimed_until=0.0)
)
_PARKED = (
    select(func.count())
    .select_from(delivery)
    .where(delivery.c.destination == bindparam("the_destination"), delivery.c.parked.is_(True))
)
_SOME = select(delivery.c.id).where(_WAITING).limit(bindparam("the_limit")).subquery()
_COUNT = select(func.count()).select_from(_SOME)


class SqlPeers(PeersTransaction):
    """The primitives on one connection."""

    _execute: Callable[..., Any]
    _inserts: Inserts

    def insert_api_key(self, key: ApiKey) -> bool:
        row = {**asdict(key), "tenants": list(key.tenants), "permissions": list(key.permissions)}
        inserted: int = self._execute(self._inserts.api_key, row).rowcount
        return inserted > 0

    def api_key(self, public_id: str) -> ApiKey | None:
        row = self._execute(_KEYS.where(api_key.c.public_id == public_id)).mappings().first()
        return None if row is None else _key_of(row)

    def api_keys(self, account: str | None) -> list[ApiKey]:
        wanted = _KEYS if account is None else _KEYS.where(api_key.c.account == account)
        ordered = wanted.order_by(api_key.c.account, api_key.c.created_at, api_key.c.public_id)
        return [_key_of(row) for row in self._execute(ordered).mappings()]

    def revoke_api_key(self, public_id: str, at: float) -> bool:
        changed: int = self._execute(_REVOKE, {"the_key": public_id, "the_time": at}).rowcount
        return changed > 0

    def insert_deliveries(self, destination: str, entries: Sequence[Entry]) -> None:
        rows = [
            {"destination": destination, "tenant_id": entry.event.tenant_id, "event_id": entry.event.event_id}
            for entry in entries
        ]
        if rows:
            self._execute(_INSERT, rows)

    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]:
        known = {"the_destination": destination, "the_time": now, "the_limit": limit}
        ids = list(self._execute(_OLDEST, known).scalars())
        if not ids:
            return []
        mine = {"the_ids": ids, "the_claimer": claimer, "the_end": until}
        self._execute(_CLAIM, {**mine, "the_time": now})
        rows = [dict(row) for row in self._execute(_CLAIMED, mine).mappings()]
        gone = [row["delivery_id"] for row in rows if row["event_id"] is None]
        if gone:  # pruned before anybody took it
            self.delete_deliveries(gone)
        return [Claim(row["delivery_id"], read_entry(row)) for row in rows if row["event_id"] is not None]

    def delete_deliveries(self, ids: Sequence[int]) -> None:
        self._execute(_DELETE, {"the_ids": list(ids)})

    def free_deliveries(self, ids: Sequence[int]) -> None:
        self._execute(_FREE, {"the_ids": list(ids)})

    def park_deliveries(self, ids: Sequence[int]) -> None:
        self._execute(_PARK, {"the_ids": list(ids)})

    def unpark_deliveries(self, destination: str) -> int:
        changed: int = self._execute(_UNPARK, {"the_destination": destination}).rowcount
        return changed

    def waiting_deliveries(self, destination: str, now: float, most: int) -> int:
        known = {"the_destination": destination, "the_time": now, "the_limit": most}
        count: int = self._execute(_COUNT, known).scalar_one()
        return count

    def parked_deliveries(self, destination: str) -> int:
        count: int = self._execute(_PARKED, {"the_destination": destination}).scalar_one()
        return count


def _key_of(row: Any) -> ApiKey:
    columns = dict(row)
    return ApiKey(**{**columns, "tenants": tuple(row["tenants"]), "permissions": tuple(row["permissions"])})
