"""The ledger algorithm, once, for every store with transactions (memory, SQLAlchemy, Django ORM).

Admission is optimistic: one short transaction of conditional updates; opening a window or settling expired
holds happens in transactions of their own, after which admission is tried again.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

from ..events import LLMEvent
from ..limits import (
    ADMITTED,
    ENFORCE,
    PER_MONTH,
    CounterKey,
    Decision,
    Item,
    Limit,
    LimitStatus,
    items_for,
    item_of,
    judge,
    scheduled,
    window_of,
)
from .base import (
    KEEP_SECONDS,
    Call,
    Entry,
    Hold,
    Pruned,
    Recorded,
    Spend,
    Store,
    Transaction,
    correction_of,
    expiry_of,
)

T = TypeVar("T")
ATTEMPTS = 8


class TransactionalStore(Store):
    """A Store over an engine that offers `begin()`."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[Transaction]:
        """Start a short transaction of its own, never the host's; commit at the end, roll back on an exception."""

    def is_conflict(self, error: Exception) -> bool:
        """Tell a deadlock or serialisation failure, after which the transaction may simply be run again."""
        return False

    def _run(self, work: Callable[[Transaction], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                with self.begin() as tx:
                    return work(tx)
            except Exception as error:
                if attempt == ATTEMPTS - 1 or not self.is_conflict(error):
                    raise
                time.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise AssertionError("unreachable")

    # -- limits ---------------------------------------------------------------------------------

    def limits(self, tenant_id: str) -> list[Limit]:
        return self._run(lambda tx: tx.limits(tenant_id))

    def set_limit(self, limit: Limit, now: float) -> Limit:
        def work(tx: Transaction) -> Limit:
            tx.lock_tenant(limit.tenant_id, now)
            rows = [
                row
                for row in tx.limits(limit.tenant_id)
                if (row.frequency, row.filter) == (limit.frequency, limit.filter)
            ]
            kept, ended, dropped = scheduled(rows, limit, now)
            for row in ended:
                tx.update_limit(row)
            if dropped:
                tx.delete_limits([row.id for row in dropped])
            if kept is not None:
                tx.update_limit(kept)
                return kept
            return tx.insert_limit(limit)

        return self._run(work)

    def remove_limit(self, tenant_id: str, frequency: str | None, now: float) -> int:
        def work(tx: Transaction) -> int:
            tx.lock_tenant(tenant_id, now)
            ids = [row.id for row in tx.limits(tenant_id) if frequency in (None, row.frequency)]
            if ids:
                tx.delete_limits(ids)
            return len(ids)

        return self._run(work)

    # -- admission ------------------------------------------------------------------------------

    def admit(self, call: Call, now: float) -> Decision:
        decision = self._try_admit(call, now)
        if isinstance(decision, list):
            self._open_windows(call.tenant_id, decision, now)
            decision = self._try_admit(call, now)
        if isinstance(decision, Decision) and decision.kind == "busy" and self.expire(now, call.tenant_id):
            decision = self._try_admit(call, now)
        if isinstance(decision, list):  # the window was pruned or the limit replaced in between
            return Decision("busy", call.tenant_id, retry_after=1)
        return decision

    def _try_admit(self, call: Call, now: float) -> Decision | list[Item]:
        """Hold on every item, or give back what was taken and say why; unopened windows are returned."""
        amount = 0 if call.estimate is None else call.estimate

        def work(tx: Transaction) -> Decision | list[Item]:
            items = items_for(tx.limits(call.tenant_id), now)
            observed: list[str] = []
            for done, item in enumerate(items):
                enforced = item.limit.mode == ENFORCE
                if tx.take(item.key, amount, bounded=enforced):
                    if not enforced and (seen := judge(_status(tx, item, minus=amount))):
                        observed.append(seen.kind)
                    continue
                for taken in items[:done]:
                    tx.charge(taken.key, 0, -amount)
                state = tx.counter(item.key)
                if state is None:
                    return [i for i in items if tx.counter(i.key) is None]
                # the row moved between the update and this read: whoever freed it makes a retry worthwhile
                return judge(LimitStatus(item.limit, item.window, *state)) or Decision(
                    "busy", call.tenant_id, retry_after=1
                )
            if items:
                keys = tuple(item.key for item in items)
                tx.insert_hold(
                    Hold(call.call_id, call.tenant_id, call.estimate, now, now + call.hold_seconds, call.origin, "open", keys)
                )
            return ADMITTED if not observed else replace(ADMITTED, observed=tuple(observed))

        return self._run(work)

    def _open_windows(self, tenant_id: str, items: Sequence[Item], now: float) -> None:
        """Open counters at what the ledger says was already spent in their window."""

        def work(tx: Transaction) -> None:
            tx.lock_tenant(tenant_id, now)  # no settle may fall between the sum and the new counter
            for item in items:
                spent = tx.spend(tenant_id, item.window.start, item.window.end).cost_nano
                tx.open_counter(item.key, item.window.end, spent)

        self._run(work)

    # -- settling -------------------------------------------------------------------------------

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        return self._run(lambda tx: _settle(tx, call_id, Entry(event, cost_nano), now))

    def record(self, entries: Sequence[tuple[LLMEvent, int | None]], now: float) -> list[Recorded]:
        def work(tx: Transaction) -> list[Recorded]:
            ordered = sorted(range(len(entries)), key=lambda i: entries[i][0].tenant_id)  # one lock order
            results: dict[int, Recorded] = {}
            for i in ordered:
                event, cost = entries[i]
                results[i] = _settle(tx, event.event_id, Entry(event, cost), now)
            return [results[i] for i in range(len(entries))]

        return self._run(work)

    def renew(self, call_id: str, expires_at: float) -> bool:
        return self._run(lambda tx: tx.renew_hold(call_id, expires_at))

    def release(self, call_id: str, now: float) -> bool:
        def work(tx: Transaction) -> bool:
            hold = tx.hold(call_id)
            if hold is None:
                return False
            tx.lock_tenant(hold.tenant_id, now)
            if not tx.close_hold(call_id, "released"):
                return False
            for key in hold.items:
                tx.charge(key, 0, -(hold.amount or 0))
            return True

        return self._run(work)

    def expire(self, now: float, tenant_id: str | None = None) -> int:
        due = self._run(lambda tx: tx.open_holds(tenant_id, expired_at=now))
        return sum(self._run(lambda tx, hold=hold: _expire(tx, hold, now)) for hold in due)  # type: ignore[misc]

    # -- queries --------------------------------------------------------------------------------

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        return self._run(lambda tx: tx.open_holds(tenant_id))

    def usage(self, tenant_id: str, now: float) -> list[LimitStatus]:
        return self._run(lambda tx: [_status(tx, item) for item in items_for(tx.limits(tenant_id), now)])

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        return self._run(lambda tx: tx.spend(tenant_id, start, end))

    def prune(self, before: float, now: float) -> Pruned:
        expired = self.expire(now)
        before = min(before, now - KEEP_SECONDS, window_of(PER_MONTH, now).start)
        events, holds, counters = self._run(lambda tx: tx.prune(before, before))
        return Pruned(events, holds, counters, expired)


def _status(tx: Transaction, item: Item, minus: int = 0) -> LimitStatus:
    """Read a limit's counter; a window that was not opened yet stands at what the ledger says."""
    state = tx.counter(item.key)
    if state is None:
        state = (tx.spend(item.limit.tenant_id, item.window.start, item.window.end).cost_nano, 0)
    return LimitStatus(item.limit, item.window, state[0], state[1] - minus)


def _settle(tx: Transaction, call_id: str, entry: Entry, now: float) -> Recorded:
    tenant_id = entry.event.tenant_id
    tx.lock_tenant(tenant_id, now)
    if not tx.insert_entry(entry):
        return "duplicate"
    tx.roll_up(entry)
    charged = entry.cost_nano or 0
    hold = tx.hold(call_id)
    held: tuple[CounterKey, ...] = ()
    if hold is not None and hold.tenant_id == tenant_id:
        if tx.close_hold(call_id, "settled"):
            held = hold.items
        elif tx.close_hold(call_id, "settled", only=("expired",)):
            correction = correction_of(hold)
            tx.insert_entry(correction)
            tx.roll_up(correction)
            charged -= hold.amount or 0
    _charge(tx, tenant_id, entry.event.timestamp, charged, held, (hold.amount or 0) if hold else 0)
    return "stored"


def _expire(tx: Transaction, hold: Hold, now: float) -> int:
    tx.lock_tenant(hold.tenant_id, now)
    if not tx.close_hold(hold.call_id, "expired"):
        return 0
    entry = expiry_of(hold)
    tx.insert_entry(entry)
    tx.roll_up(entry)
    _charge(tx, hold.tenant_id, hold.created_at, hold.amount or 0, hold.items, hold.amount or 0)
    return 1


def _charge(
    tx: Transaction, tenant_id: str, at: float, cost: int, held_on: Sequence[CounterKey], held: int
) -> None:
    """Charge every limit whose window has `at` (also those that came to match in flight), and free the hold."""
    deltas: dict[CounterKey, list[int]] = {key: [0, -held] for key in held_on}
    if cost:
        for limit in tx.limits(tenant_id):
            deltas.setdefault(item_of(limit, at).key, [0, 0])[0] = cost
    for key in sorted(deltas) if len(deltas) > 1 else deltas:
        settled, freed = deltas[key]
        tx.charge(key, settled, freed)
