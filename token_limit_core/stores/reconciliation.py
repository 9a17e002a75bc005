"""Compare counters with what they sum up: the ledger and the open holds. Correct those that differ.

A first look takes no locks, so that calls go on. What differs there is compared again with the tenant and its counters
locked: only then no call is between its two numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ..limits import EVERYONE, USD, CounterKey, Item, Limit, lock_order
from ..limits.filters import parse_filter
from ..windows import TOTAL
from .counters import spent_in
from .records import Drift
from .transaction import Transaction

Run = Callable[[Callable[[Transaction], list[Drift]]], list[Drift]]
"""Runs a transaction."""


def reconcile(read: Run, write: Run, keys: Iterable[CounterKey], now: float, fix: bool) -> list[Drift]:
    """Compare counters, tenant by tenant, each in a short transaction of its own; correct them with `fix`."""
    tenants: dict[str, list[CounterKey]] = {}
    for key in sorted(keys, key=lock_order):
        tenants.setdefault(key.tenant_id, []).append(key)
    found: list[Drift] = []
    for tenant_id, its in sorted(tenants.items()):
        suspects = [drift.key for drift in read(partial(_compare, tenant_id=tenant_id, keys=its, now=now))]
        if suspects:
            found += write(partial(_compare_locked, tenant_id=tenant_id, keys=suspects, now=now, fix=fix))
    return found


def _compare_locked(tx: Transaction, tenant_id: str, keys: list[CounterKey], now: float, fix: bool) -> list[Drift]:
    """Compare counters that no call can change meanwhile, and correct them with `fix`."""
    tx.lock_tenant(tenant_id, now)
    tx.lock_counters(keys)
    found = _compare(tx, tenant_id, keys, now)
    for drift in found if fix else ():
        tx.reset_counter(drift.key, drift.spent, drift.in_flight)
    return found


def _compare(tx: Transaction, tenant_id: str, keys: Iterable[CounterKey], now: float) -> list[Drift]:
    limits = {limit.id: limit for limit in tx.rules(tenant_id).limits}
    found = []
    for key in keys:
        limit = limits.get(key.limit_id)
        if limit is None or not is_known(limit):
            continue
        window = limit.window(now)
        counter, in_flight = tx.balance(key)
        if counter is None or window.start != key.window_start:
            continue
        spent = spent_in(tx, Item(limit, window, key), tenant_id)
        if (counter.settled, counter.held) != (spent, in_flight):
            found.append(Drift(limit, window, key, counter.settled, counter.held, spent, in_flight))
    return found


def is_known(limit: Limit) -> bool:
    """Return whether the ledger can always tell what was spent on a limit.

    A total may be older than the ledger. The totals of days, which are kept, know dollars of one tenant, by model and
    provider or by user and feature.
    """
    if limit.frequency != TOTAL:
        return True
    found = parse_filter(limit.filter)
    of_model, of_user = found.model or found.provider, found.user or found.feature
    return limit.unit == USD and not (of_model and of_user) and limit.tenant_id != EVERYONE
