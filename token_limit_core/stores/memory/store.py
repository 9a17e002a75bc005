"""The memory store: one process, nothing kept. For tests, demos and single-process tools.

A plain call goes straight to the dictionaries, as there is a budget of microseconds for it (research: performance);
whatever is out of the ordinary goes through the ledger algorithm that all stores share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import inf
from types import TracebackType
from typing import TypeVar

from ...events import LLMEvent
from ...limits import ADMITTED, CounterKey, Decision, Limit, items_for
from ...runtime.forks import after_fork
from ..contract import Transaction
from ..records import NO_SPEND, Call, Entry, Hold, Recorded, Spend, add_to_spend, day_of, entry_of, hold_of
from ..transactional import TransactionalStore
from .reports import MemoryReports
from .services import MemoryServices

T = TypeVar("T")


class MemoryStore(TransactionalStore):
    """Keep everything in dictionaries behind one lock."""

    durable = False
    leaves_loop = False

    def __init__(self) -> None:
        self._tables = _Tables()

    def begin(self) -> _Tables:
        return self._tables

    def admit(self, call: Call, now: float) -> Decision:
        """Set the estimate aside at once where no limit is reached, whatever its mode; any other case takes its way."""
        call_id, tenant_id, estimate, seconds, origin, _ = call
        tables = self._tables
        with tables.lock:
            ground = tables.grounds.get(tenant_id)
            if ground is None or not ground.start <= now < ground.end:
                ground = tables.ground(tenant_id, now)
            if ground is not None:
                for counter, amount in ground.counters:
                    if counter[0] + counter[1] >= amount:
                        break
                else:
                    if estimate is not None:
                        for counter, _ in ground.counters:
                            counter[1] += estimate
                    if ground.keys:
                        hold = (call_id, tenant_id, estimate, now, now + seconds, origin, "open", ground.keys)
                        tables.holds[call_id] = hold_of(hold)
                    return ADMITTED
        return super().admit(call, now)

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        """Close a hold at once whose counters are still those to charge; any other case takes its way."""
        tables, tenant_id, event_id = self._tables, event.tenant_id, event.event_id
        with tables.lock:
            hold, ground = tables.holds.get(call_id), tables.grounds.get(tenant_id)
            if hold is not None and ground is not None and hold[7] is ground.keys and not self.destinations:
                ledger, amount = tables.ledger[tenant_id], hold[2]
                if hold[6] == "open" and hold[3] == event.timestamp and event_id not in ledger:
                    ledger[event_id] = entry = entry_of((event, cost_nano, "call", None))
                    tables.not_added.append(entry)
                    del tables.holds[call_id]
                    for counter, _ in ground.counters:
                        if cost_nano is not None:
                            counter[0] += cost_nano
                        if amount is not None:
                            counter[1] -= amount
                    return "stored"
        return super().settle(call_id, event, cost_nano, now)

    def _retry(self, begin: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        with self._tables.lock:  # nothing conflicts here, so there is nothing to try again
            return work(self._tables)


@dataclass(slots=True)
class _Ground:
    """What a tenant's calls are held on from `start` until `end` (unix seconds), while its limits stay as they are.

    Made only where every limit is in force and its counter open, which is nearly always.
    """

    start: float
    end: float
    keys: tuple[CounterKey, ...]
    counters: list[tuple[list[int], int]]
    """Each counter with its limit's amount."""


class _Tables(MemoryReports, MemoryServices, Transaction):
    """The dictionaries; entering takes the lock. Nothing in the algorithm fails half-way on dictionaries."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        after_fork(self._start_anew)
        self._limits: dict[str, list[Limit]] = {}
        self._amounts: dict[int, int] = {}
        self._counters: dict[CounterKey, list[int]] = {}  # settled, held, window_end
        self.holds: dict[str, Hold] = {}
        self.ledger: dict[str, dict[str, Entry]] = {}
        self.grounds: dict[str, _Ground] = {}
        self._totals: dict[tuple[str, int, str, str], Spend] = {}
        self.not_added: list[Entry] = []
        self._changes = []
        self._api_keys, self._deliveries, self._last_delivery = {}, {}, 0
        self._next_id = 0

    def _start_anew(self) -> None:
        """Unlock in a forked child, and leave the parent's deliveries to the parent."""
        self.lock = threading.RLock()
        self._deliveries = {}

    def __enter__(self) -> _Tables:
        self.lock.acquire()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.lock.release()

    def ground(self, tenant_id: str, now: float) -> _Ground | None:
        limits = self._limits.get(tenant_id, [])
        items = items_for(limits, now)
        counters = [(self._counters[item.key], item.limit.amount) for item in items if item.key in self._counters]
        if len(counters) < len(limits):
            return None
        starts = [item.window.start for item in items] + [limit.effective_from for limit in limits]
        ends = [item.window.end for item in items] + [
            limit.effective_until for limit in limits if limit.effective_until is not None
        ]
        ground = self.grounds[tenant_id] = _Ground(
            float(max(starts, default=-inf)),  # comparing a float with a whole number takes three times as long
            float(min(ends, default=inf)),
            tuple([item.key for item in items]),
            counters,
        )
        return ground

    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        new = tenant_id not in self.ledger
        if new:
            self.ledger[tenant_id] = {}
        return new

    def limits(self, tenant_id: str) -> list[Limit]:
        return list(self._limits.get(tenant_id, ()))

    def insert_limit(self, limit: Limit) -> Limit:
        self._next_id += 1
        limit = replace(limit, id=self._next_id)
        self._limits.setdefault(limit.tenant_id, []).append(limit)
        self._amounts[limit.id] = limit.amount
        self.grounds.pop(limit.tenant_id, None)
        return limit

    def update_limit(self, limit: Limit) -> None:
        rows = self._limits.get(limit.tenant_id, [])
        self._limits[limit.tenant_id] = [limit if row.id == limit.id else row for row in rows]
        self._amounts[limit.id] = limit.amount
        self.grounds.pop(limit.tenant_id, None)

    def delete_limits(self, ids: Sequence[int]) -> None:
        gone = set(ids)
        for tenant_id, rows in self._limits.items():
            self._limits[tenant_id] = [row for row in rows if row.id not in gone]
        for limit_id in gone:
            self._amounts.pop(limit_id, None)
        for key in [key for key in self._counters if key.limit_id in gone]:
            del self._counters[key]
        self.grounds.clear()

    def counter(self, key: CounterKey) -> tuple[int, int] | None:
        row = self._counters.get(key)
        return None if row is None else (row[0], row[1])

    def open_counter(self, key: CounterKey, window_end: int, settled: int) -> None:
        if key.limit_id in self._amounts:
            self._counters.setdefault(key, [settled, 0, window_end])

    def take(self, key: CounterKey, amount: int, bounded: bool) -> bool:
        row = self._counters.get(key)
        if row is None or (bounded and row[0] + row[1] >= self._amounts[key.limit_id]):
            return False
        row[1] += amount
        return True

    def charge(self, key: CounterKey, settled: int, held: int) -> None:
        row = self._counters.get(key)
        if row is not None:
            row[0] += settled
            row[1] += held

    def insert_hold(self, hold: Hold) -> None:
        self.holds[hold.call_id] = hold

    def hold(self, call_id: str) -> Hold | None:
        return self.holds.get(call_id)

    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        hold = self.holds.get(call_id)
        if hold is None or hold.state != was:
            return False
        if state == "expired":
            self.holds[call_id] = hold._replace(state=state)  # a late settle still has to find it
        else:
            del self.holds[call_id]
        return True

    def renew_hold(self, call_id: str, expires_at: float) -> bool:
        hold = self.holds.get(call_id)
        if hold is None or hold.state != "open":
            return False
        self.holds[call_id] = hold._replace(expires_at=expires_at)
        return True

    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[Hold]:
        return sorted(
            (
                hold
                for hold in self.holds.values()
                if hold.state == "open"
                and tenant_id in (None, hold.tenant_id)
                and (expired_at is None or hold.expires_at <= expired_at)
            ),
            key=lambda hold: hold.created_at,
        )

    def insert_entry(self, entry: Entry) -> bool:
        rows = self.ledger.setdefault(entry.event.tenant_id, {})
        if entry.event.event_id in rows:
            return False
        rows[entry.event.event_id] = entry
        return True

    def known_events(self, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
        return self.ledger.get(tenant_id, {}).keys() & set(event_ids)

    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        return self.holds.keys() & set(call_ids)

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.insert_entry(entry)

    def roll_up_all(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.roll_up(entry)

    def roll_up(self, entry: Entry) -> None:
        self.not_added.append(entry)

    def _add_up(self) -> None:
        waiting, self.not_added = self.not_added, []
        for entry in waiting:
            event = entry.event
            key = (event.tenant_id, day_of(event.timestamp), event.provider, event.model)
            self._totals[key] = add_to_spend(self._totals.get(key, NO_SPEND), entry)

    @property
    def _rollup(self) -> dict[tuple[str, int, str, str], Spend]:
        """The totals, brought up to date when somebody asks for them."""
        self._add_up()
        return self._totals

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        total = NO_SPEND
        for entry in self.ledger.get(tenant_id, {}).values():
            if start <= entry.event.timestamp < end:
                total = add_to_spend(total, entry)
        return total

    def prune(self, before: float) -> tuple[int, int, int]:
        self._add_up()
        events = 0
        for tenant_id, rows in self.ledger.items():
            kept = {key: entry for key, entry in rows.items() if entry.event.timestamp >= before}
            events += len(rows) - len(kept)
            self.ledger[tenant_id] = kept
        holds = [h.call_id for h in self.holds.values() if h.state != "open" and h.created_at < before]
        for call_id in holds:
            del self.holds[call_id]
        counters = [key for key, row in self._counters.items() if row[2] <= before]
        for key in counters:
            del self._counters[key]
        self.grounds.clear()
        return events, len(holds), len(counters)
