"""Recording many events of a tenant at once: a fixed number of statements, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..limits import CounterKey, key_of
from .base import Transaction
from .records import Entry, Recorded


def record_tenant(
    tx: Transaction, tenant_id: str, entries: Sequence[Entry], settle: Callable[[Entry], Recorded]
) -> tuple[list[Recorded], list[Entry]]:
    """Record a tenant's entries, each once; `settle` takes the few that have a hold to be closed.

    The caller has locked the tenant. Returns one result per entry, and what was written here.
    """
    ids = [entry.event.event_id for entry in entries]
    known, held = tx.known_events(tenant_id, ids), tx.held_calls(ids)
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
    written = list(fresh.values())
    if written:
        tx.insert_entries(written)
        tx.roll_up_all(written)
        _charge(tx, tenant_id, written)
    return results, written


def _charge(tx: Transaction, tenant_id: str, entries: Sequence[Entry]) -> None:
    """Charge each counter once with the sum of what falls into its window."""
    totals: dict[CounterKey, int] = {}
    for limit in tx.limits(tenant_id):
        for entry in entries:
            if entry.charged:
                key = key_of(limit, entry.event.timestamp)
                totals[key] = totals.get(key, 0) + entry.charged
    for key in sorted(totals):
        tx.charge(key, totals[key], 0)
