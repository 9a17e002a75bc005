"""Fill a store with made-up tenants, plans, events and refusals, so that the pages have life in them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice

import click

from ..events import LLMEvent
from ..meter import Meter
from ..money import to_usd
from ..runtime.faults import ConfigurationError
from ..stores.queries import TenantQuery
from ..stores.records import Call, Refusal
from ..windows import DAY, PER_DAY, PER_MONTH, window_of
from .session import with_new_meter

BATCH = 2000
BY = "demo"

FIRST = ("Acme", "Northwind", "Globex", "Initech", "Umbra", "Hooli", "Vandelay", "Contoso", "Fabrikam", "Stark",
         "Tyrell", "Wonka", "Cyber", "Blue", "Lumen", "Orbit", "Harbor", "Maple", "Granite", "Quill")  # fmt: skip
SECOND = ("Labs", "Ltd", "GmbH", "Foods", "Health", "Legal", "Travel", "Bank", "Games", "Media", "Robotics", "Energy",
          "Schools", "Parts", "Studio")  # fmt: skip
USERS = ("ann", "bob", "cho", "dara", "eli", "fay", "gus", "hana", "ivo", "jun")
FEATURES = ("chat", "summary", "search", "agent", "translate")
MODELS = (  # provider, model, nano-dollars per token in and out, weight
    ("openai", "gpt-5-mini", 250, 2_000, 40),
    ("openai", "gpt-5", 1_250, 10_000, 15),
    ("anthropic", "claude-sonnet-4-5", 3_000, 15_000, 20),
    ("anthropic", "claude-haiku-4-5", 1_000, 5_000, 10),
    ("google", "gemini-2.5-flash", 300, 2_500, 15),
)
NEW_MODEL = "gpt-next-preview"
SHARES = (85, 50, 110, 20, 93, 60, 35, 70)
"""Of limits of their own, tenants have spent one of these percentages."""


@click.command()
@click.option("--tenants", type=click.IntRange(1, 10_000), default=300, show_default=True)
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True)
@click.option("--events", type=click.IntRange(1, 2_000_000), default=100_000, show_default=True)
@with_new_meter
def seed(meter: Meter, tenants: int, days: int, events: int) -> None:
    """Fill an empty store with made-up tenants, plans, events and refusals, to look at the pages."""
    fill(meter, tenants, days, events)
    click.echo(f"{events:,} events of {tenants:,} tenants over {days:,} days are in {meter.store}.")


def fill(meter: Meter, tenants: int, days: int, events: int) -> None:
    """Fill an empty store. Raises `ConfigurationError` for one that has tenants."""
    store, now, dice = meter.store, meter.config.clock(), random.Random(1)
    if store.tenants(TenantQuery(size=1), now).total:
        raise ConfigurationError(
            f"store: {store} has tenants already; expected an empty one, for example --store sqlite:///demo.db"
        )
    names = dict(islice(_names(), tenants))
    made = _events(dice, list(names), now, days, events)
    while batch := list(islice(made, BATCH)):
        store.record(batch, now)
    for tenant_id, name in names.items():
        store.name_tenant(tenant_id, name, now, BY)
    _plan(meter, list(names), now)
    _refuse(meter, dice, now)
    for number, tenant_id in enumerate(dice.sample(list(names), min(6, tenants))):
        call = Call(f"demo-hold-{number}", tenant_id, dice.randint(1, 40) * 10**6, model="gpt-5", provider="openai")
        store.admit(call, now - dice.randint(1, 240))


def _names() -> Iterator[tuple[str, str]]:
    number = 0
    while True:
        first, second = FIRST[number % len(FIRST)], SECOND[(number // len(FIRST)) % len(SECOND)]
        again = number // (len(FIRST) * len(SECOND))
        yield f"t-{number + 1:04}", f"{first} {second}" + (f" {again + 1}" if again else "")
        number += 1


def _events(
    dice: random.Random, tenants: list[str], now: float, days: int, events: int
) -> Iterator[tuple[LLMEvent, int | None]]:
    """Make events, oldest first: few tenants make most calls, working days have more of them, and use grows."""
    weights = [1 / (place + 3) for place in range(len(tenants))]
    times = sorted(_time(dice, now, days) for _ in range(events))
    payers = dice.choices(tenants, weights, k=events)
    models = dice.choices(MODELS, [model[-1] for model in MODELS], k=events)
    for number, (at, tenant_id, model) in enumerate(zip(times, payers, models, strict=True)):
        yield _event(dice, number, at, "" if number % 211 == 7 else tenant_id, *model[:4])


def _time(dice: random.Random, now: float, days: int) -> float:
    while True:
        at = now - days * DAY * (1 - float(dice.random() ** 0.8))
        moment = datetime.fromtimestamp(at, UTC)
        quiet = moment.weekday() >= 5 or not 7 <= moment.hour <= 20
        if not quiet or dice.random() < 0.3:
            return at


def _event(
    dice: random.Random, number: int, at: float, tenant_id: str, provider: str, model: str, each_in: int, each_out: int
) -> tuple[LLMEvent, int | None]:
    tokens_in, tokens_out = int(dice.lognormvariate(7.2, 0.9)), int(dice.lognormvariate(5.8, 0.8))
    is_new, failed = number % 997 == 5, number % 83 == 2
    event = LLMEvent(
        event_id=f"demo-{number}",
        tenant_id=tenant_id,
        session_id=f"s-{dice.randint(1, 40):02}",
        provider=provider,
        model=NEW_MODEL if is_new else model,
        endpoint="messages" if provider == "anthropic" else "chat.completions",
        input_tokens=tokens_in,
        output_tokens=0 if failed else tokens_out,
        total_tokens=tokens_in + (0 if failed else tokens_out),
        duration_ms=round(dice.lognormvariate(7.3, 0.6), 1),
        timestamp=at,
        request_id=f"req_{number:08x}",
        stream=dice.random() < 0.6,
        error="RateLimitError 429" if failed else None,
        user=dice.choice(USERS),
        feature=dice.choice(FEATURES),
        tags={"price_assumed": "gpt-5"} if number % 601 == 3 else {},
    )
    if is_new:
        return event, None
    return event, 0 if failed else tokens_in * each_in + tokens_out * each_out


def _plan(meter: Meter, tenants: list[str], now: float) -> None:
    """Put most tenants on plans, give some limits of their own near what they have spent, and suspend two."""
    meter.set_plan("free", [{"amount": 1}], by=BY)
    meter.set_plan("pro", [{"amount": 50}, {"amount": 5, "frequency": PER_DAY}], markup=20, by=BY)
    meter.set_plan("business", [{"amount": 500}, {"amount": 40, "user": "*"}], markup=10, by=BY)
    month, shares = window_of(PER_MONTH, now), cycle(SHARES)
    for place, tenant_id in enumerate(tenants):
        kind = place % 10
        if kind < 7:
            meter.assign_plan(tenant_id, ("business", "pro", "pro", "free", "pro", "free", "pro")[kind], by=BY)
        elif kind < 9:
            spent = meter.store.spend(tenant_id, month.start, month.end).cost_nano
            amount = max(10**6, spent * 100 // next(shares) // 10**6 * 10**6)
            meter.set_limit(tenant_id, to_usd(amount), by=BY)
    for tenant_id in tenants[5::150][:2]:
        meter.suspend(tenant_id, reason="unpaid invoice", by=BY)


def _refuse(meter: Meter, dice: random.Random, now: float) -> None:
    """Leave the refusals of a week at the tenants that are over a limit or suspended."""
    store = meter.store
    rows = []
    for standing, kind, limited_by in (("over", "exhausted", PER_MONTH), ("suspended", "suspended", "")):
        for tenant in store.tenants(TenantQuery(standing=standing), now).rows:  # type: ignore[arg-type]
            for _ in range(dice.randint(1, 12)):
                at = now - dice.random() * 7 * DAY
                model, user, feature = dice.choice(MODELS)[1], dice.choice(USERS), dice.choice(FEATURES)
                minute, calls = int(at // 60) * 60, dice.randint(1, 9)
                rows.append(
                    Refusal(
                        tenant.tenant_id, minute, kind, limited_by, calls, at, model, "chat.completions", user, feature
                    )
                )
    store.add_refusals(rows)
