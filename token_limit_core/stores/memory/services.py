"""API keys, deliveries and kept figures of the memory store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..entries import Claim, Entry
from ..records import ApiKey, KeptFigures
from ..services import ServicesTransaction


@dataclass(slots=True)
class Delivered:
    """A copy of an entry that waits for its destination."""

    id: int
    destination: str
    entry: Entry
    claimed_until: float = 0.0
    parked: bool = False


class MemoryServices(ServicesTransaction):
    """The primitives on dictionaries."""

    _api_keys: dict[str, ApiKey]
    _deliveries: dict[int, Delivered]
    _last_delivery: int
    _figures: dict[str, KeptFigures]

    def insert_api_key(self, key: ApiKey) -> bool:
        if key.public_id in self._api_keys:
            return False
        self._api_keys[key.public_id] = key
        return True

    def api_key(self, public_id: str) -> ApiKey | None:
        return self._api_keys.get(public_id)

    def api_keys(self, account: str | None) -> list[ApiKey]:
        found = [key for key in self._api_keys.values() if account in (None, key.account)]
        return sorted(found, key=lambda key: (key.account, key.created_at, key.public_id))

    def revoke_api_key(self, public_id: str, at: float) -> bool:
        key = self._api_keys.get(public_id)
        if key is None or key.revoked_at is not None:
            return False
        self._api_keys[public_id] = replace(key, revoked_at=at)
        return True

    def figures(self, name: str) -> KeptFigures | None:
        return self._figures.get(name)

    def claim_figures(self, name: str, now: float, until: float) -> bool:
        found = self._figures.get(name, KeptFigures(name))
        if found.claimed_until > now:
            return False
        self._figures[name] = found._replace(claimed_until=until)
        return True

    def keep_figures(self, found: KeptFigures) -> None:
        if found.name in self._figures:
            self._figures[found.name] = found

    def drop_figures(self) -> None:
        self._figures.clear()

    def insert_deliveries(self, destination: str, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._last_delivery += 1
            self._deliveries[self._last_delivery] = Delivered(self._last_delivery, destination, entry)

    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]:
        claimed = self._waiting(destination, now)[:limit]
        for row in claimed:
            row.claimed_until = until
        return [Claim(row.id, row.entry) for row in claimed]

    def delete_deliveries(self, ids: Sequence[int]) -> None:
        for key in ids:
            if key in self._deliveries and not self._deliveries[key].parked:
                del self._deliveries[key]

    def free_deliveries(self, ids: Sequence[int]) -> None:
        for key in ids:
            if key in self._deliveries:
                self._deliveries[key].claimed_until = 0.0

    def park_deliveries(self, ids: Sequence[int]) -> None:
        for key in ids:
            if key in self._deliveries:
                self._deliveries[key].parked = True

    def unpark_deliveries(self, destination: str) -> int:
        parked = [row for row in self._deliveries.values() if row.parked and row.destination == destination]
        for row in parked:
            row.parked, row.claimed_until = False, 0.0
        return len(parked)

    def waiting_deliveries(self, destination: str, now: float, most: int) -> int:
        return min(most, len(self._waiting(destination, now)))

    def parked_deliveries(self, destination: str) -> int:
        return sum(row.parked for row in self._deliveries.values() if row.destination == destination)

    def _waiting(self, destination: str, now: float) -> list[Delivered]:
        rows = self._deliveries.values()
        return [r for r in rows if r.destination == destination and not r.parked and r.claimed_until <= now]
