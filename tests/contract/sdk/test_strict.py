"""Strict limits: the most that a call may cost is held, or its output is clamped to what is left, or it is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.sdk import gemini, makers, wire
from tests.contract.sdk.makers import Maker
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import MESSAGES
from tests.contract.sdk.wire import MODEL, Wire
from tests.waiting import PATIENCE
from token_limit_core import CallDoesNotFit, CallUnpriced, TenantBusy
from token_limit_core.pricing.price_list import listed_price

LITTLE = "0.001"
"""US dollars that buy about 1,600 tokens of the model's output."""

CHAT = {"model": MODEL, "messages": MESSAGES}


@pytest.fixture
def strict(metered: Metered) -> Metered:
    metered.meter.set_limit(TENANT, LITTLE, mode="strict")
    return metered


def chat(metered: Metered, **arguments: Any) -> dict[str, Any]:
    """Make a chat completion and return what was sent."""
    wired = Wire(wire.chat)
    metered.meter.patch("openai")
    with metered.meter.for_tenant(TENANT, user="ann"):
        wired.client().chat.completions.create(**{**CHAT, **arguments})
    (sent,) = wired.sent
    return sent


# -- clamped ----------------------------------------------------------------------------------------

OPENAI: dict[str, tuple[Callable[[Any], Any], wire.Script, str, str]] = {
    "chat": (
        lambda c: c.chat.completions.create(**CHAT), wire.chat, "https://api.openai.com/v1", "max_completion_tokens",
    ),
    "chat-stream": (
        lambda c: list(c.chat.completions.create(**CHAT, stream=True)), wire.chat, "https://api.openai.com/v1",
        "max_completion_tokens",
    ),
    "raw": (
        lambda c: c.chat.completions.with_raw_response.create(**CHAT), wire.chat, "https://api.openai.com/v1",
        "max_completion_tokens",
    ),
    "responses": (
        lambda c: c.responses.create(model=MODEL, input="?"), wire.responses, "https://api.openai.com/v1",
        "max_output_tokens",
    ),
    "completions": (
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="?"), wire.completions,
        "https://api.openai.com/v1", "max_tokens",
    ),
    "deepseek": (
        lambda c: c.chat.completions.create(model="deepseek-chat", messages=MESSAGES), wire.chat,
        "https://api.deepseek.com", "max_tokens",
    ),
    "groq": (
        lambda c: c.chat.completions.create(model="llama-3.3-70b-versatile", messages=MESSAGES), wire.chat,
        "https://api.groq.com/openai/v1", "max_tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("surface", OPENAI)
def test_the_output_is_clamped_to_what_is_left(surface: str, strict: Metered) -> None:
    call, script, url, field = OPENAI[surface]
    wired = Wire(script)
    strict.meter.patch("openai")
    with strict.meter.for_tenant(TENANT):
        call(wired.client(base_url=url))
    assert strict.meter.flush(PATIENCE)
    (sent,) = wired.sent
    assert 16 <= sent[field] <= 4_096
    assert not {"max_tokens", "max_completion_tokens", "max_output_tokens"} - {field} & sent.keys()
    (status,) = strict.meter.usage(TENANT)
    assert 0 < status.settled < status.ceiling
    assert status.held == 0


def test_an_asynchronous_stream_is_clamped(strict: Metered) -> None:
    wired = Wire(wire.chat)

    async def main() -> None:
        async with wired.async_client() as client:
            with strict.meter.for_tenant(TENANT):
                async for _ in await client.chat.completions.create(**CHAT, stream=True):
                    pass

    strict.meter.patch("openai")
    asyncio.run(main())
    assert 16 <= wired.sent[0]["max_completion_tokens"] <= 4_096
    assert wired.sent[0]["stream_options"] == {"include_usage": True}


def test_a_stream_stays_clamped_when_a_host_refuses_to_tell_its_usage() -> None:
    metered = Metered(hosts={"gateway.example": "openai"})
    metered.meter.set_limit(TENANT, LITTLE, mode="strict")
    wired = Wire(wire.error(400, "stream_options"), wire.chat)
    metered.meter.patch("openai")
    with metered.meter.for_tenant(TENANT):
        list(wired.client(base_url="https://gateway.example/v1").chat.completions.create(**CHAT, stream=True))
    metered.meter.close()
    first, second = wired.sent
    assert 16 <= first["max_completion_tokens"] == second["max_completion_tokens"]
    assert "stream_options" in first
    assert "stream_options" not in second


GEMINI = "gemini-2.5-flash"


def gemini_config(streams: bool, config: dict[str, Any] | None) -> dict[str, Any]:
    wired = gemini.Wire(gemini.chunks if streams else gemini.content)
    client = gemini.api_client(wired)
    if streams:
        list(client.models.generate_content_stream(model=GEMINI, contents="?", config=config))  # type: ignore[arg-type]
    else:
        client.models.generate_content(model=GEMINI, contents="?", config=config)  # type: ignore[arg-type]
    sent: dict[str, Any] = wired.sent[0]["generationConfig"]
    return sent


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("config", [None, {"temperature": 0.5}])
def test_gemini_is_clamped(streams: bool, config: dict[str, Any] | None) -> None:
    metered = Metered("google")
    metered.meter.set_limit(TENANT, "0.01", mode="strict")
    metered.meter.patch("google")
    with metered.meter.for_tenant(TENANT):
        sent = gemini_config(streams, config)
    metered.meter.close()
    assert 16 <= sent.pop("maxOutputTokens") <= 4_096
    assert sent == (config or {})


def mistral(maker: Maker) -> Any:
    client = makers.Mistral(api_key="secret", server_url=maker.url)
    client.chat.complete(model="mistral-large-latest", messages=makers.MESSAGES)
    return maker.requests[-1][1]["max_tokens"]


def cohere(maker: Maker) -> Any:
    client = makers.cohere.ClientV2(api_key="secret", base_url=maker.url)
    client.chat(model="command-a-03-2025", messages=makers.MESSAGES)
    return maker.requests[-1][1]["max_tokens"]


def cohere_stream(maker: Maker) -> Any:
    client = makers.cohere.ClientV2(api_key="secret", base_url=maker.url)
    list(client.chat_stream(model="command-a-03-2025", messages=makers.MESSAGES))
    return maker.requests[-1][1]["max_tokens"]


def converse(maker: Maker) -> Any:
    content = [{"text": "?"}]
    makers.bedrock(maker.url).converse(
        modelId=makers.CLAUDE_ON_AWS, messages=[{"role": "user", "content": content}], inferenceConfig={"topP": 0.5}
    )
    sent = maker.requests[-1][1]["inferenceConfig"]
    assert sent["topP"] == 0.5
    return sent["maxTokens"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("patch", "call"), [("mistral", mistral), ("cohere", cohere), ("cohere", cohere_stream), ("bedrock", converse)]
)
def test_other_sdks_are_clamped(patch: str, call: Callable[[Maker], Any], maker: Maker) -> None:
    metered = Metered(patch)
    metered.meter.set_limit(TENANT, "0.05", mode="strict")
    metered.meter.patch(patch)
    with metered.meter.for_tenant(TENANT):
        bound = call(maker)
    assert metered.meter.flush(PATIENCE)
    metered.meter.close()
    assert 16 <= bound <= 4_096


INVOKED: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": (
        {"anthropic_version": "bedrock-2023-05-31", "messages": makers.MESSAGES}, lambda sent: sent["max_tokens"],
    ),
    "us.meta.llama3-3-70b-instruct-v1:0": ({"prompt": "?"}, lambda sent: sent["max_gen_len"]),
    "mistral.mistral-large-3-675b-instruct": ({"messages": makers.MESSAGES}, lambda sent: sent["max_tokens"]),
    "us.amazon.nova-pro-v1:0": (
        {"messages": makers.MESSAGES, "inferenceConfig": {"topP": 0.5}},
        lambda sent: sent["inferenceConfig"]["maxTokens"],
    ),
    "amazon.titan-text-express-v1": (
        {"inputText": "?", "textGenerationConfig": {"topP": 0.5}},
        lambda sent: sent["textGenerationConfig"]["maxTokenCount"],
    ),
}  # fmt: skip
"""Bodies of InvokeModel by the family of the model, and where each has its bound."""


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", INVOKED)
def test_bodies_of_invoke_model_are_clamped_by_the_family_of_the_model(model: str, streams: bool, maker: Maker) -> None:
    body, bound = INVOKED[model]
    metered = Metered("bedrock")
    metered.meter.set_limit(TENANT, "0.002", mode="strict")
    metered.meter.patch("bedrock")
    client = makers.bedrock(maker.url)
    with metered.meter.for_tenant(TENANT):
        if streams:
            list(client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))["body"])
        else:
            client.invoke_model(modelId=model, body=json.dumps(body).encode())
    assert metered.meter.flush(PATIENCE)
    metered.meter.close()
    sent = maker.requests[-1][1]
    assert 16 <= bound(sent) <= 4_096
    assert sent.keys() - body.keys() <= {"max_tokens", "max_gen_len"}
    assert sent.get("inferenceConfig", {}).get("topP", 0.5) == 0.5


def test_a_body_of_a_family_that_is_not_known_is_refused(maker: Maker) -> None:
    metered = Metered("bedrock")
    metered.meter.set_limit(TENANT, "0.005", mode="strict")
    metered.meter.patch("bedrock")
    with metered.meter.for_tenant(TENANT), pytest.raises((CallDoesNotFit, CallUnpriced)):
        makers.bedrock(maker.url).invoke_model(modelId="cohere.command-r-plus-v1:0", body='{"message": "?"}')
    metered.meter.close()
    assert maker.requests == []


def test_nothing_is_clamped_while_the_longest_answer_fits(metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 5, mode="strict")
    assert set(chat(metered)) == {"model", "messages"}


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_other_modes_never_clamp(mode: str, metered: Metered) -> None:
    metered.meter.set_limit(TENANT, LITTLE, mode=mode)
    assert set(chat(metered)) == {"model", "messages"}


def test_a_limit_of_tokens_clamps_too(metered: Metered) -> None:
    metered.meter.set_limit(TENANT, amount=2_000, unit="tokens", mode="strict")
    assert 1_500 <= chat(metered)["max_completion_tokens"] <= 1_750


def test_each_choice_gets_its_part(strict: Metered) -> None:
    alone, of_four = chat(strict)["max_completion_tokens"], chat(strict, n=4)["max_completion_tokens"]
    assert of_four <= alone // 4


@pytest.mark.parametrize(
    "limit",
    [
        {"tenant_id": "*"},
        {"model": "gpt-4o*"},
        {"user": "*"},
        {"provider": "openai", "frequency": "per_day"},
    ],
)
def test_every_kind_of_strict_limit_clamps(limit: dict[str, Any], metered: Metered) -> None:
    metered.meter.set_limit(**{"tenant_id": TENANT, "limit_usd": LITTLE, "mode": "strict", **limit})
    assert 16 <= chat(metered)["max_completion_tokens"] <= 4_096


def test_a_plans_strict_limit_clamps_and_one_for_other_models_does_not(metered: Metered) -> None:
    metered.meter.remove_limit(TENANT)
    metered.meter.set_plan("pro", [{"amount": LITTLE, "mode": "strict"}])
    metered.meter.assign_plan(TENANT, "pro")
    assert "max_completion_tokens" in chat(metered)
    metered.meter.set_plan("pro", [{"amount": LITTLE, "mode": "strict", "model": "claude-*"}])
    assert "max_completion_tokens" not in chat(metered)
    assert "max_completion_tokens" not in chat(metered, tools=[{"type": "web_search"}])


# -- the caller's bound -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bound", [{"max_tokens": 400}, {"max_completion_tokens": 400}, {"extra_body": {"max_tokens": 400}}]
)
def test_the_callers_bound_is_what_is_held(bound: dict[str, Any], strict: Metered) -> None:
    seen: list[int] = []

    def answer(sent: dict[str, Any]) -> wire.Answer:
        (hold,) = strict.meter.store.holds(TENANT)
        seen.append(hold.held)
        return wire.chat(sent)

    strict.meter.patch("openai")
    with strict.meter.for_tenant(TENANT):
        Wire(answer).client().chat.completions.create(**CHAT, **bound)
    price = listed_price("openai", MODEL, 0)
    assert price is not None
    (held,) = seen
    assert price.of_tokens(256, 400) <= held <= price.of_tokens(512, 400)


@pytest.mark.parametrize("bound", [{"max_tokens": 4_000}, {"max_completion_tokens": 1_000, "n": 4}])
def test_a_bound_that_does_not_fit_is_refused_with_what_is_left(bound: dict[str, Any], strict: Metered) -> None:
    with pytest.raises(CallDoesNotFit, match=r"monthly limit of \$0.001 \(\$0.001 left\)") as caught:
        chat(strict, **bound)
    decision = caught.value.decision
    assert (decision.status, str(decision.left)) == (402, "0.001000000")
    assert decision.needed is not None
    assert decision.left is not None
    assert decision.needed > decision.left
    assert strict.meter.store.holds() == []


def test_a_call_is_refused_when_not_even_a_short_answer_fits(metered: Metered) -> None:
    metered.meter.set_limit(TENANT, "0.00005", mode="strict")
    with pytest.raises(CallDoesNotFit):
        chat(metered)


def test_a_large_input_counts_by_its_bytes(strict: Metered) -> None:
    with pytest.raises(CallDoesNotFit):
        chat(strict, messages=[{"role": "user", "content": "x" * 7_000}])
    with pytest.raises(CallDoesNotFit):
        chat(strict, messages=[{"role": "user", "content": "漢" * 2_400}])
    with pytest.raises(CallDoesNotFit):
        chat(strict, tools=[{"type": "function", "function": {"name": "f", "parameters": {"x" * 7_000: {}}}}])


def test_a_call_waits_for_those_in_flight_instead_of_being_cut_short(strict: Metered) -> None:
    def answer(sent: dict[str, Any]) -> wire.Answer:
        with pytest.raises(TenantBusy):
            inner.client().chat.completions.create(**CHAT)
        return wire.chat(sent)

    inner = Wire(wire.chat)
    strict.meter.patch("openai")
    with strict.meter.for_tenant(TENANT):
        Wire(answer).client().chat.completions.create(**CHAT)
        assert inner.sent == []


# -- what has no bound ------------------------------------------------------------------------------

UNKNOWN = {
    "the price": {"model": "some-new-model"},
    "what its tools do": {"tools": [{"type": "web_search_preview"}]},
    "how often it searches": {"web_search_options": {}, "model": "gpt-4o-search-preview"},
    "which model answers": {"extra_body": {"models": ["gpt-4o", "gpt-5-pro"]}},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_call_whose_worst_case_is_unknown_is_refused(what: str, strict: Metered) -> None:
    arguments: dict[str, Any] = UNKNOWN[what]
    with pytest.raises(CallUnpriced) as caught:
        chat(strict, **arguments)
    assert caught.value.decision.status == 402
    assert strict.meter.status()["counts"] == {"refused": 1}


def test_what_is_only_named_counts_as_the_whole_context_window(metered: Metered) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    window = listed_price("openai", MODEL, 0)
    assert window is not None
    metered.meter.set_limit(TENANT, "0.018", mode="strict")
    with pytest.raises(CallDoesNotFit) as caught:
        chat(metered, messages=[{"role": "user", "content": [part]}], max_tokens=10)
    needed = caught.value.decision.needed_usd
    assert needed is not None
    assert needed * 10**9 == window.of_tokens(128_000, 10)
    metered.meter.set_limit(TENANT, "0.02", mode="strict")
    assert chat(metered, messages=[{"role": "user", "content": [part]}], max_tokens=10)["max_tokens"] == 10


@pytest.mark.parametrize("basis", ["charge", "cost"])
def test_a_markup_counts_in_what_the_balance_buys(basis: str) -> None:
    metered = Metered(markup=lambda event: event.cost_usd * 2)
    metered.meter.set_limit(TENANT, LITTLE, mode="strict", basis=basis)
    bound = chat(metered)["max_completion_tokens"]
    metered.meter.close()
    whole = 1_601
    assert whole * 0.9 <= bound * (2 if basis == "charge" else 1) <= whole * 1.05


def test_a_plans_markup_counts_in_what_the_balance_buys(metered: Metered) -> None:
    metered.meter.remove_limit(TENANT)
    metered.meter.set_plan("pro", [{"amount": LITTLE, "mode": "strict"}], markup=100)
    metered.meter.assign_plan(TENANT, "pro")
    assert 700 <= chat(metered)["max_completion_tokens"] <= 850
