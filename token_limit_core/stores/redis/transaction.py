"""One transaction of the Redis store: an SQL transaction whose counters and holds are in Redis."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select

from ...limits import EVERYONE, CounterKey, Decision, Limit
from ...runtime.faults import StoreError, logger
from ...windows import TOTAL
from ..entries import Entry
from ..records import Call, Counter, Hold
from ..sql.statements import LIMIT_COLUMNS
from ..sql.tables import limit, tenant
from ..transaction import Retry
from . import scripts
from .admission import admit, take_all
from .effects import Pending
from .holds import RedisHolds
from .slots import Slots, name_of, text_of

_SHARE = select(tenant.c.id).where(tenant.c.id == EVERYONE).with_for_update(read=True)
_LIMITS = select(*(limit.c[name] for name in LIMIT_COLUMNS))
_POLL_SECONDS = 0.001


class RedisTransaction(RedisHolds):
    """The primitives; those of counters and holds work on Redis, the others on the database.

    Changes of Redis that depend on the commit are made after it. Locks are those of tenants, in the database.
    """

    def __init__(self, slots: Slots, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._slots = slots
        self._pending = Pending(slots)
        self._locked: list[str] = []
        self._read_locked: Hold | None = None

    def commit(self) -> None:
        if EVERYONE in self._pending and EVERYONE not in self._locked:
            self._rows(_SHARE)  # nobody sums the counters of all tenants between the mark and the commit
        self._pending.announce()
        pending, self._pending = self._pending, Pending(self._slots)
        super().commit()  # if it fails, nobody knows whether it was done, and the mark stays
        try:
            pending.apply()
        except StoreError:  # the ledger has it; the mark that is left lets the counters be summed again
            logger.warning("Redis failed after a commit; the counters are summed from the ledger again", exc_info=True)

    def roll_back(self) -> bool:
        done = super().roll_back()
        try:
            self._pending.withdraw()
        except StoreError:
            logger.debug("a mark is left in Redis", exc_info=True)
        return done

    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        new = super().lock_tenant(tenant_id, now)
        self._locked.append(tenant_id)
        return new

    # -- plain cases ----------------------------------------------------------------------------

    def admit_at_once(self, call: Call, now: float, assigns_plans: bool) -> Decision | Retry:
        return admit(self, self._slots, call, now, assigns_plans)

    def take_all(self, hold: Hold, now: float, limits: Sequence[int] | None) -> bool:
        return take_all(self._slots, hold, now, limits)

    def settle_at_once(self, call_id: str, entry: Entry, destinations: Sequence[str]) -> bool | None:
        return None  # that would charge the counters of the database

    # -- counters -------------------------------------------------------------------------------

    def counter(self, key: CounterKey) -> Counter | None:
        """Read a counter with what this transaction is about to change."""
        counter, name = self._slots.counter(key), name_of(key)
        if counter is None or key.tenant_id not in self._pending:
            return counter
        effects = self._pending.of(key.tenant_id)
        extra, until = effects.credits.get(name, (counter.extra, counter.extra_until))
        settled = counter.settled + effects.charges.get(name, 0)
        return counter._replace(settled=settled, extra=extra, extra_until=until)

    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Counter]:
        return {key: counter for key in keys if (counter := self.counter(key)) is not None}

    def balance(self, key: CounterKey) -> tuple[Counter | None, int]:
        found, holds = self._slots.counters(key.tenant_id)
        counter, _ = found.get(key, (None, 0))
        return counter, sum(amount for kept in holds for other, amount in kept.hold.held_on() if other == key)

    def open_counter(self, key: CounterKey, window_end: int, counter: Counter) -> None:
        self._close_ended(key.tenant_id)
        self._slots.open_counter(key, window_end, counter)

    def reset_counter(self, key: CounterKey, settled: int, held: int) -> None:
        self._close_ended(key.tenant_id)
        self._slots.reset_counter(key, settled)

    def drop_earlier(self, key: CounterKey, before: int) -> None:
        self._slots.run(scripts.FORGET, key.tenant_id, before)

    def charge(self, key: CounterKey, settled: int, held: int) -> bool:
        """Add to what is settled; what is held changes with its hold."""
        if settled:
            charges = self._pending.of(key.tenant_id).charges
            charges[name_of(key)] = charges.get(name_of(key), 0) + settled
        return True

    def charge_below(self, key: CounterKey, settled: int, held: int) -> bool:
        """Compare with the threshold that this process knows, before the charge: that is made after the commit.

        What others have committed and not charged yet is waited for, as it may have cost more than it holds.
        """
        threshold = self._slots.thresholds.get(key)
        if threshold is None:
            return False
        self.lock_counters([key])
        counter = self.counter(key)
        if counter is None or counter.settled + settled >= threshold:
            return False
        return self.charge(key, settled, held)

    def notify_at(self, key: CounterKey, amount: int) -> None:
        self._slots.remember_threshold(key, amount)

    def credit(self, key: CounterKey, extra: int, extra_until: float | None) -> None:
        self._pending.of(key.tenant_id).credits[name_of(key)] = (extra, extra_until)

    def counter_keys(self, now: float, tenant_id: str | None = None) -> list[CounterKey]:
        tenants = [*self._tenants(), EVERYONE] if tenant_id is None else [tenant_id]
        found = (self._slots.counters(one)[0].items() for one in tenants)
        return [key for counters in found for key, (_, window_end) in counters if window_end > now]

    def lock_counters(self, keys: Sequence[CounterKey]) -> None:
        """Wait for what has been committed and is not in the counters yet; nothing more is committed now."""
        for tenant_id in {key.tenant_id for key in keys}:
            for _ in range(int(scripts.MARK_SECONDS / _POLL_SECONDS)):
                if not self._slots.run(scripts.PENDING, tenant_id):
                    break
                time.sleep(_POLL_SECONDS)

    def busiest(self, key: CounterKey, most: int) -> list[tuple[str, Counter]]:
        same = (key.limit_id, key.window_start)
        found = [
            (other.subject, counter)
            for other, (counter, _) in self._slots.counters(key.tenant_id)[0].items()
            if (other.limit_id, other.window_start) == same
        ]
        return sorted(found, key=lambda one: (-one[1].settled - one[1].held, one[0]))[:most]

    def oldest_window(self, now: float) -> int | None:
        limits = [Limit(*row) for row in self._rows(_LIMITS)]
        return min((limit.window(now).start for limit in limits if limit.frequency != TOTAL), default=None)

    def drop_counters(self, tenant_id: str, limit_ids: Collection[int]) -> None:
        self._pending.of(tenant_id).dropped += limit_ids

    def move_counters(self, source: str, target: str) -> None:
        """Leave the counters: those of the target are summed from its ledger, which has the source's rows by then."""

    # -- tenants that change --------------------------------------------------------------------

    def move_rows(self, source: str, target: str) -> None:
        super().move_rows(source, target)
        moved = self._pending.of(target).moved_in
        for kept in self._slots.counters(source)[1]:
            hold = kept.hold._replace(tenant_id=target)
            items = tuple(key._replace(tenant_id=target) for key in hold.items)
            stripped = self._pending.of(source).stripped
            hold = hold._replace(items=() if stripped else items, amounts=() if stripped else hold.amounts)
            moved.append((hold.call_id, text_of(hold, kept.shared, target)))
            self._slots.forget_owner(hold.call_id)

    def delete_tenant(self, tenant_id: str) -> int:
        moved = {call_id for one in self._pending.targets() for call_id, _ in self._pending.of(one).moved_in}
        for kept in self._slots.counters(tenant_id)[1]:
            if kept.shared and kept.hold.call_id not in moved:
                self._pending.of(EVERYONE).closed.append(kept.hold.call_id)
        self._pending.of(tenant_id).emptied = True
        return super().delete_tenant(tenant_id)

    def prune(self, before: float) -> tuple[int, int, int]:
        events, holds, _ = super().prune(before)
        counters = sum(self._slots.run(scripts.FORGET, tenant_id, before) for tenant_id in (*self._tenants(), EVERYONE))
        return events, holds, counters
