"""A cost that the answer reports wins over the price list: every shape of it, in every family, however it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.sdk import anthropic_wire, media, uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Endpoint, Use
from tests.contract.sdk.wire import Answer, Wire
from token_limit_core import LimitExceededException

OPENROUTER = "https://openrouter.ai/api/v1"
VERCEL = "https://ai-gateway.vercel.sh/v1"
GATEWAY = "http://gateway.internal/v1"

BYOK = {"cost": 0.0012, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.024}}
"""OpenRouter's own test of the account's key at the provider: its fee, and what the provider takes."""

SHAPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "openrouter": (OPENROUTER, {"cost": 0.00014, "is_byok": False}, "0.00014"),
    "openrouter, as text": (OPENROUTER, {"cost": "0.00014"}, "0.00014"),
    "openrouter, own key": (OPENROUTER, BYOK, "0.0252"),
    "openrouter, own key, no fee": (OPENROUTER, {**BYOK, "cost": 0}, "0.024"),
    "openrouter, upstream without an own key": (OPENROUTER, {**BYOK, "cost": 0.024, "is_byok": False}, "0.024"),
    "openrouter, free": (OPENROUTER, {"cost": 0, "is_byok": False}, "0"),
    "vercel": (VERCEL, {"cost": 0.00254674, "market_cost": 0.00254674, "gateway_cost": 0.00254674}, "0.00254674"),
    "vercel, own key": (VERCEL, {**BYOK, "cost": 0}, "0.024"),
    "avian": ("https://api.avian.io/v1", {"cost": 0.0000314}, "0.0000314"),
    "perplexity": (
        "https://api.perplexity.ai",
        {"cost": {"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.00634}},
        "0.00634",
    ),
    "xai": ("https://api.x.ai/v1", {"cost_in_usd_ticks": 37_756_000}, "0.0037756"),
    "litellm": (GATEWAY, {"cost": 0.00042}, "0.00042"),
    "pydantic gateway": (GATEWAY, {"pydantic_ai_gateway": {"cost_estimate": 0.00431125}}, "0.00431125"),
}

SILENT: dict[str, tuple[str, dict[str, Any]]] = {
    "xai on azure": ("https://acme.services.ai.azure.com/openai/v1", {"cost_in_usd_ticks": 0}),
    "openrouter, own key, charge unknown": (OPENROUTER, {"cost": 0, "is_byok": True}),
    "a gateway that knows no price": ("https://api.openai.com/v1", {"cost": 0}),
    "another currency": ("https://api.openai.com/v1", {"cost": {"currency": "EUR", "total_cost": 1}}),
    "no amount": ("https://api.openai.com/v1", {"cost": "much"}),
    "not finite": ("https://api.openai.com/v1", {"cost": "NaN"}),
    "negative": ("https://api.openai.com/v1", {"cost": -1}),
    "true": ("https://api.openai.com/v1", {"cost": True}),
}
"""Usage that reports no cost, so that the price list makes it."""


def reporting(script: wire.Script, usage: dict[str, Any], **headers: str) -> wire.Script:
    """Answer with more in each usage object, and with more headers."""

    def amended(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: {**part, **usage} if name == "usage" and isinstance(part, dict) else amended(part)
                for name, part in value.items()
            }
        return [amended(part) for part in value] if isinstance(value, list) else value

    def answer(sent: dict[str, Any]) -> Answer:
        given = script(sent)
        given.headers.update(headers)
        if given.content_type == "application/json":
            given.pieces = [json.dumps(amended(json.loads(given.content))).encode()]
        else:
            given.pieces = [_event(piece, amended) for piece in given.pieces]
        return given

    return answer


def _event(piece: bytes, amended: Callable[[Any], Any]) -> bytes:
    head, _, data = piece.partition(b"data: ")
    return (
        piece
        if not data.startswith(b"{")
        else head + b"data: " + json.dumps(amended(json.loads(data))).encode() + b"\n\n"
    )


WAYS = [
    (uses.plain, CHAT), (uses.raw, CHAT), (uses.streaming_bytes, CHAT), (uses.stream, CHAT), (uses.stream_bytes, CHAT),
    (uses.stream_raw, CHAT), (uses.plain, RESPONSES), (uses.raw, RESPONSES), (uses.stream, RESPONSES),
    (uses.stream_bytes, RESPONSES), (uses.plain, COMPLETIONS), (uses.stream, COMPLETIONS), (uses.plain, EMBEDDINGS),
]  # fmt: skip

ways = pytest.mark.parametrize(
    ("use", "endpoint"), [pytest.param(use, way, id=f"{use.__name__}-{way.name}") for use, way in WAYS]
)


@ways
@pytest.mark.parametrize(("base_url", "usage", "cost"), SHAPES.values(), ids=SHAPES)
def test_a_cost_in_the_usage_is_billed(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, base_url: str, usage: dict[str, Any], cost: str,
    metered: Metered,
) -> None:  # fmt: skip
    script = reporting(endpoint.script, usage)
    untouched = run(use, make(Wire(script), base_url=base_url), endpoint)
    result = metered.run(use, make(Wire(script), base_url=base_url), endpoint)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.cost_usd, event.price_source) == (Decimal(cost), "reported")
    assert (event.input_tokens, event.tags.get("unpriced")) == (wire.INPUT, None)


@pytest.mark.parametrize(("base_url", "usage"), SILENT.values(), ids=SILENT)
@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_what_is_no_cost_is_left_to_the_price_list(
    make: Callable[..., Any], use: Use, base_url: str, usage: dict[str, Any], metered: Metered
) -> None:
    model = "openai/gpt-4o-mini" if base_url == OPENROUTER else "gpt-4o-mini"
    named = Endpoint(CHAT.name, CHAT.script, {**CHAT.arguments, "model": model})
    metered.run(use, make(Wire(reporting(named.script, usage)), base_url=base_url), named)
    event = metered.event()
    assert event.price_source == "list"
    assert event.cost_usd is not None
    assert event.cost_usd > 0


@ways
@pytest.mark.parametrize("base_url", [GATEWAY, "http://127.0.0.1:4000"])
def test_a_cost_in_litellms_header_is_billed(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, base_url: str, metered: Metered
) -> None:
    script = reporting(endpoint.script, {}, **{"x-litellm-response-cost": "3.75e-05"})
    metered.run(use, make(Wire(script), base_url=base_url), endpoint)
    assert metered.event().cost_usd == Decimal("0.0000375")


@pytest.mark.parametrize("header", ["0.0", "None", "", "nan", "-1"])
def test_a_header_without_a_cost_is_left_to_the_price_list(make: Callable[..., Any], header: str) -> None:
    metered = Metered(hosts={"gateway.internal": "openai"})
    script = reporting(wire.chat, {}, **{"x-litellm-response-cost": header})
    metered.run(uses.plain, make(Wire(script), base_url=GATEWAY), CHAT)
    assert metered.event().price_source == "list"
    metered.meter.close()


ANTHROPIC_WAYS = [uses.plain, uses.raw, uses.stream, uses.stream_bytes]


@pytest.mark.parametrize("use", ANTHROPIC_WAYS)
@pytest.mark.parametrize(
    ("usage", "headers", "cost"),
    [
        ({"cost": 0.5, "is_byok": False}, {}, "0.5"),
        (BYOK, {}, "0.0252"),
        ({"cost_in_usd_ticks": 5_000_000_000}, {}, "0.5"),
        ({}, {"x-litellm-response-cost": "0.25"}, "0.25"),
    ],
    ids=["gateway", "own key", "ticks", "header"],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_cost_of_messages_is_billed(
    use: Use, usage: dict[str, Any], headers: dict[str, str], cost: str, asynchronous: bool
) -> None:
    metered, wired = (
        Metered("anthropic"),
        anthropic_wire.AnthropicWire(reporting(anthropic_wire.messages, usage, **headers)),
    )
    client = (wired.async_client if asynchronous else wired.client)(base_url="http://gateway.internal")
    metered.run(use, client, anthropic_wire.MESSAGES)
    assert metered.event().cost_usd == Decimal(cost)
    metered.meter.close()


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_the_cost_of_pictures_is_billed(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    endpoint = media.CASES["pictures"].endpoint
    script = reporting(endpoint.script, {"cost_in_usd_ticks": 200_000_000})
    metered.run(use, make(Wire(script), base_url="https://api.x.ai/v1"), endpoint)
    event = metered.event()
    assert (event.cost_usd, event.tags) == (Decimal("0.02"), {"plan": "gold"})


def test_a_reported_cost_holds_limits(make: Callable[..., Any]) -> None:
    metered = Metered()
    metered.meter.set_limit(TENANT, "0.02")
    for _ in range(2):
        result = metered.run(uses.plain, make(Wire(reporting(wire.chat, BYOK)), base_url=OPENROUTER), CHAT)
    assert isinstance(result.error, LimitExceededException)
    metered.meter.close()
