"""Recording many events at once: a fixed number of statements for each tenant, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..limits import CounterKey
from ..windows import window_of
from .contract import Transaction
from .records import Entry, Recorded


def record_entries(
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
        results[tenant_id], fresh[tenant_id] = _tell_apart(entries, known, held, settle)
    written = [entry for entries in fresh.values() for entry in entries]
    if written:
        tx.insert_entries(written)
        tx.roll_up_all(written)
        for destination in destinations:
            tx.insert_deliveries(destination, written)
        for tenant_id, entries in fresh.items():
            _charge(tx, tenant_id, entries)
    return results


def _tell_apart(
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


def _charge(tx: Transaction, tenant_id: str, entries: Sequence[Entry]) -> None:
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
