"""Short words for the contract suite. Amounts are nano-dollars, times unix seconds (UTC); the tenant is acme."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from token_limit_core.events import LLMEvent
from token_limit_core.limits import Decision, Limit, LimitStatus
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import HOLD_SECONDS, Call, Recorded
from token_limit_core.windows import PER_MONTH

USD = 10**9
DAY = 86400.0
_ids = itertools.count(1)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2027-01-15 12:00")
LATE = NOW + HOLD_SECONDS
"""When a hold taken at `NOW` expires."""
MONTH = (at("2027-01-01"), at("2027-02-01"))


def new_id() -> str:
    return f"call-{next(_ids)}"


def limit_to(
    store: Store, amount: int, tenant: str = "acme", now: float = NOW, start: float | None = None, **fields: Any
) -> Limit:
    return store.set_limit(Limit(tenant, amount, effective_from=now if start is None else start, **fields), now)


def admit(store: Store, estimate: int | None, call_id: str = "", tenant: str = "acme", now: float = NOW) -> Decision:
    return store.admit(Call(call_id or new_id(), tenant, estimate), now)


def settle(
    store: Store, call_id: str, cost: int | None, tenant: str = "acme", started: float = NOW, now: float = NOW
) -> Recorded:
    return store.settle(call_id, event_for(call_id, tenant, started), cost, now)


def event_for(call_id: str, tenant: str = "acme", started: float = NOW, tokens: int = 0) -> LLMEvent:
    return LLMEvent(call_id, tenant, timestamp=started, total_tokens=tokens)


def record(store: Store, cost: int | None, tenant: str = "acme", when: float = NOW, **fields: Any) -> None:
    event = LLMEvent(new_id(), tenant, timestamp=when, **fields)
    assert store.record([(event, cost)], when) == ["stored"]


def call(store: Store, estimate: int, cost: int | None = None, tenant: str = "acme", now: float = NOW) -> Decision:
    """Make a whole call: admit and, if admitted, settle at `cost` (the estimate where none is given)."""
    call_id = new_id()
    decision = admit(store, estimate, call_id, tenant, now)
    if decision.admitted:
        assert settle(store, call_id, estimate if cost is None else cost, tenant, now, now) == "stored"
    return decision


def state(store: Store, tenant: str = "acme", now: float = NOW, frequency: str = PER_MONTH) -> LimitStatus:
    [status] = [status for status in store.usage(tenant, now) if status.limit.frequency == frequency]
    return status


def amounts(store: Store, tenant: str = "acme", now: float = NOW, frequency: str = PER_MONTH) -> tuple[int, int]:
    status = state(store, tenant, now, frequency)
    return status.settled, status.held


def cost_of(store: Store, tenant: str = "acme", start: float = 0, end: float = 1e12) -> int:
    return store.spend(tenant, start, end).cost_nano


def assert_adds_up(store: Store, tenant: str = "acme", now: float = NOW) -> None:
    """The counters say what the ledger and the open holds say."""
    statuses = store.usage(tenant, now)
    assert statuses
    for status in statuses:
        key = (tenant, status.limit.id, "", status.window.start)
        assert status.settled == cost_of(store, tenant, *status.window)
        assert status.held == sum(hold.held for hold in store.holds(tenant) if key in hold.items)
