"""The ledger algorithm, once, for every store with transactions: of one entry, and of many.

Each function is the whole of one short transaction, or a part of it, written in the primitives of `Transaction`.
How a call is admitted is in `admission.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..limits import EVERYONE, CounterKey, Limit, keys_for, lock_order
from .counters import notice, notice_entry, notice_unopened
from .entries import Entry, correction_of, expiry_of
from .records import LEASE, Hold, Recorded
from .transaction import Transaction

# -- one entry ----------------------------------------------------------------------------------


def settle(tx: Transaction, call_id: str, entry: Entry, now: float, destinations: Sequence[str] = ()) -> Recorded:
    """Append a call to the ledger, once; free its hold, charge what it cost, and note where it is to be delivered."""
    crosses = tx.settle_at_once(call_id, entry, destinations)
    if crosses is not None:
        if crosses:
            notice_entry(tx, entry, now)
        return "stored"
    tenant_id = entry.event.tenant_id
    tx.lock_tenant(tenant_id, now)
    rules = tx.rules(tenant_id)
    entry = entry.marked_up(rules.markup)
    if not tx.insert_entry(entry):
        return "duplicate"
    tx.roll_up(entry)
    for destination in destinations:
        tx.insert_deliveries(destination, (entry,))
    hold = tx.hold(call_id)
    if hold is None or hold.tenant_id != tenant_id:
        _charge(tx, rules.limits, entry, now)
    elif tx.close_hold(call_id, "settled"):
        _charge(tx, rules.limits, entry, now, hold)
    else:
        _charge(tx, rules.limits, entry, now)
        if tx.close_hold(call_id, "settled", was="expired"):
            append(tx, correction_of(hold), now)
    return "stored"


def release(tx: Transaction, hold: Hold, now: float) -> bool:
    """Give an open hold back without a charge; False when it is no longer open."""
    tx.lock_tenant(hold.tenant_id, now)
    if not tx.close_hold(hold.call_id, "released"):
        return False
    for key, amount in hold.held_on():
        tx.charge(key, 0, -amount)
    return True


def expire(tx: Transaction, hold: Hold, now: float) -> int:
    """Settle a hold whose call never ended at what it holds; return 0 where another transaction was faster, else 1.

    A lease is given back: what was spent of it was charged call by call.
    """
    if hold.origin == LEASE:
        return int(release(tx, hold, now))
    tx.lock_tenant(hold.tenant_id, now)
    if not tx.close_hold(hold.call_id, "expired"):
        return 0
    append(tx, expiry_of(hold), now, hold)
    return 1


def append(tx: Transaction, entry: Entry, now: float, hold: Hold | None = None) -> None:
    """Append an entry to the ledger of a tenant that is locked, and charge it; nothing where it is there already."""
    if tx.insert_entry(entry):
        tx.roll_up(entry)
        _charge(tx, tx.rules(entry.event.tenant_id).limits, entry, now, hold)


def _charge(tx: Transaction, limits: Sequence[Limit], entry: Entry, now: float, hold: Hold | None = None) -> None:
    """Charge every limit whose window has the entry (also those that came to match in flight); free the hold."""
    deltas: dict[CounterKey, list[int]] = {}
    if hold is not None:
        deltas = {key: [0, -amount] for key, amount in hold.held_on()}
    _add(deltas, limits, (entry,))
    absent = _write(tx, deltas, limits, now)
    if absent:
        notice_unopened(tx, limits, entry, absent, now)


def _add(deltas: dict[CounterKey, list[int]], limits: Sequence[Limit], entries: Iterable[Entry]) -> None:
    """Add what entries of one tenant settle on the counters of its limits."""
    for entry in entries if limits else ():
        event = entry.event
        for limit, key in keys_for(limits, event.tenant_id, event.timestamp, entry.facts):
            amount = entry.amount_on(limit)
            if amount:
                deltas.setdefault(key, [0, 0])[0] += amount


def _write(
    tx: Transaction, deltas: dict[CounterKey, list[int]], limits: Sequence[Limit], now: float
) -> set[CounterKey]:
    """Add to counters in the one order of locks, and make the notices of those that cross a threshold.

    Return those that are absent and may have notices.

    A counter that is absent is not open yet, and starts from the ledger once it is. On one of all tenants the entry
    might fall between that sum and the new counter, as only its own tenant is locked: so that is waited for.
    """
    crossed: list[CounterKey] = []
    absent: set[CounterKey] = set()
    for key in sorted(deltas, key=lock_order) if len(deltas) > 1 else deltas:
        settled, held = deltas[key]
        watched = settled and tx.thresholds
        if watched and settled > 0 and tx.charge_below(key, settled, held):
            continue
        charged = tx.charge(key, settled, held)
        if not charged and settled and key.tenant_id == EVERYONE:
            tx.lock_tenant(EVERYONE, now)
            charged = tx.charge(key, settled, held)
        if watched and charged:
            crossed.append(key)
        elif watched and settled > 0:
            absent.add(key)
    known = {limit.id: limit for limit in limits} if crossed else {}
    for key in crossed:
        if key.limit_id in known:
            notice(tx, key, known[key.limit_id], now)
    return absent


# -- many entries -------------------------------------------------------------------------------


def record(
    tx: Transaction,
    tenants: dict[str, list[Entry]],
    destinations: Sequence[str],
    settle: Callable[[Entry], Recorded],
    now: float,
) -> dict[str, list[Recorded]]:
    """Record the entries of tenants, each once; `settle` takes the few that have a hold to be closed.

    The caller has locked the tenants. Returns one result per entry.
    """
    held = tx.held_calls([entry.event.event_id for entries in tenants.values() for entry in entries])
    results: dict[str, list[Recorded]] = {}
    written: list[Entry] = []
    deltas: dict[CounterKey, list[int]] = {}
    limits: dict[str, list[Limit]] = {}
    for tenant_id, entries in tenants.items():
        known = tx.known_events(tenant_id, [entry.event.event_id for entry in entries])
        results[tenant_id], fresh = _sort_out(entries, known, held, settle)
        if fresh:
            rules = tx.rules(tenant_id)
            fresh = [entry.marked_up(rules.markup) for entry in fresh]
            _add(deltas, rules.limits, fresh)
            limits[tenant_id] = rules.limits
            written += fresh
    if written:
        tx.insert_entries(written)
        tx.roll_up_all(written)
        for destination in destinations:
            tx.insert_deliveries(destination, written)
        absent = _write(tx, deltas, [limit for some in limits.values() for limit in some], now)
        for entry in written if absent else ():
            notice_unopened(tx, limits[entry.event.tenant_id], entry, absent, now)
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
