"""Batches hold what they may cost until their end is retrieved, on every kind of store."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import anthropic_wire
from tests.contract.sdk.anthropic_wire import AnthropicWire
from tests.contract.sdk.metered import TENANT
from tests.contract.sdk.uses import MESSAGES
from tests.contract.sdk.wire import Answer, Wire, as_json
from tests.support import postgres_schema, redis_database
from tests.waiting import PATIENCE
from token_limit_core import CallUnpriced, LimitExhausted, Meter, MeterConfig, TenantBusy
from token_limit_core.pricing.price_list import listed_price
from token_limit_core.testing import Clock

GUESS = 100_001 * 5_000 + 25_601 * 25_000
"""Nano-dollars that a batch of OpenAI's holds: 100,001 tokens in and 25,601 out, at the fallback price."""

ASKED = {"input_file_id": "file_1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
BATCH = {**ASKED, "object": "batch", "created_at": 1}


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        kinds: dict[str, Callable[[], str]] = {
            "memory": lambda: "memory://",
            "sqlite": lambda: f"sqlite:///{tmp_path}/ledger.db",
            "postgresql": lambda: stack.enter_context(postgres_schema()),
            "redis": lambda: f"{stack.enter_context(redis_database())}?ledger=sqlite:///{tmp_path}/ledger.db",
        }
        yield kinds[request.param]()


def made(count: int = 100) -> Wire:
    numbers = itertools.count(1)
    return Wire(*[lambda sent: as_json({**BATCH, "id": f"batch_{next(numbers)}", "status": "validating"})] * count)


def retrieve(batch_id: str, **fields: Any) -> None:
    Wire(lambda sent: as_json({**BATCH, "id": batch_id, **fields})).client().batches.retrieve(batch_id)


USED = {"input_tokens": 1_000_000, "output_tokens": 50_000, "total_tokens": 1_050_000}


def test_batches_are_held_until_their_end_is_retrieved(url: str) -> None:
    with Meter(MeterConfig(store=url)).patch("openai") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 3)
        client = made().client()
        for _ in range(3):
            client.batches.create(**ASKED)  # type: ignore[arg-type]
        with pytest.raises(TenantBusy):
            client.batches.create(**ASKED)  # type: ignore[arg-type]
        assert [hold.amount for hold in meter.store.holds(TENANT)] == [GUESS] * 3
        assert meter.usage(TENANT)[0].settled == 0

        retrieve("batch_1", status="in_progress")
        assert len(meter.store.holds(TENANT)) == 3
        retrieve("batch_1", status="completed", usage=USED, model="gpt-4o-mini")
        retrieve("batch_2", status="failed", request_counts={"total": 9, "completed": 0, "failed": 9})
        assert len(meter.store.holds(TENANT)) == 1
        (status,) = meter.usage(TENANT)
        price = listed_price("openai", "gpt-4o-mini", meter.config.clock(), "batch")
        assert price is not None
        assert (status.settled, status.held) == (price.of_tokens(1_000_000, 50_000), GUESS)


def test_the_next_batch_holds_what_the_last_one_of_its_tenant_cost() -> None:
    with Meter(MeterConfig(store="memory://")).patch("openai") as meter:
        meter.set_limit(TENANT, 10)
        meter.set_limit("globex", 10)
        client = made().client()
        with meter.for_tenant(TENANT):
            client.batches.create(**ASKED)  # type: ignore[arg-type]
            retrieve("batch_1", status="completed", usage=USED, model="gpt-4o-mini")
            client.batches.create(**ASKED)  # type: ignore[arg-type]
        with meter.for_tenant("globex"):
            client.batches.create(**ASKED)  # type: ignore[arg-type]
        (learned,), (other,) = meter.store.holds(TENANT), meter.store.holds("globex")
        cost = meter.usage(TENANT)[0].settled
        assert learned.amount is not None
        assert cost <= learned.amount <= 1.01 * cost
        assert (1_050_000, GUESS) <= (learned.tokens, other.amount) <= (1_051_000, GUESS)


def test_a_used_up_limit_and_a_strict_one_refuse_batches() -> None:
    with Meter(MeterConfig(store="memory://")).patch("openai") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 0)
        wired = made()
        with pytest.raises(LimitExhausted):
            wired.client().batches.create(**ASKED)  # type: ignore[arg-type]
        meter.set_limit(TENANT, 100, mode="strict")
        with pytest.raises(CallUnpriced):
            wired.client().batches.create(**ASKED)  # type: ignore[arg-type]
        assert wired.sent == []


@pytest.mark.parametrize("on_unpriced", ["refuse", "free"])
def test_a_batch_holds_the_guess_whatever_models_without_a_price_do(on_unpriced: Any) -> None:
    with Meter(MeterConfig(store="memory://", on_unpriced=on_unpriced)).patch("openai") as meter:
        meter.set_limit(TENANT, 100)
        with meter.for_tenant(TENANT):
            made().client().batches.create(**ASKED)  # type: ignore[arg-type]
        assert [hold.amount for hold in meter.store.holds(TENANT)] == [GUESS]


def test_a_batch_that_is_never_retrieved_is_billed_what_it_held() -> None:
    clock = Clock()
    with Meter(MeterConfig(store="memory://", clock=clock)).patch("openai") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 10, "total")
        made().client().batches.create(**ASKED)  # type: ignore[arg-type]
        clock.advance(29 * 86_400)
        assert meter.store.expire(clock()) == 0
        clock.advance(86_401)
        assert meter.store.expire(clock()) == 1
        assert meter.usage(TENANT)[0].settled == GUESS
        retrieve("batch_1", status="completed", usage=USED, model="gpt-4o-mini")
        settled = meter.usage(TENANT)[0].settled
        assert 0 < settled == meter.store.spend(TENANT, 0, clock() + 1).cost_nano < GUESS


# -- Anthropic ------------------------------------------------------------------------------------------

REQUESTS: list[Any] = [
    {"custom_id": str(n), "params": {"model": anthropic_wire.MODEL, "max_tokens": 100, "messages": MESSAGES}}
    for n in range(50)
]


def anthropic(**fields: Any) -> AnthropicWire:
    """Answer everything about a batch, and its results by two messages."""

    def script(sent: dict[str, Any]) -> Answer:
        return as_json({"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress", **fields})

    return AnthropicWire(script)


def results(sent: dict[str, Any]) -> Answer:
    rows = [{"custom_id": n, "result": {"type": "succeeded", "message": anthropic_wire.message(id=n)}} for n in "ab"]
    return Answer(200, [json.dumps(row).encode() + b"\n" for row in rows], "application/binary")


def ended(**counts: int) -> dict[str, Any]:
    url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
    return {"processing_status": "ended", "request_counts": counts, "results_url": url}


@pytest.mark.parametrize("beta", [False, True])
def test_a_batch_of_messages_holds_what_its_requests_may_cost_until_the_results(url: str, beta: bool) -> None:
    def batches(wired: AnthropicWire) -> Any:
        client = wired.client()
        return client.beta.messages.batches if beta else client.messages.batches

    with Meter(MeterConfig(store=url)).patch("anthropic") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 10)
        batches(anthropic()).create(requests=REQUESTS)
        price = listed_price("anthropic", anthropic_wire.MODEL, meter.config.clock(), "batch")
        assert price is not None
        [hold] = meter.store.holds(TENANT)
        assert hold.amount is not None
        assert price.of_tokens(0, 50 * 100) < hold.amount < price.of_tokens(50 * 100, 50 * 100)
        assert hold.model == anthropic_wire.MODEL

        batches(anthropic()).retrieve("msgbatch_1")
        assert len(meter.store.holds(TENANT)) == 1
        answers = iter((lambda sent: as_json({"id": "msgbatch_1", **ended(succeeded=2)}), results))
        list(batches(AnthropicWire(lambda sent: next(answers)(sent))).results("msgbatch_1"))
        assert meter.flush(PATIENCE)
        assert meter.store.holds(TENANT) == []
        (status,) = meter.usage(TENANT)
        assert (status.settled > 0, status.held) == (True, 0)


def test_each_request_of_a_batch_is_held_at_the_price_of_its_own_model() -> None:
    def held(*models: str) -> int:
        with Meter(MeterConfig(store="memory://")).patch("anthropic") as meter, meter.for_tenant(TENANT):
            meter.set_limit(TENANT, 10)
            rows = [{**REQUESTS[0], "params": {**REQUESTS[0]["params"], "model": model}} for model in models]
            anthropic().client().messages.batches.create(requests=rows)
            [hold] = meter.store.holds(TENANT)
            assert hold.amount is not None
            return hold.amount

    cheap, dear = "claude-haiku-4-5", "claude-opus-4-1"
    alone, other = held(*[cheap] * 5), held(*[dear] * 5)
    for together in (held(*[cheap, dear] * 5), held(*[dear, cheap] * 5)):
        assert together == pytest.approx(alone + other, rel=0.05)
    assert other > 5 * alone


def test_a_batch_of_messages_that_failed_gives_its_hold_back(url: str) -> None:
    with Meter(MeterConfig(store=url)).patch("anthropic") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 10)
        anthropic().client().messages.batches.create(requests=REQUESTS)
        anthropic(**ended(succeeded=0, errored=50)).client().messages.batches.retrieve("msgbatch_1")
        assert meter.store.holds(TENANT) == []
        assert meter.usage(TENANT)[0].settled == 0
