"""Calls to Anthropic that fail: the app sees the SDK's own exception, and a failure is billed for what it is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import anthropic
import pytest

from tests.contract.sdk import anthropic_wire as wire
from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import ALL, MESSAGES, AnthropicWire, httpx
from tests.contract.sdk.metered import TENANT, Metered, price, run
from tests.contract.sdk.test_anthropic import COUNTS, cost
from tests.contract.sdk.uses import Endpoint, Use
from tests.contract.sdk.wire import REQUEST_ID, Answer, Script, Stall, as_event, as_events, as_json, drop
from tests.waiting import PATIENCE

PATCH = "anthropic"

pytestmark = pytest.mark.filterwarnings("ignore:The 'output_format' parameter is deprecated:DeprecationWarning")
"""Version 0.111 says so of what later ones take again."""

CALLS = [
    uses.plain,
    uses.raw,
    uses.streaming_parsed,
    uses.stream,
    uses.stream_raw,
    uses.stream_streaming,
    wire.helper_plain,
]


class Fault(NamedTuple):
    """A failure before any answer: how the provider does it, what the SDK raises, whether it may be billed."""

    script: Script
    raises: type[BaseException]
    described: str
    billed: bool


BAD_KEY = wire.error(401, "authentication_error")
BUSY = wire.error(429, "rate_limit_error")
DOWN = wire.error(500, "api_error")

FAULTS = {
    "401": Fault(BAD_KEY, anthropic.AuthenticationError, "401 authentication_error", False),
    "429": Fault(BUSY, anthropic.RateLimitError, "429 rate_limit_error", False),
    "500": Fault(DOWN, anthropic.InternalServerError, "500 api_error", False),
    "dropped": Fault(drop(httpx.ReadError("secret")), anthropic.APIConnectionError, "", True),
    "cut off": Fault(drop(httpx.RemoteProtocolError("secret")), anthropic.APIConnectionError, "", True),
    "timed out": Fault(drop(httpx.ReadTimeout("secret")), anthropic.APITimeoutError, "", True),
    "unreachable": Fault(drop(httpx.ConnectError("secret")), anthropic.APIConnectionError, "", False),
    "slow to connect": Fault(drop(httpx.ConnectTimeout("secret")), anthropic.APITimeoutError, "", False),
    "interrupted": Fault(drop(KeyboardInterrupt()), KeyboardInterrupt, "", True),
}


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.name)
@pytest.mark.parametrize("use", CALLS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_that_gets_no_answer_raises_the_sdks_own_error_and_is_recorded(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, fault: Fault, metered: Metered
) -> None:
    untouched = run(use, make(AnthropicWire(fault.script)), endpoint)
    result = metered.run(use, make(AnthropicWire(fault.script)), endpoint)

    assert type(result.error) is fault.raises
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.error == f"{fault.raises.__name__} {fault.described}".strip()
    assert event.request_id == (REQUEST_ID if fault.described else None)
    assert event.tags.get("estimated", False) is fault.billed
    assert event.output_tokens == 0
    assert (event.input_tokens > 0) is fault.billed
    assert event.cost_usd == price(wire.MODEL, "anthropic", input_tokens=event.input_tokens, output_tokens=0)


READS = [
    uses.stream,
    uses.stream_block,
    uses.stream_raw,
    uses.stream_streaming,
    uses.stream_bytes,
    wire.helper_plain,
    wire.helper_text,
]
ERROR_EVENT = {"type": "error", "error": {"type": "overloaded_error", "message": "secret prompt echoed"}}


def broken(after: int, by: str) -> Script:
    """Answer with the first pieces of a stream, which then breaks off."""

    def script(sent: dict[str, Any]) -> Answer:
        answer = wire.messages(sent)
        answer.pieces = answer.pieces[:after]
        if by == "error event":
            answer.pieces.append(as_event(ERROR_EVENT))
        elif by == "malformed":
            answer.pieces.append(b'event: content_block_delta\ndata: {"type": \n\n')
        elif by == "dropped":
            answer.fault = httpx.ReadError("secret")
        elif by == "interrupted":
            answer.fault = KeyboardInterrupt()
        return answer

    return script


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.name)
@pytest.mark.parametrize("use", READS)
@pytest.mark.parametrize("by", ["error event", "dropped", "malformed", "interrupted", "short"])
def test_a_stream_that_breaks_off_raises_the_sdks_own_error_and_bills_what_was_seen(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, by: str, metered: Metered
) -> None:
    untouched = run(use, make(AnthropicWire(broken(5, by))), endpoint)
    result = metered.run(use, make(AnthropicWire(broken(5, by))), endpoint)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert event.tags["estimated"] is True
    assert event.stream is True
    assert event.cost_usd == cost(event.output_tokens)
    raised = None if result.error is None else type(result.error).__name__
    if use in (uses.stream_raw, uses.stream_streaming, uses.stream_bytes):
        told = "ErrorEvent overloaded_error" if by == "error event" else None
        assert event.error in (told, "ReadError", raised)  # what is raised above the bytes is not seen from there
    elif raised is not None and by == "error event":
        assert event.error is not None
        assert event.error.startswith(raised)
        assert event.error.endswith(" overloaded_error")
    elif use not in (wire.helper_text, wire.helper_plain):
        assert event.error == raised


@pytest.mark.parametrize("use", [uses.stream, uses.stream_block, wire.helper_plain])
@pytest.mark.parametrize(("by", "billed"), [("error event", False), ("dropped", True)])
def test_an_error_in_place_of_an_answer_costs_nothing_and_a_lost_answer_its_estimate(
    make: Callable[..., Any], use: Use, by: str, billed: bool, metered: Metered
) -> None:
    untouched = run(use, make(AnthropicWire(broken(0, by))), MESSAGES)
    result = metered.run(use, make(AnthropicWire(broken(0, by))), MESSAGES)

    assert result.error is not None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.input_tokens > 0) is billed
    assert (event.cost_usd == 0) is not billed


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.name)
def test_an_answer_that_cannot_be_parsed_is_billed_as_reported(
    make: Callable[..., Any], endpoint: Endpoint, metered: Metered
) -> None:
    def wrong(sent: dict[str, Any]) -> Answer:
        return as_json(wire.message(content=[{"type": "text", "text": '{"other": 1}'}]))

    untouched = run(uses.parse, make(AnthropicWire(wrong)), endpoint)
    result = metered.run(uses.parse, make(AnthropicWire(wrong)), endpoint)

    assert result.error is not None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.error == type(result.error).__name__
    assert (event.input_tokens, event.output_tokens, event.request_id) == (wire.INPUT, wire.OUTPUT, REQUEST_ID)


def test_an_answer_that_is_no_json_is_billed_at_the_estimate(make: Callable[..., Any], metered: Metered) -> None:
    def malformed(sent: dict[str, Any]) -> Answer:
        return Answer(200, [b'{"id": "msg_', b"1"], "application/json")

    untouched = run(uses.plain, make(AnthropicWire(malformed)), MESSAGES)
    result = metered.run(uses.plain, make(AnthropicWire(malformed)), MESSAGES)

    assert result.error is not None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.tags["estimated"] is True
    assert event.input_tokens > 0


def test_retries_are_one_call(make: Callable[..., Any], metered: Metered) -> None:
    wired = AnthropicWire(wire.error(529, "overloaded_error"), drop(httpx.ReadError("gone")), wire.messages)
    result = metered.run(uses.plain, make(wired, max_retries=2), MESSAGES)

    assert result.error is None
    assert len(wired.sent) == 3
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.error) == (wire.INPUT, wire.OUTPUT, None)
    assert (event.tags["lost_attempts"], event.tags["estimated"]) == (1, True)


def test_retries_that_all_fail_are_one_call(make: Callable[..., Any], metered: Metered) -> None:
    wired = AnthropicWire(DOWN)
    result = metered.run(uses.stream, make(wired, max_retries=2), MESSAGES)

    assert type(result.error) is anthropic.InternalServerError
    assert len(wired.sent) == 3
    assert (metered.event().error, metered.event().cost_usd) == ("InternalServerError 500 api_error", 0)


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.name)
@pytest.mark.parametrize(
    ("use", "pieces"),
    [
        (uses.plain, None),
        (uses.stream, None),
        (uses.streaming_parsed, 0),
        (uses.stream, 5),
        (uses.stream_block, 5),
        (uses.stream_raw, 5),
        (uses.stream_bytes, 5),
        (wire.helper_plain, 5),
        (wire.helper_final, 5),
    ],
)
def test_a_cancelled_task_is_billed_for_what_was_seen(
    use: Use, pieces: int | None, endpoint: Endpoint, metered: Metered
) -> None:
    stall = Stall(endpoint.script, pieces)
    metered.cancel(use, AnthropicWire(stall.script).async_client(), endpoint, stall)

    event = metered.event()
    assert event.tags["estimated"] is True
    assert event.input_tokens > 0
    if pieces == 5:
        assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    if use not in (wire.helper_plain, wire.helper_final):  # their block closes the stream before the error shows
        assert event.error == "CancelledError"


def test_streams_left_open_when_the_loop_ends_are_settled(metered: Metered) -> None:
    async def main() -> None:
        stream = await AnthropicWire(wire.messages).async_client().messages.create(**wire.ARGUMENTS, stream=True)
        await anext(aiter(stream))

    metered.meter.patch(PATCH)
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        asyncio.run(main())
    gc.collect()
    assert metered.meter.flush(PATIENCE)
    assert metered.event().input_tokens == wire.INPUT


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_raw, uses.streaming_parsed, wire.helper_plain])
def test_a_refused_call_sends_nothing(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    from token_limit_core import LimitExceededException

    metered.meter.set_limit(TENANT, 0)
    wired = AnthropicWire(wire.messages)
    result = metered.run(use, make(wired), MESSAGES)

    assert isinstance(result.error, LimitExceededException)
    assert wired.sent == []
    assert metered.events == []


@pytest.mark.parametrize("use", READS)
def test_an_error_in_place_of_an_answer_costs_nothing_however_it_is_read(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    def overloaded(sent: dict[str, Any]) -> Answer:
        return as_events([ERROR_EVENT])

    metered.run(use, make(AnthropicWire(overloaded)), MESSAGES)

    event = metered.event()
    assert event.cost_usd == 0
    assert event.error is not None
    assert event.error.endswith("overloaded_error")
