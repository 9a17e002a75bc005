"""The Services contract: API keys of the services that report here, deliveries to other services, kept figures.

A delivery row is written in the transaction that settles the call, and deleted once the destination has acknowledged
the event. A cursor over ledger ids would skip rows that commit out of order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..runtime.faults import StoreError
from .entries import Claim, Entry
from .records import ApiKey, KeptFigures
from .reports import Change, ReportsTransaction

T = TypeVar("T")


class ServicesTransaction(ReportsTransaction):
    """The queries of the services on one database engine."""

    @abstractmethod
    def insert_api_key(self, key: ApiKey) -> bool:
        """Insert the key; return False if its public id exists."""

    @abstractmethod
    def api_key(self, public_id: str) -> ApiKey | None: ...

    @abstractmethod
    def api_keys(self, account: str | None) -> list[ApiKey]: ...

    @abstractmethod
    def revoke_api_key(self, public_id: str, at: float) -> bool: ...

    @abstractmethod
    def figures(self, name: str) -> KeptFigures | None: ...

    @abstractmethod
    def claim_figures(self, name: str, now: float, until: float) -> bool: ...

    @abstractmethod
    def keep_figures(self, found: KeptFigures) -> None: ...

    @abstractmethod
    def drop_figures(self) -> None:
        """Delete all figures that are kept, as they may name who is to be forgotten."""

    @abstractmethod
    def insert_deliveries(self, destination: str, entries: Sequence[Entry]) -> None: ...

    @abstractmethod
    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]: ...

    @abstractmethod
    def delete_deliveries(self, ids: Sequence[int]) -> None: ...

    @abstractmethod
    def free_deliveries(self, ids: Sequence[int]) -> None: ...

    @abstractmethod
    def park_deliveries(self, ids: Sequence[int]) -> None: ...

    @abstractmethod
    def unpark_deliveries(self, destination: str) -> int: ...

    @abstractmethod
    def waiting_deliveries(self, destination: str, now: float, most: int) -> int: ...

    @abstractmethod
    def parked_deliveries(self, destination: str) -> int: ...


class Services:
    """API keys, deliveries and kept figures. A store without local rows raises `StoreError` in all methods."""

    destinations: tuple[str, ...] = ()
    """The destinations that get a copy of each event; an `Outbox` adds its destination here."""

    def add_api_key(self, key: ApiKey, by: str = "") -> bool:
        """Store a key; return False if its public id exists. `by` is the actor in the history."""

        def work(tx: ServicesTransaction) -> bool:
            new = tx.insert_api_key(key)
            if new:
                tx.insert_change(Change(key.created_at, by[:255], "make-key", "", "", key.public_id))
            return new

        return self._services(work)

    def api_key(self, public_id: str) -> ApiKey | None:
        """Find a key, revoked or not."""
        return self._services(lambda tx: tx.api_key(public_id))

    def api_keys(self, account: str | None = None) -> list[ApiKey]:
        """List the keys of one account or of all, ordered by account and age."""
        return self._services(lambda tx: tx.api_keys(account))

    def revoke_api_key(self, public_id: str, now: float, by: str = "") -> bool:
        """Revoke a key from `now` on; return False if it does not exist or is revoked already."""

        def work(tx: ServicesTransaction) -> bool:
            done = tx.revoke_api_key(public_id, now)
            if done:
                tx.insert_change(Change(now, by[:255], "revoke-key", "", "", public_id))
            return done

        return self._services(work)

    def figures(self, name: str) -> KeptFigures | None:
        """Read figures that are kept, since they take long to add up."""
        return self._services(lambda tx: tx.figures(name))

    def claim_figures(self, name: str, now: float, until: float) -> bool:
        """Claim to add up newer figures; False if another process has claimed it beyond `now`."""
        return self._services(lambda tx: tx.claim_figures(name, now, until))

    def keep_figures(self, found: KeptFigures) -> None:
        """Write figures over the earlier ones of a claim; nothing is done where a tenant was erased since then."""
        self._services(lambda tx: tx.keep_figures(found))

    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]:
        """Claim the oldest waiting deliveries whose claim has ended by `now`; the new claim ends at `until`."""
        return self._services(lambda tx: tx.claim_deliveries(destination, claimer, now, until, limit))

    def end_deliveries(self, ids: Sequence[int]) -> None:
        """Delete acknowledged deliveries; parked ones stay."""
        self._services(lambda tx: tx.delete_deliveries(ids))

    def free_deliveries(self, ids: Sequence[int]) -> None:
        """Release the claims of deliveries."""
        self._services(lambda tx: tx.free_deliveries(ids))

    def park_deliveries(self, ids: Sequence[int]) -> None:
        """Park deliveries that the destination rejected permanently: keep them, and do not retry them."""
        self._services(lambda tx: tx.park_deliveries(ids))

    def unpark_deliveries(self, destination: str) -> int:
        """Make parked deliveries due again; return how many."""
        return self._services(lambda tx: tx.unpark_deliveries(destination))

    def waiting_deliveries(self, destination: str, now: float, most: int) -> int:
        """Count waiting deliveries without a claim, up to `most`."""
        return self._services(lambda tx: tx.waiting_deliveries(destination, now, most))

    def parked_deliveries(self, destination: str) -> int:
        """Count the parked deliveries."""
        return self._services(lambda tx: tx.parked_deliveries(destination))

    def _services(self, work: Callable[[ServicesTransaction], T]) -> T:
        raise StoreError("this store keeps no API keys and no deliveries; use a local store")
