"""Where events wait for their delivery: in memory, or in rows that outlive the process and others work on too."""

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
"""A claim outlives the longest delivery; then another process may deliver the rows again, which the id makes safe."""

RECOUNT_SECONDS = 1.0
MOST_COUNTED = 10_000
"""A backlog beyond this is not counted to its end: nobody needs to know, and counting a million rows takes long."""


class Buffer(Protocol):
    """Where events wait for their delivery. The queue calls it under its own lock, but for `put`."""

    dropped: int
    """How many events gave way because too many waited."""

    shared: bool
    """Whether others fill it too, so that it has to be looked at from time to time."""

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        """Append an event; return those that had to give way."""

    def take(self, limit: int) -> list[LLMEvent]:
        """Hand the oldest events out for a delivery."""

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Forget events that were delivered, or that no later attempt would bring over."""

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        """Put events back in front after an attempt that failed; return those that had to give way."""

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Set events aside, of those handed out, that the destination refused for good; `done` follows."""

    def reset(self) -> None:
        """Start anew in a forked child: what the parent captured, the parent delivers."""

    def __len__(self) -> int: ...


class MemoryBuffer:
    """At most `size` events in memory; the oldest gives way. A crash loses them."""

    shared = False

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset()

    def reset(self) -> None:
        self._events: deque[LLMEvent] = deque()
        self.dropped = 0

    def put(self, event: LLMEvent) -> Sequence[LLMEvent]:
        self._events.append(event)
        return self._shrink()

    def take(self, limit: int) -> list[LLMEvent]:
        return [self._events.popleft() for _ in range(min(len(self._events), limit))]

    def done(self, batch: Sequence[LLMEvent]) -> None:
        """Nothing is left of what was taken."""

    def restore(self, batch: Sequence[LLMEvent]) -> Sequence[LLMEvent]:
        self._events.extendleft(reversed(batch))
        return self._shrink()

    def park(self, batch: Sequence[LLMEvent]) -> None:
        """Nothing is kept: memory is for what can still be delivered."""

    def _shrink(self) -> Sequence[LLMEvent]:
        gone = [self._events.popleft() for _ in range(len(self._events) - self._size)]
        self.dropped += len(gone)
        return gone

    def __len__(self) -> int:
        return len(self._events)


class SharedBuffer(ABC):
    """What buffers outside the process have in common: others fill and empty them too, so they count now and then."""

    shared = True
    dropped = 0
    _counted_at: float

    def reset(self) -> None:
        """Start anew in a forked child; the rows are there for whoever comes first."""
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
        """Count the rows that nobody has claimed, up to `MOST_COUNTED`."""

    def _took(self, number: int, limit: int) -> None:
        """Count what was claimed no longer; where there was as much as asked for, there may be more."""
        self._count = 0
        if number == limit:
            self._recount()

    def _recount(self) -> None:
        self._counted_at = -RECOUNT_SECONDS


class StoreBuffer(SharedBuffer):
    """A `Buffer` of an `EventQueue` over the delivery rows of a store; others may work on the same rows."""

    def __init__(self, store: Store, destination: str) -> None:
        self._store, self._destination = store, destination
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._claimed: dict[tuple[str, str], int] = {}

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
        self._took(len(claims), limit)
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
