"""API keys, deliveries and kept figures of the SQL stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from sqlalchemy import Delete, Select, Update, and_, bindparam, delete, func, select, update

from ..columns import read_entry
from ..entries import Claim, Entry
from ..records import ApiKey, KeptFigures
from ..services import ServicesTransaction
from .statements import INSERT_DELIVERY, listed, one_of, size_for
from .tables import api_key, delivery, figures, ledger
from .upserts import Upserts

_KEYS = select(api_key).order_by(api_key.c.account, api_key.c.created_at, api_key.c.public_id)
_KEY = _KEYS.where(api_key.c.public_id == bindparam("the_key"))
_KEYS_OF = _KEYS.where(api_key.c.account == bindparam("the_account"))
_REVOKE = (
    update(api_key)
    .where(api_key.c.public_id == bindparam("the_key"), api_key.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("the_time"))
)

_AT_DESTINATION = delivery.c.destination == bindparam("the_destination")
_WAITING = and_(_AT_DESTINATION, delivery.c.parked.is_(False), delivery.c.claimed_until <= bindparam("the_time"))
_OLDEST = select(delivery.c.id).where(_WAITING).order_by(delivery.c.id).limit(bindparam("the_limit"))
_UNPARK = update(delivery).where(_AT_DESTINATION, delivery.c.parked.is_(True)).values(parked=False, claimed_until=0.0)
_PARKED = select(func.count()).select_from(delivery).where(_AT_DESTINATION, delivery.c.parked.is_(True))
_SOME = select(delivery.c.id).where(_WAITING).limit(bindparam("the_limit")).subquery()
_COUNT = select(func.count()).select_from(_SOME)


_FIGURES = select(*(figures.c[name] for name in KeptFigures._fields)).where(figures.c.name == bindparam("the_name"))
_KEEP_FIGURES = (
    update(figures)
    .where(figures.c.name == bindparam("the_name"))
    .values({name: bindparam(f"the_{name}") for name in KeptFigures._fields[1:]})
)
_CLAIM_FIGURES = (
    update(figures)
    .where(figures.c.name == bindparam("the_name"), figures.c.claimed_until <= bindparam("the_time"))
    .values(claimed_until=bindparam("the_end"))
)
_DROP_FIGURES = delete(figures)


def _these(size: int) -> Any:
    return one_of(delivery.c.id, "the_ids", size)


@cache
def _claim(size: int) -> Update:
    free = delivery.c.claimed_until <= bindparam("the_time")
    claim: dict[str, Any] = {"claimed_by": bindparam("the_claimer"), "claimed_until": bindparam("the_end")}
    return update(delivery).where(_these(size), free).values(claim)


@cache
def _claimed(size: int) -> Select[Any]:
    is_mine = and_(delivery.c.claimed_by == bindparam("the_claimer"), delivery.c.claimed_until == bindparam("the_end"))
    its_entry = and_(ledger.c.tenant_id == delivery.c.tenant_id, ledger.c.event_id == delivery.c.event_id)
    rows = select(delivery.c.id.label("delivery_id"), ledger).join(ledger, its_entry, isouter=True)
    return rows.where(_these(size), is_mine).order_by(delivery.c.id)


@cache
def _delete(size: int) -> Delete:
    return delete(delivery).where(_these(size), delivery.c.parked.is_(False))


@cache
def _free(size: int) -> Update:
    return update(delivery).where(_these(size)).values(claimed_until=0.0)


@cache
def _park(size: int) -> Update:
    return update(delivery).where(_these(size)).values(parked=True)


class SqlServices(ServicesTransaction):
    """The primitives of the services on one cursor."""

    _rows: Callable[..., list[Any]]
    _run: Callable[..., Any]
    _run_many: Callable[..., None]
    _changed: Callable[..., bool]
    _upserts: Upserts

    def insert_api_key(self, key: ApiKey) -> bool:
        lists = {"tenants": json.dumps(key.tenants), "permissions": json.dumps(key.permissions)}
        return self._changed(self._upserts.api_key, {**asdict(key), **lists})

    def api_key(self, public_id: str) -> ApiKey | None:
        rows = self._rows(_KEY, {"the_key": public_id})
        return _key_of(rows[0]) if rows else None

    def api_keys(self, account: str | None) -> list[ApiKey]:
        return [_key_of(row) for row in self._rows(_KEYS if account is None else _KEYS_OF, {"the_account": account})]

    def revoke_api_key(self, public_id: str, at: float) -> bool:
        return self._changed(_REVOKE, {"the_key": public_id, "the_time": at})

    def figures(self, name: str) -> KeptFigures | None:
        rows = self._rows(_FIGURES, {"the_name": name})
        return KeptFigures(*rows[0]) if rows else None

    def claim_figures(self, name: str, now: float, until: float) -> bool:
        if self._changed(_CLAIM_FIGURES, {"the_name": name, "the_time": now, "the_end": until}):
            return True
        return self._changed(self._upserts.figures, KeptFigures(name, claimed_until=until)._asdict())

    def keep_figures(self, found: KeptFigures) -> None:
        values = {f"the_{column}": value for column, value in found._asdict().items()}
        self._run(_KEEP_FIGURES, values)

    def drop_figures(self) -> None:
        self._run(_DROP_FIGURES)

    def insert_deliveries(self, destination: str, entries: Sequence[Entry]) -> None:
        new = {"destination": destination, "claimed_by": None, "claimed_until": 0.0, "parked": False}
        rows = [{**new, "tenant_id": entry.event.tenant_id, "event_id": entry.event.event_id} for entry in entries]
        if rows:
            self._run_many(INSERT_DELIVERY, rows)

    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]:
        known = {"the_destination": destination, "the_time": now, "the_limit": limit}
        ids = [number for (number,) in self._rows(_OLDEST, known)]
        if not ids:
            return []
        mine = {**listed("the_ids", ids), "the_claimer": claimer, "the_end": until}
        self._run(_claim(size_for(ids)), {**mine, "the_time": now})
        found: dict[int, dict[str, Any]] = {}
        for number, *columns in self._rows(_claimed(size_for(ids)), mine):
            found[number] = dict(zip(ledger.c.keys(), columns, strict=True))
        gone = [number for number, row in found.items() if row["event_id"] is None]
        if gone:  # their entries were pruned before any sender claimed them
            self.delete_deliveries(gone)
        return [Claim(number, read_entry(row)) for number, row in found.items() if row["event_id"] is not None]

    def delete_deliveries(self, ids: Sequence[int]) -> None:
        self._run(_delete(size_for(ids)), listed("the_ids", ids))

    def free_deliveries(self, ids: Sequence[int]) -> None:
        self._run(_free(size_for(ids)), listed("the_ids", ids))

    def park_deliveries(self, ids: Sequence[int]) -> None:
        self._run(_park(size_for(ids)), listed("the_ids", ids))

    def unpark_deliveries(self, destination: str) -> int:
        changed: int = self._run(_UNPARK, {"the_destination": destination}).rowcount
        return changed

    def waiting_deliveries(self, destination: str, now: float, most: int) -> int:
        known = {"the_destination": destination, "the_time": now, "the_limit": most}
        [(count,)] = self._rows(_COUNT, known)
        return int(count)

    def parked_deliveries(self, destination: str) -> int:
        [(count,)] = self._rows(_PARKED, {"the_destination": destination})
        return int(count)


def _key_of(row: Sequence[Any]) -> ApiKey:
    columns = dict(zip(api_key.c.keys(), row, strict=True))
    return ApiKey(**{**columns, "tenants": tuple(columns["tenants"]), "permissions": tuple(columns["permissions"])})
