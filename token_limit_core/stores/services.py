"""What a store keeps of other services: the keys of those that report here, the deliveries to those we report to.

A delivery row is written in the settle's own transaction and deleted once the destination has acknowledged the event:
a cursor over ledger ids would skip rows that commit out of order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..ingest.keys import ApiKey
from ..runtime.faults import StoreError
from .reports import Change

if TYPE_CHECKING:
    from .contract import Transaction
    from .records import Entry

T = TypeVar("T")


class Claim(NamedTuple):
    """A delivery that a sender has taken on: the row's number, and what to deliver."""

    id: int
    entry: Entry


class Peers:
    """The half of a Store that knows other services; one that keeps no rows of its own says so with `StoreError`."""

    destinations: tuple[str, ...] = ()
    """Where copies of each call's event are to be delivered; an `Outbox` adds itself."""

    def add_api_key(self, key: ApiKey, by: str = "") -> bool:
        """Store a key; False, and nothing done, where there is one with its public id. `by` goes into the history."""

        def work(tx: Transaction) -> bool:
            new = tx.insert_api_key(key)
            if new:
                tx.insert_change(Change(key.created_at, by[:255], "make-key", "", "", key.public_id))
            return new

        return self._peers(work)

    def api_key(self, public_id: str) -> ApiKey | None:
        """Find a key, revoked or not."""
        return self._peers(lambda tx: tx.api_key(public_id))

    def api_keys(self, account: str | None = None) -> list[ApiKey]:
        """List the keys of an account, or all, by account and age."""
        return self._peers(lambda tx: tx.api_keys(account))

    def revoke_api_key(self, public_id: str, now: float, by: str = "") -> bool:
        """Make a key useless from now on; False where there is none, or it is revoked already."""

        def work(tx: Transaction) -> bool:
            done = tx.revoke_api_key(public_id, now)
            if done:
                tx.insert_change(Change(now, by[:255], "revoke-key", "", "", public_id))
            return done

        return self._peers(work)

    def claim_deliveries(self, destination: str, claimer: str, now: float, until: float, limit: int) -> list[Claim]:
        """Take on the oldest deliveries that wait and that nobody has claimed past `now`; the claim ends at `until`."""
        return self._peers(lambda tx: tx.claim_deliveries(destination, claimer, now, until, limit))

    def end_deliveries(self, ids: Sequence[int]) -> None:
        """Forget deliveries that were acknowledged; those that are parked stay."""
        self._peers(lambda tx: tx.delete_deliveries(ids))

    def free_deliveries(self, ids: Sequence[int]) -> None:
        """Give claimed deliveries back."""
        self._peers(lambda tx: tx.free_deliveries(ids))

    def park_deliveries(self, ids: Sequence[int]) -> None:
        """Keep deliveries that the destination refused for good, without trying them again."""
        self._peers(lambda tx: tx.park_deliveries(ids))

    def unpark_deliveries(self, destination: str) -> int:
        """Let parked deliveries be tried again; return how many."""
        return self._peers(lambda tx: tx.unpark_deliveries(destination))

    def waiting_deliveries(self, destination: str, now: float, most: int) -> int:
        """Count the deliveries that wait unclaimed, to `most`."""
        return self._peers(lambda tx: tx.waiting_deliveries(destination, now, most))

    def parked_deliveries(self, destination: str) -> int:
        """Count the deliveries that the destination refused for good."""
        return self._peers(lambda tx: tx.parked_deliveries(destination))

    def _peers(self, work: Callable[[Transaction], T]) -> T:
        raise StoreError("this store keeps neither API keys nor deliveries; use a local one")


class PeersTransaction(ABC):
    """The primitives on one engine."""

    @abstractmethod
    def insert_api_key(self, key: ApiKey) -> bool:
        """Insert the key; False when its public id is taken."""

    @abstractmethod
    def api_key(self, public_id: str) -> ApiKey | None: ...

    @abstractmethod
    def api_keys(self, account: str | None) -> list[ApiKey]: ...

    @abstractmethod
    def revoke_api_key(self, public_id: str, at: float) -> bool: ...

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
