"""What a process knows of its leases: slices of counters, and the calls that were admitted from them. No I/O.

Amounts are in the unit of a counter's limit. The caller holds the lock of `Leases`.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..events import LLMEvent
from ..limits import CounterKey, Limit
from ..stores.admission import hold_for, raised_on
from ..stores.entries import entry_for
from ..stores.records import Call, Hold


class HeldLease:
    """A hold in the store, and its slices in the order of the hold's items. `calls` counts those in flight."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.slices: dict[CounterKey, Slice] = {}
        self.calls = 0
        self.ended = False
        self.released = False
        self.lock = threading.Lock()
        """Held while the store is asked to change the hold."""

    def needs(self) -> tuple[int, ...]:
        """Return what the hold has to hold on its counters from now on, and let nothing be left beyond that."""
        for slice in self.slices.values():
            slice.left = 0 if self.ended else max(0, slice.left)
        return tuple(slice.flying + slice.left for slice in self.slices.values())


class Slice:
    """What a lease has of one counter: `flying` is held by calls in flight, `left` is free.

    `served` counts the calls admitted from it. `left` is negative where calls have cost more than they held.
    """

    __slots__ = ("end", "flying", "key", "lease", "left", "limit", "served")

    def __init__(self, lease: HeldLease, key: CounterKey, limit: Limit, end: float, amount: int) -> None:
        self.lease, self.key, self.limit, self.end = lease, key, limit, end
        self.left, self.flying, self.served = amount, 0, 0


class Taken:
    """A call in flight, and what it holds of slices; it counts no longer after `expires_at` (unix seconds)."""

    def __init__(self, call: Call, amounts: dict[Slice, int], now: float) -> None:
        self.call, self.amounts, self.expires_at = call, amounts, now + call.hold_seconds
        for slice, amount in amounts.items():
            slice.left -= amount
            slice.flying += amount
            slice.served += 1
        for lease in self.leases():
            lease.calls += 1

    def leases(self) -> set[HeldLease]:
        """Return the leases that the call was admitted from."""
        return {slice.lease for slice in self.amounts}

    def rise(self, amount: int | None, tokens: int) -> None:
        """Hold at least so much (nano-dollars, tokens) on each counter, whatever is left."""
        hold = hold_for(self.call, (), (), 0.0)
        for slice, held in self.amounts.items():
            self.amounts[slice] = raised_on(slice.limit, hold, held, amount, tokens)
            slice.flying += self.amounts[slice] - held
            slice.left -= self.amounts[slice] - held

    def end(self, event: LLMEvent | None, cost_nano: int | None) -> None:
        """Give back what the call held and did not cost; None is a call that was never made."""
        for slice, amount in self.amounts.items():
            spent = 0 if event is None else max(0, entry_for(event, cost_nano).amount_on(slice.limit))
            slice.flying -= amount
            slice.left += amount - spent
        for lease in self.leases():
            lease.calls -= 1

    def own_hold(self, call_id: str, now: float, expires_at: float) -> Hold:
        """Make the hold that a plain call would have, under another id."""
        hold = hold_for(self.call, (), tuple(self.amounts.values()), now)
        return hold._replace(call_id=call_id, items=tuple(slice.key for slice in self.amounts), expires_at=expires_at)


class View(NamedTuple):
    """What a call, with its markup, finds: slices it fits into, counters without a slice, and slices that are full."""

    call: Call
    amounts: dict[Slice, int]
    missing: list[CounterKey]
    full: list[Slice]
