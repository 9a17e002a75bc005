"""Outbox: deliver copies of the events of a durable store to a remote backend.

The store writes a delivery row in the transaction of each settle. The outbox reads the rows, so a crash between the two
loses nothing. Delivery is at least once: the event id makes it idempotent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from ..stores.contract import Store
from .addresses import shown
from .buffers import StoreBuffer
from .queue import EventQueue
from .transport import Transport

LONGEST_DESTINATION = 255


def _name_of(url: str) -> str:
    """Return the name of a destination in the rows: its URL, with a hash in place of parts that may be secret."""
    plain = shown(url)
    return url if plain == url else f"{hashlib.sha256(url.encode()).hexdigest()[:12]} {plain}"


class Outbox:
    """Delivers the events of a store to a backend, in the background."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        destination: str,
        *,
        on_flush_error: Callable[[Exception], None] | None = None,
        **queue: Any,
    ) -> None:
        self._store, self._destination = store, _name_of(destination)[:LONGEST_DESTINATION]
        if self._destination not in store.destinations:  # another Meter may share the store
            store.destinations = (*store.destinations, self._destination)
        self._buffer = StoreBuffer(store, self._destination)
        self.queue: EventQueue = EventQueue(
            transport.deliver, buffer=self._buffer, on_flush_error=on_flush_error, **queue
        )

    @property
    def parked(self) -> int:
        """The number of events that the backend refused for good."""
        return self._store.parked_deliveries(self._destination)

    def unpark(self) -> int:
        """Unpark events that the backend refused, so that they are delivered again; return how many."""
        freed = self._buffer.unpark()
        if freed:
            self.queue.wake()
        return freed
