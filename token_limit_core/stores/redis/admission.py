"""Admission in Redis: the limits are read from the database, without a lock, and held on by one script.

A limit on all tenants together is in another slot. It is held on second; if it refuses, the first hold is given back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ...limits import ADMITTED, EVERYONE, OBSERVE, STRICT, Decision, Item, LimitStatus, judge
from ..admission import Asked, hold_for, needed_on, what_to_hold_on
from ..records import NEAR, Call, Hold
from ..transaction import Retry, Transaction
from . import scripts
from .slots import Slots, header_of, name_of

Outcome = Decision | Retry


def admit(tx: Transaction, slots: Slots, call: Call, now: float, assigns_plans: bool) -> Outcome:
    """Hold on every limit that matches, or on none; what `admission.admit` does in steps."""
    asked = what_to_hold_on(tx, call, now, assigns_plans)
    if not isinstance(asked, Asked):
        return asked
    call, items = asked
    if any(item.limit.mode == STRICT and call.amount_on(item.limit) is None for item in items):
        return Decision("unpriced", call.tenant_id)
    if not items:
        return ADMITTED
    own, shared = ([item for item in items if (item.key.tenant_id == EVERYONE) is wanted] for wanted in (False, True))
    header = header_of(hold_for(call, items, (), now), bool(shared))
    observed: list[str] = []
    for slot, its in ((call.tenant_id, own), (EVERYONE, shared)):
        if slot == EVERYONE and not shared:
            break
        outcome = _hold(slots, slot, call, header, its, now)
        if not isinstance(outcome, list):
            if slot == EVERYONE:
                slots.run(scripts.CLOSE, call.tenant_id, call.call_id)
            return outcome
        observed += outcome
    slots.remember_owner(call.call_id, call.tenant_id)
    return ADMITTED if not observed else replace(ADMITTED, observed=tuple(observed))


def take_all(slots: Slots, hold: Hold, now: float, limits: Sequence[int] | None) -> bool:
    """Take exactly what a hold holds; what `Transaction.take_all` does."""
    room = [None] * len(hold.items) if limits is None else limits
    asked: dict[str, list[dict[str, object]]] = {hold.tenant_id: []}
    for (key, amount), limit in zip(hold.held_on(), room, strict=True):
        tries = [(str(amount), "" if limit is None else str(amount), "")]
        asked.setdefault(key.tenant_id, []).append(
            {"name": name_of(key), "amount": str(limit or 0), "tries": tries, "together": 1}
        )
    header = header_of(hold, EVERYONE in asked and hold.tenant_id != EVERYONE)
    for slot, its in asked.items():
        if slots.run(scripts.ADMIT, slot, repr(now), hold.call_id, header, json.dumps(its))[0] != "admitted":
            if slot != hold.tenant_id:
                slots.run(scripts.CLOSE, hold.tenant_id, hold.call_id)
            return False
    slots.remember_owner(hold.call_id, hold.tenant_id)
    return True


def _hold(slots: Slots, slot: str, call: Call, header: str, items: Sequence[Item], now: float) -> list[str] | Outcome:
    """Hold in one slot; return the kinds of refusal that observed limits would have been."""
    asked = [
        {
            "name": name_of(item.key),
            "amount": str(item.limit.amount),
            "tries": _tries(call, item),
            "together": call.together,
        }
        for item in items
    ]
    verdict, *answers = slots.run(scripts.ADMIT, slot, repr(now), call.call_id, header, json.dumps(asked))
    if verdict == "closed":
        return Retry.WINDOWS
    states = [
        LimitStatus(item.limit, item.window, int(settled), int(held), int(extra), item.key.subject)
        for item, (settled, held, extra, _) in zip(items, list(json.loads(answers[0])), strict=False)
    ]
    if verdict == "refused":
        status = states[-1]
        needed = needed_on(status.limit, int(_tries(call, items[len(states) - 1])[-1][0]))
        return judge(status, call.tenant_id, now, 1 if needed is None else needed) or Retry.NOTHING
    seen = (judge(status, call.tenant_id, now) for status in states if status.limit.mode == OBSERVE)
    return [decision.kind for decision in seen if decision is not None]


def _tries(call: Call, item: Item) -> list[tuple[str, str, str]]:
    """Say what to hold on a limit at least, the room it needs, and what to hold of the unspent; most room first."""
    limit = item.limit
    amount = call.amount_on(limit) or 0
    ceiling = call.ceiling_on(limit)
    tries = []
    if ceiling is not None and ceiling > amount:
        tries.append((str(amount), str(NEAR * ceiling), ""))
    else:
        ceiling = None
    needed = needed_on(limit, amount)
    return [*tries, (str(amount), "" if needed is None else str(needed), "" if ceiling is None else str(ceiling))]
