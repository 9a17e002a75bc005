"""Calls without a known price are never free by accident: they are billed at an assumed price, or refused.

What they really cost is learned, so that the hold of the second call is right.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import CHAT, Endpoint
from tests.contract.sdk.wire import Answer, Wire
from tests.unit.acme import AcmePatch, Client
from token_limit_core import CallUnpriced, LimitExhausted, LLMEvent, Meter, MeterConfig, TenantBusy
from token_limit_core.money import to_nano
from token_limit_core.patches import PATCH_REGISTRY
from token_limit_core.pricing import bill

GATEWAY = "http://gateway.example/v1"
AZURE = {"base_url": "https://acme.openai.azure.com/openai/v1"}


def calling(model: str) -> Endpoint:
    return Endpoint("chat.completions", wire.chat, {**CHAT.arguments, "model": model})


def answering(model: str | None = None, **usage: Any) -> wire.Script:
    """Answer a chat completion by the model that was asked for, or another one, with more in its usage."""

    def answer(sent: dict[str, Any]) -> Answer:
        document = json.loads(wire.chat(sent).content)
        named = {"model": sent["model"] if model is None else model}
        return wire.as_json({**document, **named, "usage": {**document["usage"], **usage}})

    return answer


class Watched(Metered):
    """Keeps what is held for each call while the provider answers it."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.held: list[int] = []

    def answering(self, script: wire.Script) -> wire.Script:
        def answer(sent: dict[str, Any]) -> Answer:
            self.held += [hold.held for hold in self.meter.store.holds()]
            return script(sent)

        return answer


ASSUMED = {
    "the same name, dearest first": ("https://api.deepseek.com", "gpt-4o-mini", "openai gpt-4o-mini (the same name)"),
    "the same name without its maker": (GATEWAY, "OpenAI/GPT-4o-mini", " (the same name)"),
    "the provider's dearest": (
        "https://api.openai.com/v1",
        "gpt-99",
        "openai o1-pro (the dearest text model of openai)",
    ),
    "nothing alike": (GATEWAY, "llama-from-next-door", "fallback_price"),
    "no name": (GATEWAY, "", "fallback_price"),
}


@pytest.mark.parametrize(("base_url", "model", "basis"), ASSUMED.values(), ids=ASSUMED)
def test_a_model_without_a_price_is_billed_at_an_assumed_one(
    make: Callable[..., Any], base_url: str, model: str, basis: str
) -> None:
    metered = Watched()
    script = metered.answering(answering())
    assert metered.run(uses.plain, make(Wire(script), base_url=base_url), calling(model)).error is None
    metered.meter.close()

    event = metered.event()
    assert event.cost_usd is not None
    assert event.cost_usd > 0
    assert event.price_source == "assumed"
    assert basis in event.tags["price_assumed"]
    assert metered.held[0] > 0
    assert metered.meter.status()["counts"] == {"events": 1, "assumed": 1}


def test_the_fallback_price_can_be_set(make: Callable[..., Any]) -> None:
    metered = Metered(fallback_price=("0.5", 2))
    metered.run(uses.plain, make(Wire(answering()), base_url=GATEWAY), calling("next-door"))
    metered.meter.close()

    fresh, cached, generated = wire.INPUT - wire.CACHED, wire.CACHED, wire.OUTPUT
    assert metered.event().cost_usd == Decimal((fresh + cached) * 500 + generated * 2000) / 10**9
    assert metered.event().price_version == "fallback_price"


def test_a_model_without_a_price_is_warned_about_once_with_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    bill._warn_unpriced.cache_clear()
    for base_url, model, cure in (
        (GATEWAY, "next-door", "name the provider of that host in `hosts`"),
        ("https://api.openai.com/v1", "gpt-99", "set its price in `prices`"),
    ):
        metered = Metered()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "token_limit"):
            for _ in range(2):
                metered.run(uses.plain, Wire(answering()).client(base_url=base_url), calling(model))
        metered.meter.close()
        (message,) = [record.message for record in caplog.records]
        assert all(part in message for part in (repr(model), base_url.split("/")[2], " a million tokens", cure))
        assert "$5.00 / $25.00" in message or "$150.00 / $600.00" in message


def test_calls_without_a_price_can_be_refused(make: Callable[..., Any]) -> None:
    metered = Metered(on_unpriced="refuse")
    wired = Wire(answering())
    result = metered.run(uses.plain, make(wired, base_url=GATEWAY), calling("next-door"))
    metered.meter.close()

    assert isinstance(result.error, CallUnpriced)
    assert (result.error.decision.kind, result.error.decision.status) == ("unpriced", 402)
    assert (result.error.decision.tenant_id, wired.sent) == (TENANT, [])
    assert metered.meter.status()["counts"] == {"refused": 1}


def test_calls_without_a_price_can_be_free(make: Callable[..., Any]) -> None:
    metered = Metered(on_unpriced="free")
    metered.run(uses.plain, make(Wire(answering()), base_url=GATEWAY), calling("next-door"))
    metered.meter.close()

    assert metered.event().cost_usd is None
    assert metered.meter.status()["counts"] == {"events": 1, "unpriced": 1}


@pytest.mark.parametrize(
    "base_url",
    ["http://localhost:11434/v1", "http://127.0.0.1:11434/v1", "http://[::1]:11434/v1", "http://ollama:11434/v1"],
)
@pytest.mark.parametrize("policy", ["assume", "refuse"])
def test_a_local_server_known_by_its_host_is_free(
    make: Callable[..., Any], base_url: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    metered = Metered(on_unpriced=policy)
    metered.run(uses.plain, make(Wire(answering()), base_url=base_url), calling("qwen3:8b"))
    metered.meter.close()

    event = metered.event()
    assert (event.provider, event.cost_usd, event.tags) == ("ollama", 0, {"plan": "gold"})
    assert caplog.text == ""


def test_a_host_can_be_said_to_be_free(make: Callable[..., Any]) -> None:
    metered = Metered(hosts={"gateway.example": "free"})
    metered.run(uses.plain, make(Wire(answering()), base_url=GATEWAY), calling("next-door"))
    metered.meter.close()

    assert (metered.event().provider, metered.event().cost_usd) == ("free", 0)


# -- what a call costs is learned ---------------------------------------------------------------------


def costs(event: LLMEvent) -> int:
    assert event.cost_usd is not None
    return to_nano(event.cost_usd)


def test_an_alias_that_only_the_answer_explains_is_held_at_its_price_from_the_second_call(
    make: Callable[..., Any],
) -> None:
    metered = Watched()
    client = make(Wire(metered.answering(answering("gpt-4o-mini-2024-07-18"))), **AZURE)
    for _ in range(2):
        metered.run(uses.plain, client, calling("our-deployment"))
    metered.meter.close()

    first, second = metered.settled(2)
    assert first.tags.keys() == second.tags.keys() == {"plan", "requested_model"}  # its price is known: nothing assumed
    uncached = wire.CACHED * 75  # nano-dollars: held as if nothing was cached
    assert costs(second) <= metered.held[1] <= costs(second) + uncached + 150 + 600
    assert metered.held[0] > metered.held[1]


def test_one_name_of_a_deployment_is_another_model_at_another_host(make: Callable[..., Any]) -> None:
    metered = Watched()
    for host, model in (("one", "gpt-4o-mini-2024-07-18"), ("other", "gpt-4o-2024-08-06")):
        client = make(Wire(metered.answering(answering(model))), base_url=f"https://{host}.openai.azure.com/openai/v1")
        for _ in range(2):
            metered.run(uses.plain, client, calling("our-deployment"))
    metered.meter.close()

    assert metered.held[2] == metered.held[0]
    assert metered.held[3] > 10 * metered.held[1]


OPENROUTER = "https://openrouter.ai/api/v1"
REPORTED = {
    "a model that the list has": ("openai/gpt-4o-mini", 0.02),
    "a model that the list has, at a discount": ("openai/gpt-4o", 0.000001),
    "a model that nobody knows, cheap": ("nobody/knows", 0.000001),
    "a model that nobody knows, dear": ("nobody/knows", 5.5),
}


@pytest.mark.parametrize(("model", "cost"), REPORTED.values(), ids=REPORTED)
def test_a_reported_cost_is_held_from_the_second_call(make: Callable[..., Any], model: str, cost: float) -> None:
    metered = Watched()
    client = make(Wire(metered.answering(answering(cost=cost))), base_url=OPENROUTER)
    for _ in range(3):
        metered.run(uses.plain, client, calling(model))
    metered.meter.close()

    nano = to_nano(Decimal(str(cost)))
    assert [costs(event) for event in metered.events] == [nano] * 3
    assert all(held >= nano for held in metered.held[1:])
    if model == "nobody/knows" or cost > 0.01:
        assert all(held <= 1.1 * nano + 2 for held in metered.held[1:])


@pytest.mark.parametrize("threads", [32, 64])
def test_a_cost_that_only_the_answer_reports_stays_near_the_limit(threads: int) -> None:
    """The excess is that of the calls in flight before the first answer, never that of all calls."""
    metered, cost, calls = Metered(), 0.003, 100
    metered.meter.set_limit(TENANT, str(cost * calls))
    together = threading.Barrier(threads)
    wired = Wire(answering(cost=cost))
    client = wired.client(base_url=OPENROUTER)

    def work(number: int) -> None:
        together.wait(30)
        while True:
            try:
                with metered.meter.for_tenant(TENANT):
                    client.chat.completions.create(**{**CHAT.arguments, "model": "openai/gpt-4o-mini"})
            except TenantBusy:
                threading.Event().wait(0.005)
            except LimitExhausted:
                return

    with metered.meter.patch("openai"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert calls <= len(wired.sent) <= calls + 2


@pytest.fixture
def custom(monkeypatch: pytest.MonkeyPatch) -> type[AcmePatch]:
    """Meter an SDK that the price list does not know, by a patch whose provider it does not know either."""

    class Patch(AcmePatch):
        name = "nobody"

    monkeypatch.setitem(PATCH_REGISTRY, "nobody", Patch)
    return Patch


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"provider": "nobody", "model": "x"}, None),
        ({"provider": "nobody", "model": "x", "cost_usd": "0.25"}, 250_000_000),
        ({"provider": "nobody", "model": "x", "input_tokens": 0, "output_tokens": 0, "cost_usd": "0.25"}, 250_000_000),
    ],
)
def test_a_custom_patch_is_held_too(custom: Any, fields: dict[str, Any], cost: int | None) -> None:
    events: list[LLMEvent] = []
    with Meter(MeterConfig(store="memory://", patches=["nobody"], on_event=events.append)).patch_all() as meter:
        meter.set_limit(TENANT, 100)
        held: list[int] = []

        class Looking(Client):
            def _answer(self) -> dict[str, Any]:
                held.extend(hold.held for hold in meter.store.holds())
                return super()._answer()

        client = Looking(fields=fields)
        with meter.for_tenant(TENANT):
            for _ in range(2):
                client.generate("hi", model="x")
        assert [costs(event) for event in events] == [costs(events[0])] * 2
        assert held[0] > 0
        if cost is None:
            assert "price_assumed" in events[0].tags
        else:
            assert costs(events[1]) == cost
            assert cost <= held[1] <= 1.1 * cost
        assert meter.usage(TENANT)[0].held == 0


def test_a_custom_patch_without_a_price_is_refused_where_configured(custom: Any) -> None:
    with Meter(MeterConfig(store="memory://", patches=["nobody"], on_unpriced="refuse")).patch_all() as meter:
        client = Client()
        with meter.for_tenant(TENANT), pytest.raises(CallUnpriced):
            client.generate("hi", model="x")
        assert client.calls == 0


def test_a_custom_extractor_that_says_nothing_is_billed_at_the_estimate(custom: Any) -> None:
    with Meter(MeterConfig(store="memory://", patches=["nobody"])).patch_all() as meter:
        none = {"input_tokens": None, "output_tokens": None}
        with meter.for_tenant(TENANT):
            Client(fields=none).generate("a question of some length", model="x")
        assert meter.store.spend(TENANT, 0, meter.config.clock() + 1).cost_nano > 0


def test_what_is_billed_by_the_second_is_held_too(make: Callable[..., Any]) -> None:
    metered = Watched()

    def timed(sent: dict[str, Any]) -> Answer:
        return wire.as_json({"text": "hi", "duration": 60.0})

    async def transcribe(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        file = ("a.wav", b"\0" * 16_000)
        seen.append(await uses.value(client.audio.transcriptions.create(model="whisper-1", file=file)))

    client = make(Wire(metered.answering(timed)))
    for _ in range(2):
        metered.run(transcribe, client, CHAT)
    metered.meter.close()

    first, second = metered.settled(2)
    assert metered.held[0] > 0
    assert metered.held[1] == costs(second) == costs(first)


def test_events_from_elsewhere_are_billed_by_the_same_policy() -> None:
    usage: Any = {"provider": "nobody", "model": "x", "input_tokens": 1000, "output_tokens": 10, "tenant_id": TENANT}
    with Meter(MeterConfig(store="memory://")) as meter:
        event = meter.track_manually(**usage)
        assert event.cost_usd == Decimal("0.00525")
        assert event.tags == {"price_assumed": "fallback_price"}


def test_a_call_that_failed_costs_nothing_whatever_its_model(make: Callable[..., Any]) -> None:
    metered = Metered()
    wired = Wire(wire.error(404))
    result = metered.run(uses.plain, make(wired, base_url=GATEWAY), calling("next-door"))
    metered.meter.close()

    assert isinstance(result.error, openai.NotFoundError)
    assert metered.event().cost_usd == 0
