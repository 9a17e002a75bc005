"""Admission, once, for every store with transactions: take a hold, raise it, and keep it for work in the background.

Each function is the whole of one short transaction, or a part of it, written in the primitives of `Transaction`.
Windows that are not open yet are the business of `counters.py`; what ends a hold is in `ledger.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..limits import (
    ADMITTED,
    COST,
    OBSERVE,
    REQUESTS,
    STRICT,
    TOKENS,
    USD,
    Decision,
    Item,
    Limit,
    LimitStatus,
    items_for,
    judge,
    refuse,
)
from ..runtime.ids import process_name
from .records import NEAR, Call, Hold
from .transaction import Retry, Transaction


def admit(tx: Transaction, call: Call, now: float, assigns_plans: bool = False) -> Decision | Retry:
    """Hold on every limit that matches, or give back what was taken and say why."""
    at_once = tx.admit_at_once(call, now, assigns_plans)
    if at_once is not None:
        return at_once
    asked = what_to_hold_on(tx, call, now, assigns_plans)
    if not isinstance(asked, Asked):
        return asked
    call, items = asked
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


class Asked(NamedTuple):
    """A call with its charges, and the counters that it is to be held on."""

    call: Call
    items: list[Item]


def what_to_hold_on(tx: Transaction, call: Call, now: float, assigns_plans: bool) -> Asked | Decision | Retry:
    """Read the limits that match a call, or say why it is not admitted, or not yet."""
    rules = tx.rules(call.tenant_id)
    if rules.suspended:
        return Decision("suspended", call.tenant_id)
    if rules.plan is None and assigns_plans:
        return Retry.PLAN
    call = call.marked_up(rules.markup)
    return Asked(call, items_for(rules.limits, call.tenant_id, now, call.facts) if rules.limits else [])


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
