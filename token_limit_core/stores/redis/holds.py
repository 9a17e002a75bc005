"""Holds of the Redis store, kept beside the counters that they hold on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from sqlalchemy import bindparam, select

from ...limits import EVERYONE, CounterKey
from ..columns import read_entry
from ..records import Hold
from ..reports import Page
from ..sql.tables import ledger, tenant
from ..sql.transaction import SqlTransaction
from . import scripts
from .effects import Pending
from .slots import Kept, Slots, text_of

_TENANTS = select(tenant.c.id).where(tenant.c.id != EVERYONE).order_by(tenant.c.id)
_ENTRY = select(ledger).where(
    ledger.c.tenant_id == bindparam("the_tenant"), ledger.c.event_id == bindparam("the_event")
)


class RedisHolds(SqlTransaction):
    """The primitives of holds; what depends on the commit is noted in `_pending`."""

    _slots: Slots
    _pending: Pending
    _locked: list[str]
    """Tenants that are locked in the database."""

    _read_locked: Hold | None
    """The hold read last, if nobody else can end it: it need not be read again to close it."""

    def held_on(self, key: CounterKey) -> int:
        holds = self._slots.counters(key.tenant_id)[1]
        ended = self._ended(key.tenant_id, holds)
        live = (kept.hold for kept in holds if kept.hold.call_id not in ended)
        return sum(amount for hold in live for other, amount in hold.held_on() if other == key)

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
