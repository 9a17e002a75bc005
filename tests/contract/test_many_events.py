"""The sums of many random events, to the nano-dollar: ledger, counters, roll-ups and reports, on every store.

Each run takes 1,000 events; `nox --session stores` takes 100,000.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest

from tests.contract.calls import DAY, NOW
from token_limit_core.events import LLMEvent
from token_limit_core.limits import EVERYONE, REQUESTS, TOKENS, Limit
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call
from token_limit_core.windows import PER_DAY, PER_MONTH, PER_YEAR, TOTAL

EVENTS = 100_000 if os.environ.get("TOKEN_LIMIT_TEST_MATRIX") else 1000
BATCH = 250
TENANTS = ("acme", "globex", "initech")
USERS = ("ann", "bob", None)
MODELS = ("gpt-5", "gpt-5-mini", "claude")
START = NOW - 7 * DAY
LIMITS: list[dict[str, Any]] = [
    {"frequency": PER_MONTH, "amount": 10**17},
    {"frequency": PER_DAY, "amount": 10**17, "filter": "user=*"},
    {"frequency": TOTAL, "amount": 10**17, "filter": "model=gpt-5*"},
    {"frequency": PER_YEAR, "amount": 10**15, "unit": TOKENS},
    {"frequency": PER_YEAR, "amount": 10**15, "unit": REQUESTS, "filter": "user=ann"},
]
KEYS: dict[Any, Any] = {
    "day": lambda event: int(event.timestamp // DAY),
    "model": lambda event: event.model,
    "user": lambda event: event.user or "",
}


def some_event(dice: random.Random, number: int) -> tuple[LLMEvent, int]:
    event = LLMEvent(
        f"event-{number}", dice.choice(TENANTS), provider="openai", model=dice.choice(MODELS), user=dice.choice(USERS),
        total_tokens=dice.randint(0, 200_000), timestamp=dice.uniform(START, NOW),
    )  # fmt: skip
    return event, dice.choice((0, 1, dice.randint(0, 10**4), dice.randint(0, 10**11)))


def counted(limit: Limit, subject: str, rows: list[tuple[LLMEvent, int]]) -> int:
    """Sum what counts on a limit in its current window, from the events alone."""
    window = limit.window(NOW)
    matches: dict[str, Any] = {
        "": lambda event: True,
        "user=*": lambda event: event.user == subject,
        "user=ann": lambda event: event.user == "ann",
        "model=gpt-5*": lambda event: event.model.startswith("gpt-5"),
    }
    return sum(
        {"usd": cost, TOKENS: event.total_tokens, REQUESTS: 1}[limit.unit]
        for event, cost in rows
        if limit.tenant_id in (EVERYONE, event.tenant_id)
        and window.start <= event.timestamp < window.end
        and matches[limit.filter](event)
    )


@pytest.mark.timeout(1200 if EVENTS > 1000 else 120)
def test_the_sums_of_random_events_are_exact(store: Store) -> None:
    dice = random.Random(15)
    for tenant in (*TENANTS, EVERYONE):
        for fields in LIMITS:
            store.set_limit(Limit(tenant, **fields), START)
    rows = [some_event(dice, number) for number in range(EVENTS)]
    for place in range(0, EVENTS, BATCH):
        (event, cost), *others = rows[place : place + BATCH]
        call = Call(event.event_id, event.tenant_id, dice.randint(0, 10**9), provider=event.provider,
                    model=event.model, user=event.user)  # fmt: skip
        assert store.admit(call, event.timestamp).admitted
        assert store.settle(call.call_id, event, cost, NOW) == "stored"
        assert store.record(others, NOW) == ["stored"] * len(others)
        assert store.record(others[:5], NOW) == ["duplicate"] * 5

    for tenant in TENANTS:
        mine = [(event, cost) for event, cost in rows if event.tenant_id == tenant]
        assert store.spend(tenant, 0, NOW + DAY).cost_nano == sum(cost for _, cost in mine)
        for by, key in KEYS.items():
            sums: Counter[str | int] = Counter()
            for event, cost in mine:
                sums[key(event)] += cost
            assert {row.key: row.total.cost_nano for row in store.report(by, START - DAY, NOW + DAY, tenant)} == sums
    for tenant in (*TENANTS, EVERYONE):
        for status in store.usage(tenant, NOW):
            assert (status.settled, status.held) == (counted(status.limit, status.subject, rows), 0), status
    assert store.reconcile(NOW) == []
