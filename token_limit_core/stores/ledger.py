"""The ledger algorithm, once, for every store with transactions (memory, SQLAlchemy, Django ORM).

Each function is the whole of one short transaction, or a part of it, written in the primitives of `Transaction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..limits import ADMITTED, ENFORCE, CounterKey, Decision, Item, LimitStatus, items_for, judge, key_of
from .contract import Transaction
from .records import Call, Entry, Hold, Recorded, correction_of, expiry_of


def status_of(tx: Transaction, item: Item, minus: int = 0) -> LimitStatus:
    """Read a limit's counter; a window that was not opened yet stands at what the ledger says."""
    state = tx.counter(item.key)
    if state is None:
        state = (tx.spend(item.limit.tenant_id, item.window.start, item.window.end).cost_nano, 0)
    return LimitStatus(item.limit, item.window, state[0], state[1] - minus)


def admit(tx: Transaction, call: Call, now: float) -> Decision | bool:
    """Hold on every limit in force, or give back what was taken and say why.

    When there is no answer yet, tell whether a window has to be opened before another attempt.
    """
    amount = 0 if call.estimate is None else call.estimate
    items = items_for(tx.limits(call.tenant_id), now)
    observed: list[str] = []
    for done, item in enumerate(items):
        enforced = item.limit.mode == ENFORCE
        if tx.take(item.key, amount, bounded=enforced):
            if not enforced and (seen := judge(status_of(tx, item, minus=amount))):
                observed.append(seen.kind)
            continue
        for taken in items[:done]:
            tx.charge(taken.key, 0, -amount)
        state = tx.counter(item.key)
        if state is None:
            return True
        # nothing in the way any more: a hold was freed or the limit raised between the update and this read
        return judge(LimitStatus(item.limit, item.window, *state)) or False
    if items:
        keys = tuple([item.key for item in items])  # quicker than from a generator
        expiry = now + call.hold_seconds
        tx.insert_hold(Hold(call.call_id, call.tenant_id, call.estimate, now, expiry, call.origin, "open", keys))
    return ADMITTED if not observed else replace(ADMITTED, observed=tuple(observed))


def settle(tx: Transaction, call_id: str, entry: Entry, now: float, destinations: Sequence[str] = ()) -> Recorded:
    """Append a call to the ledger, once; free its hold, charge what it cost, and note where it is to be delivered."""
    tenant_id = entry.event.tenant_id
    tx.lock_tenant(tenant_id, now)
    if not tx.insert_entry(entry):
        return "duplicate"
    tx.roll_up(entry)
    for destination in destinations:
        tx.insert_deliveries(destination, (entry,))
    hold = tx.hold(call_id)
    if hold is None or hold.tenant_id != tenant_id:
        _charge(tx, entry)
    elif tx.close_hold(call_id, "settled"):
        _charge(tx, entry, hold)
    else:
        _charge(tx, entry)
        if tx.close_hold(call_id, "settled", was="expired"):
            _append(tx, correction_of(hold))
    return "stored"


def expire(tx: Transaction, hold: Hold, now: float) -> int:
    """Settle a hold whose call never ended at what it holds; return 0 where somebody else was faster, else 1."""
    tx.lock_tenant(hold.tenant_id, now)
    if not tx.close_hold(hold.call_id, "expired"):
        return 0
    _append(tx, expiry_of(hold), hold)
    return 1


def _append(tx: Transaction, entry: Entry, hold: Hold | None = None) -> None:
    if tx.insert_entry(entry):
        tx.roll_up(entry)
        _charge(tx, entry, hold)


def _charge(tx: Transaction, entry: Entry, hold: Hold | None = None) -> None:
    """Charge every limit whose window has the entry (also those that came to match in flight); free the hold."""
    deltas: dict[CounterKey, list[int]] = {}
    if hold is not None:
        deltas = {key: [0, -hold.held] for key in hold.items}
    if entry.charged:
        for limit in tx.limits(entry.event.tenant_id):
            deltas.setdefault(key_of(limit, entry.event.timestamp), [0, 0])[0] = entry.charged
    for key in sorted(deltas) if len(deltas) > 1 else deltas:
        settled, held = deltas[key]
        tx.charge(key, settled, held)
