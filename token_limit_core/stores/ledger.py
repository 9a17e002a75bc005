"""The ledger algorithm, once, for every store with transactions: of one entry, and of many.

Each function is the whole of one short transaction, or a part of it, written in the primitives of `Transaction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..limits import ADMITTED, ENFORCE, CounterKey, Decision, Item, LimitStatus, items_for, judge, key_of
from ..windows import window_of
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
    at_once = tx.admit_at_once(call, now)
    if at_once is not None:
        return at_once
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
    if tx.settle_at_once(call_id, entry, destinations):
        return "stored"
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


def record(
    tx: Transaction,
    tenants: dict[str, list[Entry]],
    destinations: Sequence[str],
    settle: Callable[[Entry], Recorded],
) -> dict[str, list[Recorded]]:
    """Record the entries of tenants, each once; `settle` takes the few that have a hold to be closed.

    The caller has locked the tenants. Returns one result per entry.
    """
    held = tx.held_calls([entry.event.event_id for entries in tenants.values() for entry in entries])
    results: dict[str, list[Recorded]] = {}
    fresh: dict[str, list[Entry]] = {}
    for tenant_id, entries in tenants.items():
        known = tx.known_events(tenant_id, [entry.event.event_id for entry in entries])
        results[tenant_id], fresh[tenant_id] = _sort_out(entries, known, held, settle)
    written = [entry for entries in fresh.values() for entry in entries]
    if written:
        tx.insert_entries(written)
        tx.roll_up_all(written)
        for destination in destinations:
            tx.insert_deliveries(destination, written)
        for tenant_id, entries in fresh.items():
            _charge_all(tx, tenant_id, entries)
    return results


def _sort_out(
    entries: Sequence[Entry], known: set[str], held: set[str], settle: Callable[[Entry], Recorded]
) -> tuple[list[Recorded], list[Entry]]:
    """Return what becomes of each entry, and those that are to be written."""
    fresh: dict[str, Entry] = {}
    results: list[Recorded] = []
    for entry in entries:
        event_id = entry.event.event_id
        if event_id in known or event_id in fresh:
            results.append("duplicate")
        elif event_id in held:
            known.add(event_id)
            results.append(settle(entry))
        else:
            fresh[event_id] = entry
            results.append("stored")
    return results, list(fresh.values())


def _charge_all(tx: Transaction, tenant_id: str, entries: Sequence[Entry]) -> None:
    """Charge each counter once with the sum of what falls into its window."""
    totals: dict[CounterKey, int] = {}
    for limit in tx.limits(tenant_id):
        spent: dict[int, int] = {}
        for entry in entries:
            if entry.cost_nano:
                start = window_of(limit.frequency, entry.event.timestamp).start
                spent[start] = spent.get(start, 0) + entry.cost_nano
        totals |= {CounterKey(tenant_id, limit.id, start): amount for start, amount in spent.items()}
    for key in sorted(totals):
        tx.charge(key, totals[key], 0)
