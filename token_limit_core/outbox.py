"""Outbox: copies of what a durable store has recorded, on their way to a remote backend.

The store writes a delivery row in each settle's own transaction; this reads what is unsent, so a crash between the two
loses nothing. At least once: the event id makes a second delivery harmless.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from .events import LLMEvent
from .queue import CLAIM_SECONDS, MOST_COUNTED, RECOUNT_SECONDS, EventQueue
from .stores.base import Store
from .transport import Transport

LONGEST_DESTINATION = 255


class StoreBuffer:
    """A `Buffer` of an `EventQueue` over the delivery rows of a store; others may work on the same rows."""

    shared = True
    dropped = 0

    def __init__(self, store: Store, destination: str) -> None:
        self._store, self._destination = store, destination
        self.reset()

    def reset(self) -> None:
        """Start anew in a forked child; the rows are in the store for whoever comes first."""
        self._me = uuid.uuid4().hex
        self._claimed: dict[tuple[str, str], int] = {}
        self._count = 0
        self._counted_at = -RECOUNT_SECONDS

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        """Count an event: its row is in the store already."""
        self._count += 1
        return ()

    def take(self, limit: int) -> list[LLMEvent]:
        """Claim the oldest rows that nobody has claimed."""
        now = time.time()
        claims = self._store.claim_deliveries(self._destination, self._me, now, now + CLAIM_SECONDS, limit)
        events = [claim.entry.event for claim in claims]
        self._claimed.update(zip(map(_key, events), (claim.id for claim in claims), strict=True))
        self._count = 0
        if len(claims) == limit:  # there may be more, of other processes too
            self._counted_at = -RECOUNT_SECONDS
        return events

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Forget what was acknowledged; rows that were parked meanwhile stay."""
        self._store.end_deliveries(self._ids(batch))

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        """Give claimed rows back."""
        self._store.free_deliveries(self._ids(batch))
        self._count += len(batch)
        return ()

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Keep what the backend refused for good, without trying it again."""
        self._store.park_deliveries([self._claimed[key] for key in map(_key, batch) if key in self._claimed])

    def unpark(self) -> int:
        """Let parked rows be tried again; return how many."""
        freed = self._store.unpark_deliveries(self._destination)
        self._counted_at = -RECOUNT_SECONDS
        return freed

    def __len__(self) -> int:
        now = time.monotonic()
        if now - self._counted_at >= RECOUNT_SECONDS:
            self._count = self._store.waiting_deliveries(self._destination, time.time(), MOST_COUNTED)
            self._counted_at = now
        return self._count

    def _ids(self, batch: Sequence[LLMEvent]) -> list[int]:
        # a claim that ran out may have been taken again, and ended, by another thread
        found = [self._claimed.pop(_key(event), None) for event in batch]
        return [key for key in found if key is not None]


def _key(event: LLMEvent) -> tuple[str, str]:
    return event.tenant_id, event.event_id


class Outbox:
    """Delivers what a store records to a backend, in the background."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        destination: str,
        *,
        on_flush_error: Callable[[Exception], None] | None = None,
        **queue: Any,
    ) -> None:
        self._store, self._destination = store, destination[:LONGEST_DESTINATION]
        if self._destination not in store.destinations:  # another Meter may share the store
            store.destinations = (*store.destinations, self._destination)
        self._buffer = StoreBuffer(store, self._destination)
        self.queue = EventQueue(transport.deliver, buffer=self._buffer, on_flush_error=on_flush_error, **queue)

    @property
    def parked(self) -> int:
        """How many events the backend refused for good."""
        return self._store.parked_deliveries(self._destination)

    def unpark(self) -> int:
        """Let events that the backend refused be tried again; return how many."""
        freed = self._buffer.unpark()
        if freed:
            self.queue.wake()
        return freed
