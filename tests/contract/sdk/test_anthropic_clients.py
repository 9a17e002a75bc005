"""Whatever client of Anthropic's SDK makes the call, it is metered and priced as what it is."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import anthropic
import pytest

from tests.contract.sdk import anthropic_wire as wire
from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import MESSAGES, AnthropicWire
from tests.contract.sdk.metered import Metered, price, run
from tests.contract.sdk.test_anthropic import COUNTS, cost
from tests.contract.sdk.uses import Endpoint, Use, each, value
from tests.contract.sdk.wire import REQUEST_ID, Answer, as_json

PATCH = "anthropic"

BOTH = pytest.mark.parametrize("use", [uses.plain, uses.stream])
SYNC = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


class Platform(NamedTuple):
    """A client class, what it is made with, where it sends a message, and whose price list holds."""

    name: str
    options: dict[str, Any]
    path: str
    model: str
    provider: str
    priced_as: str


KEYS = {"aws_access_key": "x", "aws_secret_key": "x", "aws_region": "us-east-1"}
BEDROCK, GLOBAL = "us.anthropic.claude-sonnet-4-6", "global.anthropic.claude-sonnet-4-6-v1:0"

PLATFORMS = [
    Platform("AnthropicBedrock", KEYS, f"/model/{BEDROCK}/invoke", BEDROCK, "aws", BEDROCK),
    Platform("AnthropicBedrock", KEYS, f"/model/{GLOBAL}/invoke", GLOBAL, "aws", GLOBAL),
    Platform(
        "AnthropicBedrock",
        {**KEYS, "base_url": "https://gateway.example"},
        f"/model/{BEDROCK}/invoke",
        BEDROCK,
        "aws",
        BEDROCK,
    ),
    Platform("AnthropicBedrockMantle", KEYS, "/anthropic/v1/messages", BEDROCK, "aws", BEDROCK),
    Platform(
        "AnthropicVertex",
        {"region": "us-east5", "project_id": "p", "access_token": "x"},
        f"/v1/projects/p/locations/us-east5/publishers/anthropic/models/{wire.MODEL}:rawPredict",
        wire.MODEL,
        "google",
        wire.MODEL,
    ),
    Platform(
        "AnthropicFoundry",
        {"resource": "acme", "api_key": "x"},
        "/anthropic/v1/messages",
        wire.MODEL,
        "anthropic",
        wire.ANSWERED,
    ),
    Platform("AnthropicAWS", {**KEYS, "workspace_id": "w"}, "/v1/messages", wire.MODEL, "anthropic", wire.ANSWERED),
    Platform(
        "AnthropicGoogleCloud",
        {"base_url": "https://gateway.example", "workspace_id": "w", "access_token": "x", "token_provider": None},
        "/v1/messages",
        wire.MODEL,
        "anthropic",
        wire.ANSWERED,
    ),
]


def client_of(platform: Platform, wired: AnthropicWire, sync: bool, **more: Any) -> Any:
    cls = getattr(anthropic, ("" if sync else "Async") + platform.name, None)
    if cls is None:
        pytest.skip(f"this version has no {platform.name}")
    options = {**platform.options, **more}
    if "token_provider" in options:
        options.pop("access_token")
        options["token_provider"] = lambda: "x"
    http_client = anthropic.DefaultHttpxClient if sync else anthropic.DefaultAsyncHttpxClient
    return cls(http_client=http_client(transport=wired), max_retries=0, **options)


def at(platform: Platform, endpoint: Endpoint = MESSAGES) -> Endpoint:
    """Give the endpoint with the platform's name of the model."""
    arguments = {**endpoint.arguments, "model": platform.model}
    return wire.MessagesEndpoint(endpoint.name, wire.messages, arguments, final=endpoint.final)


def frame(event: dict[str, Any], kind: bytes = b"chunk") -> bytes:
    """Write one frame of an AWS event stream, as Bedrock does for each of Anthropic's events."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcd"}).encode()
    named = ((b":event-type", kind), (b":content-type", b"application/json"), (b":message-type", b"event"))
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(told)) + told for name, told in named
    )
    start = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = start + struct.pack(">I", zlib.crc32(start)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def streamed(sent: dict[str, Any]) -> Answer:
    body = b"".join(map(frame, wire.events()))
    pieces = [body[start : start + 37] for start in range(0, len(body), 37)]
    return Answer(200, pieces, "application/vnd.amazon.eventstream", headers={"x-amzn-requestid": "amzn-1"})


@pytest.mark.parametrize(
    "platform", PLATFORMS, ids=lambda platform: f"{platform.name}-{platform.model}-{len(platform.options)}"
)
@SYNC
@pytest.mark.parametrize("name", ["messages", "beta.messages"])
def test_a_platforms_client_is_billed_by_its_price_list(
    platform: Platform, sync: bool, name: str, metered: Metered
) -> None:
    endpoint = at(platform, wire.endpoint(name))
    untouched = run(uses.plain, client_of(platform, AnthropicWire(endpoint.script), sync), endpoint)
    wired = AnthropicWire(endpoint.script)
    result = metered.run(uses.plain, client_of(platform, wired, sync), endpoint)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert wired.paths == [platform.path]
    event = metered.event()
    assert (event.provider, event.endpoint) == (platform.provider, "messages")
    assert (event.model, event.tags["requested_model"]) == (wire.ANSWERED, platform.model)
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert event.total_tokens == wire.TOTAL
    assert event.cost_usd == cost(wire.OUTPUT, platform.priced_as, platform.provider)


def test_a_global_profile_is_cheaper_than_a_regional_one(metered: Metered) -> None:
    for platform in PLATFORMS[:2]:
        metered.run(uses.plain, client_of(platform, AnthropicWire(wire.messages), True), at(platform))

    regional, worldwide = metered.events
    assert regional.model == worldwide.model
    assert regional.cost_usd is not None
    assert worldwide.cost_usd is not None
    assert regional.cost_usd > worldwide.cost_usd


BEDROCK_STREAMS: list[Use] = [
    uses.stream,
    uses.stream_by_next,
    uses.stream_block,
    uses.stream_raw,
    uses.stream_streaming,
    uses.stream_bytes,
    wire.helper_plain,
    wire.helper_final,
]


@pytest.mark.parametrize("use", BEDROCK_STREAMS)
@pytest.mark.parametrize("name", ["messages", "beta.messages"])
@SYNC
def test_bedrocks_binary_streams_are_read(use: Use, name: str, sync: bool, metered: Metered) -> None:
    platform = PLATFORMS[0]
    endpoint = at(platform, wire.endpoint(name))
    helps = hasattr(endpoint.resource(client_of(platform, AnthropicWire(streamed), sync)), "stream")
    if use in wire.HELPERS and not helps:
        pytest.skip("this version's Bedrock client has no stream helper here")
    untouched = run(use, client_of(platform, AnthropicWire(streamed), sync), endpoint)
    wired = AnthropicWire(streamed)
    result = metered.run(use, client_of(platform, wired, sync), endpoint)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert wired.paths == [f"/model/{BEDROCK}/invoke-with-response-stream"]
    event = metered.event()
    assert (event.provider, event.model, event.stream) == ("aws", wire.ANSWERED, True)
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert (event.output_tokens, event.reasoning_tokens) == (wire.OUTPUT, wire.THINKING)
    assert event.request_id == REQUEST_ID
    assert event.cost_usd == cost(wire.OUTPUT, BEDROCK, "aws")


@pytest.mark.parametrize("use", [uses.broken_off, uses.block_broken_off, uses.closed, uses.raw_broken_off])
@SYNC
def test_a_binary_stream_left_early_is_billed_its_exact_input(use: Use, sync: bool, metered: Metered) -> None:
    platform = PLATFORMS[0]
    metered.run(use, client_of(platform, AnthropicWire(streamed), sync), at(platform))

    event = metered.event()
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert event.tags["estimated"] is True
    assert event.output_tokens < wire.OUTPUT


@SYNC
def test_what_bedrock_counts_in_headers_is_believed_where_the_body_tells_nothing(sync: bool, metered: Metered) -> None:
    def script(sent: dict[str, Any]) -> Answer:
        document = wire.message()
        del document["usage"]
        answer = as_json(document)
        answer.headers = {"x-amzn-bedrock-input-token-count": "13", "x-amzn-bedrock-output-token-count": "21"}
        return answer

    metered.run(uses.plain, client_of(PLATFORMS[0], AnthropicWire(script), sync), at(PLATFORMS[0]))

    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (13, 21, 34)
    assert event.cost_usd == price(BEDROCK, "aws", input_tokens=13, output_tokens=21)


@BOTH
def test_a_client_made_before_patching_its_copies_and_bound_methods(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    client = make(AnthropicWire(wire.messages))
    create = client.messages.create
    run(use, client, MESSAGES)

    async def bound(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        made = await value(create(**wire.ARGUMENTS, stream=use is uses.stream))
        seen += [event async for event in each(made)] if use is uses.stream else [made]

    for way, over in ((use, client), (use, client.with_options(timeout=5).copy(max_retries=1)), (bound, None)):
        metered.run(way, over, MESSAGES)

    assert [event.output_tokens for event in metered.events] == [wire.OUTPUT] * 3


HOSTS = {
    "https://api.anthropic.com": "anthropic",
    "https://acme.services.ai.azure.com/anthropic": "anthropic",
    "https://api.deepseek.com/anthropic": "deepseek",
    "https://api.anthropic.com.evil.example": "unknown",
    "http://127.0.0.1:8010": "anthropic",
}


@pytest.mark.parametrize(("base_url", "provider"), HOSTS.items())
def test_the_provider_is_told_from_the_host(make: Callable[..., Any], base_url: str, provider: str) -> None:
    metered = Metered(PATCH, hosts={"127.0.0.1:8010": "anthropic"})
    result = metered.run(uses.plain, make(AnthropicWire(wire.messages), base_url=base_url), MESSAGES)
    metered.meter.close()

    assert result.error is None
    event = metered.event()
    assert (event.provider, event.input_tokens) == (provider, wire.INPUT)
    assert ("price_assumed" in event.tags) is (provider != "anthropic")


def test_legacy_completions_tell_no_usage_and_are_estimated(make: Callable[..., Any], metered: Metered) -> None:
    if not hasattr(make(AnthropicWire(wire.messages)), "completions"):
        pytest.skip("this version has no completions")

    async def complete(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(
            await value(client.completions.create(model="claude-2.1", max_tokens_to_sample=10, prompt="\n\nHuman: hi"))
        )

    done = {"id": "compl_1", "type": "completion", "model": "claude-2.1", "completion": " hi", "stop_reason": "stop"}
    result = metered.run(complete, make(AnthropicWire(lambda sent: as_json(done))), MESSAGES)

    assert result.error is None
    event = metered.event()
    assert (event.endpoint, event.model, event.tags["estimated"]) == ("completions", "claude-2.1", True)
    assert event.input_tokens > 0


# -- the tool runner ---------------------------------------------------------------------------------


def asking_for_a_tool(sent: dict[str, Any]) -> Answer:
    asked = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 40, "b": 2}}
    return as_json(wire.message(content=[asked], stop_reason="tool_use"))


@pytest.mark.parametrize("streams", [False, True])
def test_each_hop_of_the_tool_runner_is_an_event(make: Callable[..., Any], streams: bool, metered: Metered) -> None:
    asynchronous = make is AnthropicWire.async_client

    def first_hop(sent: dict[str, Any]) -> Answer:
        if not sent.get("stream"):
            return asking_for_a_tool(sent)
        asked = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
        given = {"type": "input_json_delta", "partial_json": '{"a": 40, "b": 2}'}
        events = wire.events()
        stop = {"stop_reason": "tool_use", "stop_sequence": None}
        return wire.as_events(
            [
                events[0],
                {"type": "content_block_start", "index": 0, "content_block": asked},
                {"type": "content_block_delta", "index": 0, "delta": given},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": stop, "usage": wire.DELTA},
                {"type": "message_stop"},
            ],
            end=b"",
        )

    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    async def aadd(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    async def use(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        tool = anthropic.beta_async_tool(aadd, name="add") if asynchronous else anthropic.beta_tool(add)
        runner = client.beta.messages.tool_runner(**wire.ARGUMENTS, tools=[tool], stream=streams)
        async for hop in each(runner):
            seen += [event async for event in each(hop)] if streams else [hop]

    untouched = run(use, make(AnthropicWire(first_hop, wire.messages)), MESSAGES)
    wired = AnthropicWire(first_hop, wire.messages)
    result = metered.run(use, make(wired), MESSAGES)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert len(wired.sent) == 2
    assert wired.sent[1]["messages"][-1]["content"][0]["content"] == "42"
    assert [(event.input_tokens, event.output_tokens) for event in metered.events] == [(wire.INPUT, wire.OUTPUT)] * 2
    assert {event.tenant_id for event in metered.events} == {"acme"}
    assert metered.meter.store.holds() == []
