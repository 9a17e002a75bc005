"""A store with a year in the life of a few tenants, and the console over it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from token_limit_core import Meter, MeterConfig
from token_limit_core.events import LLMEvent
from token_limit_core.limits import ENFORCE, OBSERVE, Limit
from token_limit_core.stores.records import Call
from token_limit_core.windows import PER_DAY, PER_MONTH

NOW = 1_800_021_600.0  # 15 January 2027, 14:00 UTC
DAY = 86400.0
USD = 10**9
MODELS = [("openai", "gpt-5", 9), ("anthropic", "claude-sonnet-4-5", 6), ("openai", "gpt-5-mini", 2)]
EVIL = "<script>alert(1)</script>'\"&{{7*7}}=cmd|' /C calc'!A0"


def make_meter(store: str, clock: Callable[[], float] = lambda: NOW) -> Meter:
    """Make a Meter whose clock stands still."""
    return Meter(MeterConfig(store=store, clock=clock, patches=[]))


def fill(meter: Meter, days: int = 3) -> Meter:
    """Tell a story: one tenant near its limit, one at it, one observed, one with odd names, calls in flight."""
    store, dice = meter.store, random.Random(7)
    for tenant, amount, frequency, mode in [
        ("acme", 40, PER_MONTH, ENFORCE),
        ("acme", 5, PER_DAY, ENFORCE),
        ("globex", 12, PER_MONTH, ENFORCE),
        ("initech", 2, PER_MONTH, OBSERVE),
        (EVIL, 1, PER_MONTH, ENFORCE),
    ]:
        limit = Limit(tenant, amount * USD, frequency, mode, effective_from=NOW - 40 * DAY)
        store.set_limit(limit, NOW - 40 * DAY, by="ann@example.com")
    store.set_limit(Limit("acme", 60 * USD, effective_from=NOW + 20 * DAY), NOW - DAY, by="bob@example.com")
    for tenant, each in (("acme", 0.12), ("globex", 0.2), ("initech", 0.05), ("hooli", 0.02), ("umbrella", 0.01)):
        events = []
        for day in range(days):
            for _ in range(dice.randint(2, 9)):
                provider, model, price = dice.choice(MODELS)
                at = NOW - day * DAY - dice.random() * 40_000
                tokens = {"input_tokens": dice.randint(200, 9000), "output_tokens": dice.randint(50, 900)}
                event = LLMEvent(
                    f"{tenant}-{len(events)}", tenant, provider=provider, model=model, timestamp=at,
                    endpoint="chat.completions", duration_ms=dice.random() * 4000, user="ann", **tokens,
                )  # fmt: skip
                events.append((event, int(each * price / 4 * dice.random() * USD)))
        store.record(events, NOW)
    odd = LLMEvent("odd", EVIL, provider=EVIL, model=EVIL, timestamp=NOW - 60, error=EVIL, tags={EVIL: EVIL}, user=EVIL)
    unpriced = LLMEvent("new", "acme", provider="openai", model="gpt-9", timestamp=NOW - 90, tags={"estimated": True})
    store.record([(odd, 5), (unpriced, None), (LLMEvent("nobody", timestamp=NOW - 30, model="gpt-5"), 3)], NOW)
    for number, (tenant, age) in enumerate([("acme", 12), ("acme", 700), ("initech", 45)]):
        store.admit(Call(f"call-{number:04}-5e0c", tenant, (number + 1) * USD // 50), NOW - age)
    return meter


def sqlite(folder: Path, days: int = 3) -> Meter:
    """Make a filled Meter over SQLite."""
    return fill(make_meter(f"sqlite:///{folder}/ledger.db"), days)
