"""DeepSeek and OpenRouter, which are called through OpenAI's SDK: patched by name, registered, told by their host."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, price, run
from tests.contract.sdk.uses import CHAT, Endpoint, Use, each, value
from tests.contract.sdk.wire import Answer, Wire
from token_limit_core import Meter, MeterConfig
from token_limit_core.errors import ConfigurationError

DEEPSEEK = "https://api.deepseek.com"
OPENROUTER = "https://openrouter.ai/api/v1"
BOTH = pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_bytes, uses.stream_raw, uses.raw])


def saying(script: wire.Script, model: str, **usage: Any) -> wire.Script:
    """Answer with another model and more usage, on the finish chunk of a stream as these providers do."""

    def answer(sent: dict[str, Any]) -> Answer:
        given = script({**sent, "stream_options": None})
        if not sent.get("stream"):
            document = {**json.loads(given.content), "model": model}
            return wire.as_json({**document, "usage": {**document["usage"], **usage}})
        chunks = [{**json.loads(piece[6:]), "model": model} for piece in given.pieces[:-1]]
        chunks[-1]["usage"] = {**wire.CHAT_USAGE, **usage}
        return wire.as_events(chunks)

    return answer


# -- DeepSeek ----------------------------------------------------------------------------------------

MISSES = {"prompt_cache_hit_tokens": wire.CACHED, "prompt_cache_miss_tokens": wire.INPUT - wire.CACHED}
FIM = Endpoint(
    "completions",
    saying(wire.completions, "deepseek-chat", **MISSES),
    {"model": "deepseek-chat", "prompt": "def fib(a):", "suffix": "    return fib(a-1) + fib(a-2)", "max_tokens": 99},
    answered="deepseek-chat",
)


@BOTH
def test_deepseek_tells_hits_and_misses(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    script = saying(wire.chat, "deepseek-chat", prompt_tokens_details=None, **MISSES)
    untouched = run(use, make(Wire(script), base_url=DEEPSEEK), CHAT)
    result = metered.run(use, make(Wire(script), base_url=DEEPSEEK), CHAT)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.provider, event.endpoint, event.model) == ("deepseek", "chat.completions", "deepseek-chat")
    assert (event.cached_tokens, event.cache_miss_tokens) == (wire.CACHED, wire.INPUT - wire.CACHED)
    assert (event.reasoning_tokens, event.output_tokens) == (wire.REASONING, wire.OUTPUT)
    counts = {"input_tokens": wire.INPUT, "output_tokens": wire.OUTPUT, "cache_read_tokens": wire.CACHED}
    assert event.cost_usd == price("deepseek-chat", "deepseek", **counts)


@BOTH
def test_filling_in_the_middle(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    result = metered.run(use, make(Wire(FIM.script), base_url=f"{DEEPSEEK}/beta"), FIM)

    assert result.error is None
    event = metered.event()
    assert (event.provider, event.endpoint) == ("deepseek", "fim.completions")
    assert (event.fim_prefix, event.fim_suffix) == ("11 characters", "30 characters")
    assert (event.input_tokens, event.cache_miss_tokens) == (wire.INPUT, wire.INPUT - wire.CACHED)
    assert "fib" not in str(event.to_dict())


def test_the_text_around_the_gap_is_kept_only_if_asked_for(make: Callable[..., Any]) -> None:
    metered = Metered(capture_content=True)
    metered.run(uses.plain, make(Wire(FIM.script), base_url=f"{DEEPSEEK}/beta"), FIM)
    metered.meter.close()

    event = metered.event()
    assert (event.fim_prefix, event.fim_suffix) == (FIM.arguments["prompt"], FIM.arguments["suffix"])


def test_a_prefix_without_a_suffix(make: Callable[..., Any], metered: Metered) -> None:
    metered.run(uses.plain, make(Wire(wire.error(400)), base_url=f"{DEEPSEEK}/beta"), uses.COMPLETIONS)

    event = metered.event()
    assert (event.fim_prefix, event.fim_suffix, event.cost_usd) == ("23 characters", None, 0)


# -- OpenRouter --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("cost", [0.00014, "0.00014"], ids=["number", "text"])
def test_openrouter_says_what_it_has_cost(make: Callable[..., Any], use: Use, cost: Any, metered: Metered) -> None:
    script = saying(wire.chat, "anthropic/claude-sonnet-4", cost=cost)
    untouched = run(use, make(Wire(script), base_url=OPENROUTER), CHAT)
    result = metered.run(use, make(Wire(script), base_url=OPENROUTER), CHAT)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.provider, event.upstream_provider) == ("openrouter", "anthropic")
    assert event.cost_usd == Decimal("0.00014")
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, wire.OUTPUT)


def test_a_free_model_costs_nothing_and_one_without_a_cost_what_the_list_says(
    make: Callable[..., Any], metered: Metered
) -> None:
    for script in (saying(wire.chat, "openai/gpt-4o-mini", cost=0), saying(wire.chat, "openai/gpt-4o-mini")):
        metered.run(uses.plain, make(Wire(script), base_url=OPENROUTER), CHAT)

    counts = {"input_tokens": wire.INPUT, "output_tokens": wire.OUTPUT, "cache_read_tokens": wire.CACHED}
    listed = price("openai/gpt-4o-mini", "openrouter", **counts)
    assert [event.cost_usd for event in metered.events] == [0, listed]
    assert {event.upstream_provider for event in metered.events} == {"openai"}


def test_an_error_still_names_the_upstream_provider(make: Callable[..., Any], metered: Metered) -> None:
    endpoint = Endpoint("chat.completions", wire.error(402), {**CHAT.arguments, "model": "x-ai/grok-4"})
    metered.run(uses.plain, make(Wire(wire.error(402)), base_url=OPENROUTER), endpoint)

    event = metered.event()
    assert (event.upstream_provider, event.cost_usd) == ("x-ai", 0)


def test_a_stream_that_ends_in_an_error_has_the_usage_that_came_with_it(
    make: Callable[..., Any], metered: Metered
) -> None:
    def failing(sent: dict[str, Any]) -> Answer:
        answer = saying(wire.chat, "openai/gpt-4o-mini")({"stream": True})
        last = json.loads(answer.pieces[-2][6:]) | {"error": {"code": 400, "message": "secret"}}
        last["usage"] = {**wire.CHAT_USAGE, "cost": 0.5}
        return Answer(200, [*answer.pieces[:-2], wire.as_event(last)], answer.content_type)

    untouched = run(uses.stream, make(Wire(failing), base_url=OPENROUTER), CHAT)
    result = metered.run(uses.stream, make(Wire(failing), base_url=OPENROUTER), CHAT)

    assert isinstance(result.error, openai.APIError)
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.cost_usd) == (wire.INPUT, wire.OUTPUT, Decimal("0.5"))
    assert event.error is not None
    assert "secret" not in event.error


# -- clients the Meter makes and registers -----------------------------------------------------------


def made(meter: Meter, provider: str, sync: bool, **options: Any) -> Any:
    wired = Wire(saying(wire.chat, "deepseek-chat", cost=0.25, **MISSES))
    if sync:
        options["http_client"] = openai.DefaultHttpxClient(transport=wired)
        return getattr(meter, f"{provider}_client")("sk-secret", **options)
    options["http_client"] = openai.DefaultAsyncHttpxClient(transport=wired)
    return getattr(meter, f"async_{provider}_client")("sk-secret", **options)


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(("provider", "host"), [("openrouter", "openrouter.ai"), ("deepseek", "api.deepseek.com")])
@pytest.mark.parametrize("base_url", [None, "http://gateway.internal/v1"])
def test_a_client_that_the_meter_makes(provider: str, host: str, sync: bool, base_url: str | None) -> None:
    metered = Metered()
    client = made(metered.meter, provider, sync, **({"base_url": base_url} if base_url else {}))
    assert type(client) is (openai.OpenAI if sync else openai.AsyncOpenAI)
    assert client.base_url.host == (host if base_url is None else "gateway.internal")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        run(uses.plain, client.with_options(timeout=5), CHAT)
    metered.meter.close()

    event = metered.event()
    assert event.provider == provider
    assert event.cache_miss_tokens == (wire.INPUT - wire.CACHED if provider == "deepseek" else None)
    if provider == "openrouter":
        assert event.cost_usd == Decimal("0.25")


@pytest.mark.parametrize("provider", ["openrouter", "deepseek"])
def test_a_client_that_is_registered_after_its_first_call(
    make: Callable[..., Any], provider: str, metered: Metered
) -> None:
    script = saying(wire.chat, "some/model", cost=0.25)
    client = make(Wire(script), base_url="http://gateway.internal/v1")
    metered.run(uses.plain, client, CHAT)
    assert getattr(metered.meter, f"register_{provider}_client")(client) is client
    metered.run(uses.plain, client, CHAT)
    metered.run(uses.plain, make(Wire(script), base_url="http://gateway.internal/v1"), CHAT)

    assert [event.provider for event in metered.events] == ["unknown", provider, "unknown"]


def test_only_openais_clients_can_be_registered(metered: Metered) -> None:
    with pytest.raises(ConfigurationError, match="no client of the openai package"):
        metered.meter.register_openrouter_client(object())


# -- patches by name ---------------------------------------------------------------------------------

CALLS = {"openai": "https://api.openai.com/v1", "deepseek": DEEPSEEK, "openrouter": OPENROUTER}


@pytest.mark.parametrize(
    ("patched", "metered_providers"),
    [
        (["openai"], ["openai", "deepseek", "openrouter"]),
        (["deepseek"], ["deepseek"]),
        (["deepseek", "openrouter"], ["deepseek", "openrouter"]),
        (["openrouter", "openai"], ["openai", "deepseek", "openrouter"]),
    ],
)
def test_a_name_says_whose_calls_are_metered(patched: list[str], metered_providers: list[str]) -> None:
    events: list[str] = []
    config = MeterConfig(store="memory://", patches=patched, on_event=lambda event: events.append(event.provider))
    with Meter(config).patch_all() as meter, meter.for_tenant(TENANT):
        states = {name: meter.status()["patches"][name]["state"] for name in CALLS}
        clients = [Wire(wire.chat).client(base_url=url) for url in CALLS.values()]
        for client in clients:
            client.chat.completions.create(**CHAT.arguments)
        for name in patched:
            meter.unpatch(name)
        clients[0].chat.completions.create(**CHAT.arguments)

    assert events == metered_providers
    assert states == {name: "installed" if name in patched else "off" for name in CALLS}


def test_taking_one_name_out_leaves_the_others(metered: Metered) -> None:
    metered.meter.patch("openai").patch("deepseek")
    client = Wire(wire.chat).client(base_url=DEEPSEEK)
    other = Wire(wire.chat).client()
    with metered.meter.for_tenant(TENANT):
        metered.meter.unpatch("openai")
        for called in (client, other):
            called.chat.completions.create(**CHAT.arguments)
        assert [event.provider for event in metered.events] == ["deepseek"]
        assert metered.meter.status()["patches"]["openai"]["state"] == "off"
        metered.meter.patch("openai")
        other.chat.completions.create(**CHAT.arguments)
    assert [event.provider for event in metered.events] == ["deepseek", "openai"]


def test_two_meters_with_different_names(metered: Metered) -> None:
    mine: list[str] = []
    config = MeterConfig(store="memory://", patches=["deepseek"], on_event=lambda event: mine.append(event.provider))
    metered.meter.patch("openai")
    with Meter(config).patch_all() as other:
        for scope in (other, metered.meter):
            with scope.for_tenant(TENANT):
                Wire(wire.chat).client().chat.completions.create(**CHAT.arguments)
                Wire(wire.chat).client(base_url=DEEPSEEK).chat.completions.create(**CHAT.arguments)
    assert mine == ["deepseek"]
    assert [event.provider for event in metered.events] == ["openai", "deepseek"]


# -- the quirks of others ----------------------------------------------------------------------------

QUIRKS = [
    ("https://api.x.ai/v1", {"total_tokens": wire.INPUT + wire.OUTPUT + wire.REASONING}, wire.OUTPUT + wire.REASONING),
    ("https://ai-gateway.vercel.sh/v1", {}, wire.OUTPUT + wire.REASONING),
    ("https://generativelanguage.googleapis.com/v1beta/openai", {"total_tokens": 500}, 500 - wire.INPUT),
    ("https://api.groq.com/openai/v1", {}, wire.OUTPUT),
]


@pytest.mark.parametrize(("base_url", "usage", "output"), QUIRKS, ids=[row[0].split("/")[2] for row in QUIRKS])
@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_bytes])
def test_reasoning_is_output_wherever_it_is_told(
    make: Callable[..., Any], use: Use, base_url: str, usage: dict[str, Any], output: int, metered: Metered
) -> None:
    script = saying(wire.chat, "some-model", **usage)
    metered.run(use, make(Wire(script), base_url=base_url), CHAT)

    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.reasoning_tokens) == (wire.INPUT, output, wire.REASONING)


def test_groq_tells_a_caller_that_declines_usage_all_the_same(make: Callable[..., Any], metered: Metered) -> None:
    def script(sent: dict[str, Any]) -> Answer:
        answer = wire.chat({"stream": True})
        last = json.loads(answer.pieces[-2][6:]) | {"x_groq": {"id": "req_1", "usage": wire.CHAT_USAGE}}
        return Answer(200, [*answer.pieces[:-2], wire.as_event(last), answer.pieces[-1]], answer.content_type)

    async def decline(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        opened = await value(endpoint.create(client, stream=True, stream_options={"include_usage": False}))
        seen += [chunk async for chunk in each(opened)]

    metered.run(decline, make(Wire(script), base_url="https://api.groq.com/openai/v1"), CHAT)

    event = metered.event()
    assert (event.provider, event.input_tokens, event.output_tokens) == ("groq", wire.INPUT, wire.OUTPUT)


def test_cached_above_the_prompt_never_makes_a_cost_negative(make: Callable[..., Any], metered: Metered) -> None:
    usage = {**wire.CHAT_USAGE, "prompt_tokens": 235, "prompt_tokens_details": {"cached_tokens": 373}}
    script = saying(wire.chat, wire.MODEL, **usage)
    metered.run(uses.plain, make(Wire(script)), CHAT)

    event = metered.event()
    assert (event.input_tokens, event.cached_tokens) == (235, 373)
    assert event.cost_usd is not None
    assert event.cost_usd > 0
