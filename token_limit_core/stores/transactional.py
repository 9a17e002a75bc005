"""The operations of every store with transactions: the algorithm of `ledger.py`, run and tried again.

Admission is optimistic: one short transaction of conditional updates; opening a window or settling expired
holds happens in transactions of their own, after which admission is tried again.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

from ..errors import LimitChanged
from ..events import LLMEvent
from ..limits import Decision, Limit, LimitStatus, items_for, scheduled
from ..windows import PER_MONTH, window_of
from . import ledger
from .contract import Store, Transaction
from .records import KEEP_SECONDS, Call, Entry, Hold, Pruned, Recorded, Spend
from .reports import Change, change_of
from .transactional_reports import TransactionalReports

T = TypeVar("T")
ATTEMPTS = 8


class TransactionalStore(TransactionalReports, Store):
    """A Store over an engine that offers `begin()`."""

    timeout: float = 10.0
    """After this many seconds a transaction that meets a conflict is not retried: an engine may wait long by itself."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[Transaction]:
        """Start a short transaction of its own, never the host's; commit at the end, roll back on an exception."""

    def begin_reading(self) -> AbstractContextManager[Transaction]:
        """Start a transaction that changes nothing, for engines where that keeps out of the writers' way."""
        return self.begin()

    def is_conflict(self, error: Exception) -> bool:
        """Return whether the transaction may be run again: a lock, a deadlock, a serialisation failure, a lost link."""
        return False

    def _run(self, work: Callable[[Transaction], T]) -> T:
        return self._retry(self.begin, work)

    def _read(self, work: Callable[[Transaction], T]) -> T:
        return self._retry(self.begin_reading, work)

    def _retry(self, begin: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        deadline = time.monotonic() + self.timeout
        for attempt in range(ATTEMPTS):
            try:
                with begin() as tx:
                    return work(tx)
            except Exception as error:
                if attempt == ATTEMPTS - 1 or time.monotonic() > deadline or not self.is_conflict(error):
                    raise
                time.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise AssertionError("unreachable")

    _report = _read
    _services = _run

    # -- limits ---------------------------------------------------------------------------------

    def limits(self, tenant_id: str) -> list[Limit]:
        return self._read(lambda tx: tx.limits(tenant_id))

    def set_limit(self, limit: Limit, now: float, by: str = "", expected: Collection[Limit] | None = None) -> Limit:
        def work(tx: Transaction) -> Limit:
            tx.lock_tenant(limit.tenant_id, now)
            rows = [row for row in tx.limits(limit.tenant_id) if row.identity == limit.identity]
            if expected is not None and set(expected) != set(rows):
                raise LimitChanged("the limit was changed since it was read")
            placed, ended, dropped = scheduled(rows, limit, now)
            for row in ended:
                tx.update_limit(row)
            if dropped:
                tx.delete_limits([row.id for row in dropped])
            before = dropped or [row for row in rows if row.in_force(now)]
            tx.insert_change(change_of("set", before[0] if before else None, placed, now, by))
            if not placed.id:
                return tx.insert_limit(placed)
            tx.update_limit(placed)
            return placed

        return self._run(work)

    def welcome(self, limit: Limit, now: float) -> bool:
        def work(tx: Transaction) -> bool:
            new = tx.lock_tenant(limit.tenant_id, now) and not tx.limits(limit.tenant_id)
            if new:
                tx.insert_limit(limit)
                tx.insert_change(change_of("set", None, limit, now, ""))
            return new

        return self._run(work)

    def remove_limit(self, tenant_id: str, frequency: str | None, now: float, by: str = "") -> int:
        def work(tx: Transaction) -> int:
            tx.lock_tenant(tenant_id, now)
            rows = [row for row in tx.limits(tenant_id) if frequency in (None, row.frequency)]
            for row in rows:
                if not row.ended(now):  # what has ended is history already
                    tx.insert_change(_removal(row, now, by))
            if rows:
                tx.delete_limits([row.id for row in rows])
            return len(rows)

        return self._run(work) if self.limits(tenant_id) else 0  # nobody becomes a tenant by this

    def cancel_limit(self, limit: Limit, now: float, by: str = "") -> None:
        def work(tx: Transaction) -> None:
            tx.lock_tenant(limit.tenant_id, now)
            rows = tx.limits(limit.tenant_id)
            if limit not in rows:
                raise LimitChanged("the limit was changed since it was read")
            for row in rows if limit.effective_from > now else ():
                if row.identity == limit.identity and row.effective_until == limit.effective_from:
                    tx.update_limit(replace(row, effective_until=limit.effective_until))
            tx.delete_limits([limit.id])
            if not limit.ended(now):
                tx.insert_change(_removal(limit, now, by))

        self._run(work)

    # -- admission ------------------------------------------------------------------------------

    def admit(self, call: Call, now: float) -> Decision:
        expired = False
        for _ in range(ATTEMPTS):
            outcome = self._run(lambda tx: ledger.admit(tx, call, now))
            if not isinstance(outcome, Decision):
                if outcome:
                    self._open_windows(call.tenant_id, now)
            elif outcome.kind == "busy" and not expired and self.expire(now, call.tenant_id):
                expired = True
            else:
                return outcome
        return Decision("busy", call.tenant_id, retry_after=1)  # the limits change faster than they can be read

    def _open_windows(self, tenant_id: str, now: float) -> None:
        """Open the counters of `now` at what the ledger says was already spent in their window."""

        def work(tx: Transaction) -> None:
            tx.lock_tenant(tenant_id, now)  # no settle may fall between the sum and the new counter
            for item in items_for(tx.limits(tenant_id), now):
                if tx.counter(item.key) is None:
                    spent = tx.spend(tenant_id, item.window.start, item.window.end).cost_nano
                    tx.open_counter(item.key, item.window.end, spent)

        self._run(work)

    # -- settling -------------------------------------------------------------------------------

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        return self._run(lambda tx: ledger.settle(tx, call_id, Entry(event, cost_nano), now, self.destinations))

    def record(self, entries: Sequence[tuple[LLMEvent, int | None]], now: float) -> list[Recorded]:
        tenants: dict[str, list[Entry]] = {}
        for event, cost_nano in entries:
            tenants.setdefault(event.tenant_id, []).append(Entry(event, cost_nano))
        ordered = dict(sorted(tenants.items()))  # one lock order

        def work(tx: Transaction) -> list[Recorded]:
            def settle(entry: Entry) -> Recorded:
                return ledger.settle(tx, entry.event.event_id, entry, now, self.destinations)

            for tenant_id in ordered:
                tx.lock_tenant(tenant_id, now)
            results = ledger.record(tx, ordered, self.destinations, settle)
            of_tenant = {tenant_id: iter(told) for tenant_id, told in results.items()}
            return [next(of_tenant[event.tenant_id]) for event, _ in entries]

        return self._run(work)

    def renew(self, call_id: str, expires_at: float) -> bool:
        return self._run(lambda tx: tx.renew_hold(call_id, expires_at))

    def release(self, call_id: str, now: float, by: str | None = None) -> bool:
        def work(tx: Transaction) -> bool:
            hold = tx.hold(call_id)
            if hold is None:
                return False
            tx.lock_tenant(hold.tenant_id, now)
            if not tx.close_hold(call_id, "released"):
                return False
            for key in hold.items:
                tx.charge(key, 0, -hold.held)
            if by is not None:
                tx.insert_change(Change(now, by[:255], "release", hold.tenant_id, "", old_amount=hold.amount))
            return True

        return self._run(work)

    def expire(self, now: float, tenant_id: str | None = None) -> int:
        due = self._read(lambda tx: tx.open_holds(tenant_id, expired_at=now))
        return sum(self._run(lambda tx, hold=hold: ledger.expire(tx, hold, now)) for hold in due)  # type: ignore[misc]

    # -- queries --------------------------------------------------------------------------------

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        return self._read(lambda tx: tx.open_holds(tenant_id))

    def usage(self, tenant_id: str, now: float) -> list[LimitStatus]:
        return self._read(lambda tx: [ledger.status_of(tx, item) for item in items_for(tx.limits(tenant_id), now)])

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        return self._read(lambda tx: tx.spend(tenant_id, start, end))

    def prune(self, before: float, now: float) -> Pruned:
        expired = self.expire(now)
        before = min(before, now - KEEP_SECONDS, window_of(PER_MONTH, now).start)
        events, holds, counters = self._run(lambda tx: tx.prune(before))
        return Pruned(events, holds, counters, expired)


def _removal(limit: Limit, now: float, by: str) -> Change:
    return change_of("cancel" if limit.effective_from > now else "remove", limit, None, now, by)
