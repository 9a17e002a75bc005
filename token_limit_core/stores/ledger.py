"""The ledger algorithm, once, for every store with transactions: of one entry, and of many.

Each function is the whole of one short transaction, or a part of it, written in the primitives of `Transaction`.
Windows that are not open yet are the business of `counters.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ..limits import (
    ADMITTED,
    COST,
    EVERYONE,
    OBSERVE,
    REQUESTS,
    STRICT,
    TOKENS,
    USD,
    CounterKey,
    Decision,
    Item,
    Limit,
    LimitStatus,
    items_for,
    judge,
    keys_for,
    lock_order,
    refuse,
)
from ..runtime.ids import process_name
from .counters import notice, notice_entry, notice_unopened
from .entries import Entry, correction_of, expiry_of
from .records import LEASE, NEAR, Call, Hold, Recorded
from .transaction import Retry, Transaction


def admit(tx: Transaction, call: Call, now: float, assigns_plans: bool = False) -> Decision | Retry:
    """Hold on every limit that matches, or give back what was taken and say why."""
    at_once = tx.admit_at_once(call, now, assigns_plans)
    if at_once is not None:
        return at_once
    rules = tx.rules(call.tenant_id)
    if rules.suspended:
        return Decision("suspended", call.tenant_id)
    if rules.plan is None and assigns_plans:
        return Retry.PLAN
    call = call.marked_up(rules.markup)
    items = items_for(rules.limits, call.tenant_id, now, call.facts) if rules.limits else []
    amounts: list[int] = []
    observed: list[str] = []
    for item in items:
        outcome = _take(tx, call, item, now)
        if not isinstance(outcome, int):
            for taken, amount in zip(items, amounts, strict=False):
                tx.charge(taken.key, 0, -amount)
            return outcome
        amounts.append(outcome)
        if item.limit.mode == OBSERVE and (seen := _seen(tx, item, call, now, outcome)):
            observed.append(seen.kind)
    if items:
        tx.insert_hold(hold_for(call, items, amounts, now))
    return ADMITTED if not observed else replace(ADMITTED, observed=tuple(observed))


def _take(tx: Transaction, call: Call, item: Item, now: float) -> int | Decision | Retry:
    """Hold on one counter; return what it holds, or why it does not."""
    limit = item.limit
    known = call.amount_on(limit)
    if known is None and limit.mode == STRICT:
        return Decision("unpriced", call.tenant_id)
    amount = 0 if known is None else known
    ceiling = call.ceiling_on(limit)
    if ceiling is not None and ceiling > amount:
        if tx.take(item.key, amount, NEAR * ceiling, now):
            return amount
        if (counter := tx.counter(item.key)) is None:
            return Retry.WINDOWS
        unspent = limit.amount + counter.extra - counter.settled  # a little more by now, which does no harm
        amount = max(amount, min(ceiling, unspent // call.together))
    needed = needed_on(limit, amount)
    if tx.take(item.key, amount, needed, now):
        return amount
    counter = tx.counter(item.key)
    if counter is None or counter.ends(now):
        return Retry.WINDOWS
    status = LimitStatus(limit, item.window, counter.settled, counter.held, counter.extra, item.key.subject)
    return judge(status, call.tenant_id, now, 1 if needed is None else needed) or Retry.NOTHING


def needed_on(limit: Limit, amount: int) -> int | None:
    """Return the room that a call needs on a limit: all of it on a strict one, any on an enforced one, else None."""
    if limit.mode == OBSERVE:
        return None
    return max(1, amount) if limit.mode == STRICT else 1


def _seen(tx: Transaction, item: Item, call: Call, now: float, amount: int) -> Decision | None:
    """Say what an observed limit would have refused the call with, before it took it."""
    counter = tx.counter(item.key)
    if counter is None:
        return None
    status = LimitStatus(item.limit, item.window, counter.settled, counter.held - amount, counter.extra)
    return judge(status, call.tenant_id, now)


def hold_for(call: Call, items: Sequence[Item], amounts: Sequence[int], now: float) -> Hold:
    """Make the hold of an admitted call; if it never ends, a strict limit's call is billed its worst case."""
    strict = {item.limit.unit for item in items if item.limit.mode == STRICT}
    worst = USD in strict and call.worst_case is not None
    amount = call.worst_case if worst else call.estimate
    charge = None if call.charges is None else call.charges[worst]
    tokens = call.worst_tokens if TOKENS in strict and call.worst_tokens is not None else call.tokens
    return Hold(
        call.call_id,
        call.tenant_id,
        amount,
        now,
        now + call.hold_seconds,
        call.origin,
        tokens=tokens,
        provider=call.provider,
        model=call.model,
        user=call.user,
        feature=call.feature,
        process=process_name(),
        items=tuple([item.key for item in items]),  # quicker than from a generator
        amounts=tuple(amounts),
        charge=charge,
    )


def raise_hold(tx: Transaction, call_id: str, amount: int | None, tokens: int, now: float) -> Decision | None:
    """Raise what an open hold holds on each of its limits; say whether one of these is used up by now.

    It never lowers anything. None: there is no open hold.
    """
    hold = tx.hold(call_id)
    if hold is None or hold.state != "open":
        return None
    tx.lock_tenant(hold.tenant_id, now)  # no settle may free what is not held yet
    limits = {limit.id: limit for limit in tx.rules(hold.tenant_id).limits}
    raised = tuple(
        held if key.limit_id not in limits else raised_on(limits[key.limit_id], hold, held, amount, tokens)
        for key, held in hold.held_on()
    )
    most = hold.amount if amount is None else max(hold.held, amount)
    tokens = max(hold.tokens, tokens)
    higher = hold._replace(amount=most, charge=hold.charge_for(most), tokens=tokens, amounts=raised)
    return rewrite(tx, hold, higher, limits)


def raised_on(limit: Limit, hold: Hold, held: int, amount: int | None, tokens: int) -> int:
    """Return what a hold that holds `held` on a limit holds there once its call has grown; never less."""
    usd = amount if hold.charge is None or limit.basis == COST else hold.charge_for(amount)
    return max(held, {USD: 0 if usd is None else usd, TOKENS: tokens, REQUESTS: 0}[limit.unit])


def rewrite(tx: Transaction, hold: Hold, changed: Hold, limits: Mapping[int, Limit]) -> Decision | None:
    """Change what an open hold of a tenant that is locked holds, whatever is left; say whether a limit is used up now.

    None: it is not open any more.
    """
    if not tx.update_hold(changed):
        return None
    decision = ADMITTED
    for (key, held), (_, holds) in zip(hold.held_on(), changed.held_on(), strict=True):
        tx.charge(key, 0, holds - held)
        limit, counter = limits.get(key.limit_id), tx.counter(key)
        if limit is not None and counter is not None and limit.mode != OBSERVE and decision is ADMITTED:
            status = LimitStatus(limit, limit.window(hold.created_at), *counter[:3], key.subject)
            if status.settled + status.held > status.ceiling:
                decision = refuse("exhausted", status, hold.tenant_id)
    return decision


def keep(tx: Transaction, call_id: str, new_id: str, now: float, expires_at: float) -> bool:
    """Let the hold of work that goes on in the background wait for the event that tells what it has cost."""
    hold = tx.hold(call_id)
    if hold is None:
        return False
    tx.lock_tenant(hold.tenant_id, now)
    return tx.hold(new_id) is None and tx.rename_hold(call_id, new_id, expires_at)


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
