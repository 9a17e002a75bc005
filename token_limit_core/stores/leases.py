"""Leases in the store: slices of what is left of limits, from which a process admits calls without asking.

A lease is one open hold with the origin `lease`, so that lists of holds, expiry and `reconcile` know it. Each slice is
taken by the conditional update of an admission, and fits whole: settled + held + slice <= limit. `calls/leases.py` is
its other half, and says why that is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ..limits import STRICT, USD, CounterKey, Decision, Item, Limit, items_for
from ..runtime.ids import new_id, process_name
from .admission import rewrite
from .plans import Rules
from .records import LEASE, Call, Counter, Hold
from .transaction import Transaction

SHARE = 300
"""A slice is this part of what is left of a limit: of eight processes' slices together 97 % of it is free."""

WORTH = 8
"""Calls that must fit into a slice: a lease costs two transactions, as many as one call."""

GRACE = 60.0
"""Seconds after its end until the hold of a lease expires: for a slow store, and clocks of hosts that differ."""


class Lease(NamedTuple):
    """What a process may admit a tenant's calls by until `end` (unix seconds): its rules, and the hold of the slices.

    The hold is None where there is nothing to hold on, or a limit is strict, nearly used up or too small.
    """

    rules: Rules
    end: float
    hold: Hold | None = None


def amount_on(call: Call, limit: Limit) -> int:
    """Return what a call takes from a slice: what a limit holds for it near its end."""
    return max(call.amount_on(limit) or 0, call.ceiling_on(limit) or 0)


def grant(
    tx: Transaction, call: Call, now: float, seconds: float, kept: Collection[CounterKey], assigns_plans: bool
) -> Lease | None:
    """Take a slice of each limit that matches a call and is not in `kept`, or none; atomic."""
    rules = tx.rules(call.tenant_id)
    if rules.suspended or (rules.plan is None and assigns_plans):
        return None
    call = call.marked_up(rules.markup)
    lease = Lease(rules, now + seconds)
    items = [item for item in items_for(rules.limits, call.tenant_id, now, call.facts) if item.key not in kept]
    sizes: list[int] = []
    for item in items:
        counter = tx.counter(item.key)
        if counter is None or counter.ends(now) or item.limit.mode == STRICT:
            return lease
        sizes.append(_size(call, item.limit, counter))
        if not sizes[-1]:
            return lease
        if counter.extra_until is not None:
            lease = lease._replace(end=min(lease.end, counter.extra_until))
    hold = _hold(call.tenant_id, items, sizes, now, lease.end + GRACE)
    if not items or not tx.take_all(hold, now, [item.limit.amount for item in items]):
        return lease
    return lease._replace(hold=hold)


def _size(call: Call, limit: Limit, counter: Counter) -> int:
    size = (limit.amount + counter.extra - counter.settled - counter.held) // SHARE
    least = WORTH * max(1, call.amount_on(limit) or 0)
    return size if size >= max(least, amount_on(call, limit)) else 0


def _hold(tenant_id: str, items: Sequence[Item], sizes: Sequence[int], now: float, expires_at: float) -> Hold:
    """Make the hold of a lease. Its amount, which is never charged, is only for people."""
    amount = max((size for item, size in zip(items, sizes, strict=True) if item.limit.unit == USD), default=0)
    keys = tuple(item.key for item in items)
    return Hold(
        new_id(), tenant_id, amount, now, expires_at, LEASE, process=process_name(), items=keys, amounts=tuple(sizes)
    )


def resize(tx: Transaction, lease_id: str, amounts: Sequence[int], now: float, expires_at: float) -> Decision | None:
    """Let an open lease hold other amounts, whatever is left; say whether a limit is used up now."""
    hold = tx.hold(lease_id)
    if hold is None or hold.state != "open" or len(amounts) != len(hold.items):
        return None
    tx.lock_tenant(hold.tenant_id, now)
    if not tx.renew_hold(lease_id, expires_at):
        return None
    limits = {limit.id: limit for limit in tx.rules(hold.tenant_id).limits}
    return rewrite(tx, hold, hold._replace(amounts=tuple(amounts), expires_at=expires_at), limits)


def hold_anyway(tx: Transaction, hold: Hold, now: float) -> bool:
    """Insert a hold whatever is left of its limits, unless there is one of its id."""
    tx.lock_tenant(hold.tenant_id, now)
    return tx.hold(hold.call_id) is None and tx.take_all(hold, now, None)
