"""The dictionaries of the memory store: limits, counters, holds and the ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from operator import attrgetter
from types import TracebackType

from ...limits import EVERYONE, STRICT, USD, CounterKey, Limit, items_for
from ...runtime.forks import after_fork
from ..entries import NO_SPEND, Entry, Spend, add_spends, add_to_spend, day_of
from ..records import Counter, Tenant
from ..transaction import Transaction
from .holds import Ground, MemoryHolds
from .notices import MemoryNotices
from .plans import MemoryPlans
from .reports import MemoryReports
from .services import MemoryServices


class Tables(MemoryHolds, MemoryPlans, MemoryReports, MemoryServices, MemoryNotices, Transaction):
    """The dictionaries; entering takes the lock. Nothing in the algorithm fails half-way on dictionaries."""

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        after_fork(self._start_anew)
        self.tenants: dict[str, Tenant] = {}
        self._limits: dict[str, list[Limit]] = {}
        self._plans = {}
        self._amounts: dict[int, int] = {}
        self._owners: dict[int, str] = {}  # whose the limits of tenants are
        self._counters: dict[CounterKey, list[int]] = {}  # settled, held, window_end, extra, notify_at
        self._ends: dict[CounterKey, float] = {}  # when a top-up in the extra expires
        self._short: dict[tuple[str, int, str], list[CounterKey]] = {}  # open minutes and hours of a limit
        self._top_ups = []
        self.holds = {}
        self.ledger: dict[str, dict[str, Entry]] = {}
        self.grounds: dict[str, Ground] = {}
        self._totals: dict[tuple[str, int, str, str], Spend] = {}
        self._user_totals: dict[tuple[str, int, str, str], Spend] = {}
        self.not_added: list[Entry] = []
        self._changes, self._refusals, self._figures = [], {}, {}
        self._notices = {}
        self._api_keys, self._deliveries, self._last_delivery = {}, {}, 0
        self._next_id = 0

    def _start_anew(self) -> None:
        """Unlock in a forked child, and leave the parent's deliveries to the parent."""
        self.lock = threading.RLock()
        self._deliveries = {}

    def __enter__(self) -> Tables:
        self.lock.acquire()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.lock.release()

    def ground(self, tenant_id: str, now: float, assigns_plans: bool) -> Ground | None:
        rules = self.rules(tenant_id)
        if rules.suspended or rules.markup or tenant_id not in self.tenants or (assigns_plans and rules.plan is None):
            return None
        limits = rules.limits
        items = items_for(limits, tenant_id, now)
        counters = [
            (self._counters[item.key], item.limit.amount + self._counters[item.key][3])
            for item in items
            if item.key in self._counters and item.key not in self._ends
        ]
        if len(counters) < len(limits) or not all(map(_is_plain, limits)):
            return None
        if items:
            self.lock_tenant(tenant_id, now)  # it may be new, and on a limit of all tenants
        starts = [item.window.start for item in items] + [limit.effective_from for limit in limits]
        ends = [item.window.end for item in items] + [
            limit.effective_until for limit in limits if limit.effective_until is not None
        ]
        ground = self.grounds[tenant_id] = Ground(
            float(max(starts, default=-inf)),  # comparing a float with a whole number takes three times as long
            float(min(ends, default=inf)),
            tuple([item.key for item in items]),
            counters,
        )
        return ground

    def _forget(self, tenant_id: str | None) -> None:
        """Forget the ground of a tenant, or of all, as what it was made of has changed."""
        if tenant_id is None or tenant_id == EVERYONE:
            self.grounds.clear()
        else:
            self.grounds.pop(tenant_id, None)

    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        new = tenant_id not in self.tenants
        if new:
            self.tenants[tenant_id] = Tenant(tenant_id, first_seen=now)
            self.ledger.setdefault(tenant_id, {})
        return new

    # -- limits and counters --------------------------------------------------------------------

    def limits(self, tenant_id: str) -> list[Limit]:
        return list(self._limits.get(tenant_id, ()))

    def insert_limit(self, limit: Limit) -> Limit:
        self._next_id += 1
        limit = replace(limit, id=self._next_id)
        self._put(limit)
        return limit

    def update_limit(self, limit: Limit) -> None:
        self._take_out(limit.id)
        self._put(limit)

    def _put(self, limit: Limit) -> None:
        if limit.plan:
            plan = self._plans[limit.plan]
            self._plans[limit.plan] = plan._replace(limits=tuple(sorted((*plan.limits, limit), key=_number)))
        else:
            self._limits[limit.tenant_id] = sorted((*self._limits.get(limit.tenant_id, ()), limit), key=_number)
            self._owners[limit.id] = limit.tenant_id
        self._amounts[limit.id] = limit.amount
        self._forget(None if limit.plan else limit.tenant_id)

    def _take_out(self, limit_id: int) -> None:
        owner = self._owners.pop(limit_id, None)
        if owner is not None:
            self._limits[owner] = [row for row in self._limits[owner] if row.id != limit_id]
            return
        for name, plan in self._plans.items():
            self._plans[name] = plan._replace(limits=tuple(row for row in plan.limits if row.id != limit_id))

    def delete_limits(self, ids: Sequence[int]) -> None:
        gone = set(ids)
        for limit_id in gone:
            self._take_out(limit_id)
            self._amounts.pop(limit_id, None)
        for key in [key for key in self._counters if key.limit_id in gone]:
            del self._counters[key]
            self._ends.pop(key, None)
        self.grounds.clear()

    def counter(self, key: CounterKey) -> Counter | None:
        row = self._counters.get(key)
        return None if row is None else Counter(row[0], row[1], row[3], self._ends.get(key), row[4])

    def open_counter(self, key: CounterKey, window_end: int, counter: Counter) -> None:
        if key.limit_id in self._amounts and key not in self._counters:
            self._counters[key] = [counter.settled, counter.held, window_end, 0, counter.notify_at]
            self.credit(key, counter.extra, counter.extra_until)

    def drop_earlier(self, key: CounterKey, before: int) -> None:
        counters, opened = self._counters, self._short.get(key[:3], [])
        for other in [other for other in opened if other in counters and counters[other][2] <= before]:
            del counters[other]
        self._short[key[:3]] = [*(other for other in opened if other in counters and other != key), key]

    def take(self, key: CounterKey, amount: int, needed: int | None, now: float) -> bool:
        row = self._counters.get(key)
        if row is None or (key in self._ends and self._ends[key] <= now):
            return False
        if needed is not None and row[0] + row[1] + needed > self._amounts[key.limit_id] + row[3]:
            return False
        row[1] += amount
        return True

    def charge_below(self, key: CounterKey, settled: int, held: int) -> bool:
        row = self._counters.get(key)
        return row is not None and row[0] + settled < row[4] and self.charge(key, settled, held)

    def charge(self, key: CounterKey, settled: int, held: int) -> bool:
        row = self._counters.get(key)
        if row is None:
            return False
        row[0] += settled
        row[1] += held
        return True

    def counter_keys(self, now: float, tenant_id: str | None = None) -> list[CounterKey]:
        rows = self._counters.items()
        return [key for key, row in rows if row[2] > now and tenant_id in (None, key.tenant_id)]

    def lock_counters(self, keys: Sequence[CounterKey]) -> None:
        """The lock of all tables is held already."""

    def balance(self, key: CounterKey) -> tuple[Counter | None, int]:
        held = (amount for hold in self.open_holds(None) for other, amount in hold.held_on() if other == key)
        return self.counter(key), sum(held)

    def reset_counter(self, key: CounterKey, settled: int, held: int) -> None:
        self._counters[key][:2] = settled, held

    # -- the ledger -----------------------------------------------------------------------------

    def insert_entry(self, entry: Entry) -> bool:
        rows = self.ledger.setdefault(entry.event.tenant_id, {})
        if entry.event.event_id in rows:
            return False
        rows[entry.event.event_id] = entry
        return True

    def known_events(self, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
        return self.ledger.get(tenant_id, {}).keys() & set(event_ids)

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.insert_entry(entry)

    def roll_up_all(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.roll_up(entry)

    def roll_up(self, entry: Entry) -> None:
        self.not_added.append(entry)

    def _add_up(self) -> None:
        """Bring the totals up to date; that is done when somebody asks for them."""
        waiting, self.not_added = self.not_added, []
        for entry in waiting:
            event, day = entry.event, day_of(entry.event.timestamp)
            key = (event.tenant_id, day, event.provider, event.model)
            self._totals[key] = add_to_spend(self._totals.get(key, NO_SPEND), entry)
            if event.user or event.feature:
                key = (event.tenant_id, day, event.user or "", event.feature or "")
                self._user_totals[key] = add_to_spend(self._user_totals.get(key, NO_SPEND), entry)

    def _move_totals(self, source: str, target: str | None) -> None:
        self._add_up()
        for totals in (self._totals, self._user_totals):
            for key in [key for key in totals if key[0] == source]:
                total = totals.pop(key)
                if target is not None:
                    moved = (target, *key[1:])
                    totals[moved] = add_spends(totals.get(moved, NO_SPEND), total)

    def _forget_users(self, tenant_id: str) -> None:
        self._add_up()
        for key in [key for key in self._user_totals if key[0] == tenant_id]:
            del self._user_totals[key]

    @property
    def _rollup(self) -> dict[tuple[str, int, str, str], Spend]:
        self._add_up()
        return self._totals

    @property
    def _user_rollup(self) -> dict[tuple[str, int, str, str], Spend]:
        self._add_up()
        return self._user_totals

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
            self._ends.pop(key, None)
        self._refusals = {key: row for key, row in self._refusals.items() if row.minute >= before}
        self._notices = {key: row for key, row in self._notices.items() if row.at >= before}
        self.grounds.clear()
        return events, len(holds), len(counters)


def _is_plain(limit: Limit) -> bool:
    return limit.unit == USD and limit.mode != STRICT and not limit.filter


_number = attrgetter("id")
