"""One transaction of the Redis store: an SQL transaction whose counters and holds are in Redis."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import inf
from typing import Any

from sqlalchemy import bindparam, select

from ...limits import EVERYONE, CounterKey, Decision, Limit
from ...runtime.faults import StoreError, logger
from ...windows import TOTAL
from ..columns import read_entry
from ..entries import Entry
from ..records import Call, Counter, Hold
from ..reports import Page
from ..sql.statements import LIMIT_COLUMNS
from ..sql.tables import ledger, limit, tenant
from ..sql.transaction import SqlTransaction
from ..transaction import Retry
from . import scripts
from .admission import admit, take_all
from .effects import Pending
from .slots import Kept, Slots, name_of, text_of

_SHARE = select(tenant.c.id).where(tenant.c.id == EVERYONE).with_for_update(read=True)
_TENANTS = select(tenant.c.id).where(tenant.c.id != EVERYONE).order_by(tenant.c.id)
_LIMITS = select(*(limit.c[name] for name in LIMIT_COLUMNS))
_ENTRY = select(ledger).where(
    ledger.c.tenant_id == bindparam("the_tenant"), ledger.c.event_id == bindparam("the_event")
)
_POLL_SECONDS = 0.001


class RedisTransaction(SqlTransaction):
    """The primitives; those of counters and holds work on Redis, the others on the database.

    Changes of Redis that depend on the commit are made after it. Locks are those of tenants, in the database.
    """

    def __init__(self, slots: Slots, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._slots = slots
        self._pending = Pending(slots)
        self._locked: list[str] = []
        self._read_locked: Hold | None = None
        """The hold read last, if nobody else can end it: it need not be read again to close it."""

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

    def held_on(self, key: CounterKey) -> int:
        holds = self._slots.counters(key.tenant_id)[1]
        ended = self._ended(key.tenant_id, holds)
        live = (kept.hold for kept in holds if kept.hold.call_id not in ended)
        return sum(amount for hold in live for other, amount in hold.held_on() if other == key)

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

    # -- holds ----------------------------------------------------------------------------------

    def hold(self, call_id: str) -> Hold | None:
        kept = self._kept(call_id)
        if kept is None:
            return self._expired(call_id)
        hold = self._whole(kept)
        if kept.closing:  # by a transaction that has committed, failed or died
            known = self.known_events(hold.tenant_id, [call_id, f"{call_id}/expired"])
            if known:  # a settle has written its own row before it asks
                hold = hold._replace(state="expired" if f"{call_id}/expired" in known else "settled")
        self._read_locked = hold if hold.tenant_id in self._locked else None
        return hold

    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        """Close a hold after the commit; one that has expired is closed already, and is only compared."""
        read, self._read_locked = self._read_locked, None
        hold = read if read is not None and read.call_id == call_id else self.hold(call_id)
        if hold is None or was != "open":
            return hold is not None and hold.state == was
        for slot in self._slots_of(hold):
            self._pending.of(slot).closed.append(call_id)
        # an old snapshot of Redis may have brought back the hold of a call that has ended
        ended = state == "expired" and bool(self.known_events(hold.tenant_id, [call_id]))
        return hold.state == was and not ended

    def renew_hold(self, call_id: str, expires_at: float) -> bool:
        hold = self.hold(call_id)
        return hold is not None and hold.state == "open" and self.update_hold(hold._replace(expires_at=expires_at))

    def update_hold(self, hold: Hold) -> bool:
        """Write a hold at once: it is not in the database."""
        for slot in reversed(self._slots_of(hold)):
            kept = self._slots.holds(slot, [hold.call_id]).get(hold.call_id)
            if kept is None or not self._slots.replace(slot, kept, hold):
                return False
        return True

    def rename_hold(self, call_id: str, new_id: str, expires_at: float) -> bool:
        """Rename a hold at once, first where a tenant's holds are listed."""
        hold = self.hold(call_id)
        if hold is None or hold.state != "open":
            return False
        renamed = hold._replace(call_id=new_id, expires_at=expires_at)
        slots = self._slots_of(hold)
        for slot in slots:
            text = text_of(renamed, EVERYONE in slots, slot)
            if not self._slots.run(scripts.RENAME, slot, call_id, new_id, text):
                return False
        self._slots.forget_owner(call_id)
        self._slots.remember_owner(new_id, hold.tenant_id)
        return True

    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[Hold]:
        tenants = self._tenants() if tenant_id is None else [tenant_id]
        found: list[Hold] = []
        latest = inf if expired_at is None else expired_at
        for one in tenants:
            due = [kept for kept in self._slots.counters(one)[1] if kept.hold.expires_at <= latest]
            ended = self._ended(one, (kept for kept in due if kept.closing))
            found += [self._whole(kept) for kept in due if kept.hold.call_id not in ended]
        return sorted(found, key=lambda hold: (hold.created_at, hold.call_id))

    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        held: set[str] = set()
        for tenant_id in self._locked if call_ids else ():
            held.update(self._slots.holds(tenant_id, call_ids))
            expired = self.known_events(tenant_id, [f"{call_id}/expired" for call_id in call_ids])
            held.update(event_id.removesuffix("/expired") for event_id in expired)
        return held

    def hold_page(self, tenant_id: str | None, offset: int, size: int) -> Page[Hold]:
        holds = [hold._replace(items=(), amounts=None) for hold in self.open_holds(tenant_id)]
        return Page(holds[offset:][:size], len(holds))

    def drop_hold_items(self, tenant_id: str) -> None:
        self._pending.of(tenant_id).stripped = True

    def _close_ended(self, slot: str) -> None:
        """Close the holds of calls that have ended: of processes that died, or brought back by a snapshot."""
        for call_id in self._ended(slot, self._slots.counters(slot)[1]):
            self._slots.run(scripts.CLOSE, slot, call_id)

    def _ended(self, slot: str, holds: Iterable[Kept]) -> set[str]:
        """Tell which calls are in the ledger, or are held on limits of all tenants but not by their own any more."""
        calls: dict[str, list[str]] = {}
        for kept in holds:
            calls.setdefault(kept.hold.tenant_id, []).append(kept.hold.call_id)
        ended: set[str] = set()
        for tenant_id, call_ids in calls.items():
            ends = [event_id for call_id in call_ids for event_id in (call_id, f"{call_id}/expired")]
            ended.update(event_id.removesuffix("/expired") for event_id in self.known_events(tenant_id, ends))
            if slot == EVERYONE:
                ended.update(set(call_ids) - self._slots.holds(tenant_id, call_ids).keys())
        return ended

    def _kept(self, call_id: str) -> Kept | None:
        """Find a hold: of a tenant that is locked, else of the one that this process took it for, else of any."""
        for tenant_id in self._locked or self._slots.owner(call_id) or self._tenants():
            if kept := self._slots.holds(tenant_id, [call_id]).get(call_id):
                return kept
        return None

    def _whole(self, kept: Kept) -> Hold:
        """Return a hold with what it holds on limits of all tenants."""
        hold = kept.hold
        if not kept.shared:
            return hold
        other = self._slots.holds(EVERYONE, [hold.call_id]).get(hold.call_id)
        if other is None:  # the process died before it was held there
            return hold
        items = (*hold.items, *other.hold.items)
        return hold._replace(items=items, amounts=(*(hold.amounts or ()), *(other.hold.amounts or ())))

    def _expired(self, call_id: str) -> Hold | None:
        """Find a hold that has expired in the ledger of the tenant that is locked."""
        for tenant_id in self._locked:
            for row in self._rows(_ENTRY, {"the_tenant": tenant_id, "the_event": f"{call_id}/expired"}):
                entry = read_entry(dict(zip(ledger.c.keys(), row, strict=True)))
                event = entry.event
                hold = Hold(call_id, tenant_id, entry.cost_nano, event.timestamp, event.timestamp, state="expired")
                return hold._replace(
                    tokens=event.total_tokens,
                    provider=event.provider,
                    model=event.model,
                    user=event.user,
                    feature=event.feature,
                    charge=entry.charge_nano,
                )
        return None

    def _slots_of(self, hold: Hold) -> list[str]:
        shared = any(key.tenant_id == EVERYONE for key in hold.items)
        return [hold.tenant_id, EVERYONE] if shared else [hold.tenant_id]

    def _tenants(self) -> Iterator[str]:
        return (tenant_id for (tenant_id,) in self._rows(_TENANTS))

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
