"""Every way to call Anthropic's SDK: the caller notices nothing, and exactly one event says what it cost.

Each cell runs twice against the same wire, unpatched and patched, and compares what the caller got.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.sdk import anthropic_wire as wire
from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import ALL, MESSAGES, AnthropicWire
from tests.contract.sdk.metered import Metered, price, run
from tests.contract.sdk.uses import Endpoint, Table, Use, cells
from tests.contract.sdk.wire import REQUEST_ID, Answer, as_events, as_json

PATCH = "anthropic"

pytestmark = pytest.mark.filterwarnings("ignore:The 'output_format' parameter is deprecated:DeprecationWarning")
"""Version 0.111 says so of what later ones take again."""

WHOLE: Table = [
    ((uses.plain, uses.raw, uses.posted), ALL, False),
    ((uses.streaming_parsed, uses.streaming_read, uses.streaming_bytes), ALL, False),
    ((uses.parse, uses.parse_raw), ALL, False),
    ((uses.stream, uses.stream_by_next, uses.stream_block, uses.stream_raw, uses.stream_streaming), ALL, True),
    ((uses.stream_bytes, uses.stream_lines, uses.stream_undecoded), ALL, True),
    ((uses.helper, *wire.HELPERS), ALL, True),
]
"""Ways that end with the provider's usage."""

PARTIAL: Table = [
    ((uses.broken_off, uses.block_broken_off, uses.closed, uses.bytes_broken_off, uses.raw_broken_off), ALL, True),
    ((uses.helper_broken_off, wire.helper_closed, wire.helper_text_broken_off), ALL, True),
]
"""Ways that end after the start of a stream, which tells the input exactly."""

UNSEEN: Table = [
    ((uses.closed_unread, uses.never_iterated, uses.raw_never_read), ALL, True),
    ((uses.streaming_never_read,), ALL, False),
]
"""Ways that end before anything was told."""

COUNTS = {
    "input_tokens": wire.INPUT,
    "cached_tokens": wire.CACHED,
    "cache_creation_tokens": wire.WRITTEN,
    "cache_creation_5m_tokens": wire.WRITTEN - wire.WRITTEN_1H,
    "cache_creation_1h_tokens": wire.WRITTEN_1H,
}


def cost(output: int, model: str = wire.ANSWERED, provider: str = "anthropic", **more: int) -> Decimal:
    """Price the wire's answer by the price list, whose input has the cache inside."""
    return price(
        model,
        provider,
        input_tokens=wire.INPUT + wire.CACHED + wire.WRITTEN,
        cache_read_tokens=wire.CACHED,
        cache_write_tokens=wire.WRITTEN,
        cache_write_1h_tokens=wire.WRITTEN_1H,
        output_tokens=output,
        **more,
    )


def skip_what_this_version_lacks(use: Use, endpoint: Endpoint) -> None:
    through = {uses.parse: "", uses.parse_raw: "with_raw_response"}.get(use)
    if through is not None and not hasattr(endpoint.resource(AnthropicWire().client(), through), "parse"):
        pytest.skip("this version cannot parse like this")


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(WHOLE))
def test_a_call_is_billed_once_with_the_usage_the_provider_reported(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    skip_what_this_version_lacks(use, endpoint)
    result, wired = metered.run_beside(use, make, lambda: AnthropicWire(endpoint.script), endpoint)

    assert result.error is None
    assert wired.paths == ["/v1/messages"]
    assert all(body.closed for body in wired.bodies)
    event = metered.event()
    assert (event.provider, event.endpoint, event.stream) == ("anthropic", "messages", streams)
    assert (event.model, event.tags["requested_model"]) == (wire.ANSWERED, wire.MODEL)
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert (event.output_tokens, event.reasoning_tokens) == (wire.OUTPUT, wire.THINKING)
    assert event.total_tokens == wire.TOTAL
    assert (event.request_id, event.error, event.service_tier) == (REQUEST_ID, None, "standard")
    assert "estimated" not in event.tags
    assert event.cost_usd == cost(wire.OUTPUT)


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(PARTIAL))
def test_a_stream_left_early_is_billed_its_exact_input_and_what_was_seen_of_the_output(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    result, wired = metered.run_beside(use, make, lambda: AnthropicWire(endpoint.script), endpoint)

    assert result.error is None
    event = metered.event()
    assert (event.model, event.stream, event.error) == (wire.ANSWERED, streams, None)
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert event.tags["estimated"] is True
    assert wire.STARTED["output_tokens"] <= event.output_tokens < wire.OUTPUT
    assert event.total_tokens == wire.TOTAL - wire.OUTPUT + event.output_tokens
    assert event.request_id == REQUEST_ID
    assert event.cost_usd == cost(event.output_tokens)


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(UNSEEN))
def test_what_was_never_read_is_billed_at_the_estimate_of_its_input(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    result, wired = metered.run_beside(use, make, lambda: AnthropicWire(endpoint.script), endpoint)

    event = metered.event()
    assert (event.model, event.stream, event.error) == (wire.MODEL, streams, None)
    assert event.tags["estimated"] is True
    assert 0 < event.input_tokens < 50
    assert event.output_tokens == 0
    assert event.cost_usd == price(wire.MODEL, "anthropic", input_tokens=event.input_tokens, output_tokens=0)


def test_more_is_estimated_where_more_was_seen(make: Callable[..., Any], metered: Metered) -> None:
    long = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "forty-two " * 40}}]

    def script(sent: dict[str, Any]) -> Answer:
        return as_events([*wire.events()[:2], *long, *wire.events()[2:]], end=b"")

    metered.run(uses.broken_off, make(AnthropicWire(script)), MESSAGES)

    assert metered.event().output_tokens == 100


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_raw])
def test_what_the_end_tells_is_laid_over_what_the_start_told(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    usage = {
        "input_tokens": 2088,
        "cache_creation_input_tokens": 14789,
        "cache_read_input_tokens": 46134,
        "output_tokens": 760,
        "server_tool_use": {"web_search_requests": 4, "web_fetch_requests": 1},
    }
    metered.run(use, make(AnthropicWire(wire.using(usage))), MESSAGES)

    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.web_searches) == (2088, 760, 4)
    assert (event.cached_tokens, event.cache_creation_tokens) == (46134, 14789)
    assert (event.cache_creation_5m_tokens, event.cache_creation_1h_tokens) == (32, 16)
    assert event.total_tokens == 2088 + 14789 + 46134 + 760
    assert event.cost_usd == price(
        wire.ANSWERED,
        "anthropic",
        input_tokens=2088 + 14789 + 46134,
        cache_read_tokens=46134,
        cache_write_tokens=14789,
        cache_write_1h_tokens=16,
        output_tokens=760,
        web_searches=4,
    )


ITERATIONS = [
    {"type": "message", "input_tokens": 100, "output_tokens": 30},
    {"type": "compaction", "input_tokens": 5000, "output_tokens": 400, "cache_read_input_tokens": 10},
    {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 2000, "output_tokens": 20},
    {"type": "advisor_message", "model": "nobody-knows", "input_tokens": 1, "output_tokens": 0},
    {"type": "message", "input_tokens": 17, "output_tokens": 3},
]


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_raw])
def test_iterations_that_the_top_level_leaves_out_are_added_at_the_price_of_their_model(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    usage = {"output_tokens": wire.OUTPUT, "iterations": ITERATIONS}
    metered.run(use, make(AnthropicWire(wire.using(usage))), wire.BETA)

    event = metered.event()
    assert event.input_tokens == wire.INPUT + 5000 + 2000 + 1
    assert event.output_tokens == wire.OUTPUT + 400 + 20
    assert event.cached_tokens == wire.CACHED + 10
    assert event.total_tokens == wire.TOTAL + 5410 + 2020 + 1
    assert event.tags["other_models"] == ["claude-opus-4-8", "nobody-knows"]
    assert event.cost_usd == (
        cost(wire.OUTPUT)
        + price(wire.ANSWERED, "anthropic", input_tokens=5010, cache_read_tokens=10, output_tokens=400)
        + price("claude-opus-4-8", "anthropic", input_tokens=2000, output_tokens=20)
        + price(wire.ANSWERED, "anthropic", input_tokens=1, output_tokens=0)
    )


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
@pytest.mark.parametrize(
    ("told", "tier", "context"),
    [
        ({"speed": "fast"}, "fast", {"speed": "fast"}),
        ({"speed": "standard", "service_tier": None}, "standard", {}),
        ({"service_tier": "priority"}, "priority", {}),
        ({"service_tier": "batch"}, "batch", {"processing": "batch"}),
    ],
)
def test_the_tier_that_answered_is_billed(
    make: Callable[..., Any], use: Use, told: dict[str, str], tier: str, context: dict[str, str], metered: Metered
) -> None:
    script = wire.using({"output_tokens": wire.OUTPUT, **told}, model="claude-opus-4-8")
    metered.run(use, make(AnthropicWire(script)), MESSAGES)

    event = metered.event()
    assert event.service_tier == tier
    assert event.cost_usd == price(
        "claude-opus-4-8",
        "anthropic",
        context,
        input_tokens=wire.INPUT + wire.CACHED + wire.WRITTEN,
        cache_read_tokens=wire.CACHED,
        cache_write_tokens=wire.WRITTEN,
        cache_write_1h_tokens=wire.WRITTEN_1H,
        output_tokens=wire.OUTPUT,
    )


def test_a_region_that_was_asked_for_is_told(make: Callable[..., Any], metered: Metered) -> None:
    metered.run(uses.plain, make(AnthropicWire(wire.using({"inference_geo": "us"}))), MESSAGES)

    assert metered.event().tags["inference_geo"] == "us"


@pytest.mark.parametrize("oddity", [{"usage": "12"}, {"usage": {"input_tokens": "12"}}, {"usage": None}, {"model": 3}])
@pytest.mark.parametrize("use", [uses.plain, uses.raw, uses.stream_raw])
def test_an_answer_with_odd_fields_is_the_callers_and_is_billed_all_the_same(
    make: Callable[..., Any], use: Use, oddity: dict[str, Any], metered: Metered
) -> None:
    def odd(sent: dict[str, Any]) -> Answer:
        told = {"usage": {"output_tokens": 1}, **oddity}
        if sent.get("stream"):
            return as_events(wire.events(told.pop("usage"), {}, **told), end=b"")
        return as_json(wire.message(**told))

    untouched = run(use, make(AnthropicWire(odd)), MESSAGES)
    result = metered.run(use, make(AnthropicWire(odd)), MESSAGES)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.model == (wire.MODEL if "model" in oddity else wire.ANSWERED)
    assert event.cost_usd is not None


def test_what_a_call_may_cost_is_held_while_it_runs(make: Callable[..., Any], metered: Metered) -> None:
    held: list[int | None] = []

    def look(sent: dict[str, Any]) -> Answer:
        held.append(metered.meter.store.holds()[0].amount)
        return wire.messages(sent)

    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}}

    async def show(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        await uses.value(
            client.messages.create(
                model="claude-sonnet-4-6",
                max_tokens=2,
                system="s" * 400,
                tools=[{"name": "t" * 400, "input_schema": {"type": "object"}}],
                messages=[{"role": "user", "content": [picture]}],
            )
        )

    metered.run(show, make(AnthropicWire(look)), MESSAGES)

    per_input, per_output = 3_000, 15_000  # nano-dollars, claude-sonnet-4-6
    characters = 4_000 + 400 + 400
    assert held[0] is not None
    assert 0 <= held[0] - 2 * per_output - characters // 4 * per_input < 30 * per_input


def test_listing_and_counting_are_free(make: Callable[..., Any], metered: Metered) -> None:
    async def free(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(await uses.value(client.messages.count_tokens(model=wire.MODEL, messages=uses.MESSAGES)))
        seen.append(await uses.value(client.beta.messages.count_tokens(model=wire.MODEL, messages=uses.MESSAGES)))
        seen.append(await uses.value(client.messages.batches.create(requests=[])))
        seen.append(await uses.value(client.messages.batches.cancel("msgbatch_1")))
        seen.append(await uses.value(client.messages.batches.list()))
        seen.append(await uses.value(client.models.list()))
        seen.append(await uses.value(client.beta.files.list()))

    def answer(sent: dict[str, Any]) -> Answer:
        return as_json({"input_tokens": 12, "data": [], "has_more": False})

    result = metered.run(free, make(AnthropicWire(answer)), MESSAGES)

    assert result.error is None
    assert len(result.seen) == 7
    assert metered.events == []
    assert metered.meter.status()["unguarded"] == []


def test_what_runs_on_the_server_is_told_as_not_guarded(
    make: Callable[..., Any], metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    async def post(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        for path in ("/v1/sessions", "/v1/sessions/sesn_1/events", "/v1/deployments/depl_2/run", "/v1/agents"):
            seen.append(await uses.value(client.post(path, body={}, cast_to=object)))

    metered.run(post, make(AnthropicWire(lambda sent: as_json({}))), MESSAGES)

    assert metered.events == []
    assert metered.meter.status()["unguarded"] == [
        f"POST /v1/{path} of the anthropic SDK"
        for path in ("agents", "deployments/{id}/run", "sessions", "sessions/{id}/events")
    ]
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 4
    told = metered.meter.status()["patches"]["anthropic"]["not_guarded"]
    assert {"beta.sessions", "beta.agents", "beta.deployments.run"} <= set(told)
