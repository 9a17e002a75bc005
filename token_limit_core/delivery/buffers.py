"""Buffers of events that wait for delivery: in memory, or in rows that several processes share."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ..events import LLMEvent
from ..stores.contract import Store

CLAIM_SECONDS = 60.0
"""Seconds of a claim, longer than any delivery. Later another process may deliver the rows again: ids make it safe."""

RECOUNT_SECONDS = 1.0
MOST_COUNTED = 10_000
"""The most rows that are counted. Counting a million rows would take long."""


class Buffer(Protocol):
    """A buffer of an `EventQueue`, which calls every method but `put` under its lock."""

    dropped: int
    """The number of events that were dropped because the buffer was full."""

    shared: bool
    """Whether other processes fill it, too, so that the queue polls it."""

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        """Append an event; return the events that were dropped for it."""

    def take(self, limit: int) -> list[LLMEvent]:
        """Claim and return the oldest events for a delivery."""

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Delete events that were delivered or parked."""

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        """Put events back to the front after a failed attempt; return the events that were dropped."""

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Park claimed events that the destination refused for good. The queue calls `done` next."""

    def reset(self) -> None:
        """Empty the buffer in a forked child: the parent delivers its own events."""

    def __len__(self) -> int: ...


class MemoryBuffer:
    """At most `size` events in memory; a full buffer drops the oldest. A crash loses all."""

    shared = False

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset()

    def reset(self) -> None:
        self._events: deque[LLMEvent] = deque()
        self.dropped: int = 0

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        self._events.append(event)
        return self._shrink()

    def take(self, limit: int) -> list[LLMEvent]:
        return [self._events.popleft() for _ in range(min(len(self._events), limit))]

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Do nothing: `take` has removed the events."""

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        self._events.extendleft(reversed(batch))
        return self._shrink()

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Do nothing: memory keeps only events that can still be delivered."""

    def _shrink(self) -> Sequence[LLMEvent]:
        gone = [self._events.popleft() for _ in range(len(self._events) - self._size)]
        self.dropped += len(gone)
        return gone

    def __len__(self) -> int:
        return len(self._events)


class SharedBuffer(ABC):
    """A buffer in rows. Other processes fill and empty it, too, so the rows are counted from time to time."""

    shared = True
    dropped = 0
    _counted_at: float

    def reset(self) -> None:
        """Take a new identity in a forked child. Any process may claim the rows."""
        self._me = uuid.uuid4().hex
        self._count = 0
        self._recount()

    def __len__(self) -> int:
        now = time.monotonic()
        if now - self._counted_at >= RECOUNT_SECONDS:
            self._count = self._count_waiting()
            self._counted_at = now
        return self._count

    @abstractmethod
    def _count_waiting(self) -> int:
        """Count the rows that no process has claimed, up to `MOST_COUNTED`."""

    def _took(self, number: int, limit: int) -> None:
        """Stop counting rows that were claimed. If the claim was full, there may be more: count again."""
        self._count = 0
        if number == limit:
            self._recount()

    def _recount(self) -> None:
        self._counted_at = -RECOUNT_SECONDS


class StoreBuffer(SharedBuffer):
    """A buffer in the delivery rows of a store, which other processes may claim, too."""

    def __init__(self, store: Store, destination: str) -> None:
        self._store, self._destination = store, destination
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._claimed: dict[tuple[str, str], int] = {}

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        """Count an event. Its row is in the store already."""
        self._count += 1
        return ()

    def take(self, limit: int) -> list[LLMEvent]:
        """Claim the oldest rows that no process has claimed."""
        now = time.time()
        claims = self._store.claim_deliveries(self._destination, self._me, now, now + CLAIM_SECONDS, limit)
        events = [claim.entry.event for claim in claims]
        self._claimed.update(zip(map(_key, events), (claim.id for claim in claims), strict=True))
        self._took(len(claims), limit)
        return events

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Delete the rows of delivered events. Parked rows stay."""
        self._store.end_deliveries(self._ids(batch))

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        """Release the claims of rows."""
        self._store.free_deliveries(self._ids(batch))
        self._count += len(batch)
        return ()

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Park rows that the backend refused for good: keep them without a retry."""
        self._store.park_deliveries([self._claimed[key] for key in map(_key, batch) if key in self._claimed])

    def unpark(self) -> int:
        """Unpark rows, so that they are delivered again; return how many."""
        freed = self._store.unpark_deliveries(self._destination)
        self._recount()
        return freed

    def _count_waiting(self) -> int:
        return self._store.waiting_deliveries(self._destination, time.time(), MOST_COUNTED)

    def _ids(self, batch: Sequence[LLMEvent]) -> list[int]:
        # a claim that ran out may have been taken again, and ended, by another thread
        found = [self._claimed.pop(_key(event), None) for event in batch]
        return [key for key in found if key is not None]


def _key(event: LLMEvent) -> tuple[str, str]:
    return event.tenant_id, event.event_id
