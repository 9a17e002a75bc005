"""Calls to Google that fail: the app sees exactly the SDK's own exception, and the failure is billed for what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from google.genai import errors

from tests.contract.sdk import gemini, wire
from tests.contract.sdk.gemini import HAS_INTERACTIONS, MODEL, Wire, api_client, httpx, so_far, vertex_client
from tests.contract.sdk.metered import Metered, price, run
from tests.contract.sdk.test_google import on
from tests.contract.sdk.wire import Answer, Stall

PATCH = "google"


class Fault(NamedTuple):
    """A failure before any answer: how the provider does it, what the SDK raises, whether it may be billed."""

    script: wire.Script
    raises: type[BaseException]
    described: str
    billed: bool


FAULTS = {
    "400": Fault(gemini.error(400, "INVALID_ARGUMENT"), errors.ClientError, "400 INVALID_ARGUMENT", False),
    "429": Fault(gemini.error(429, "RESOURCE_EXHAUSTED"), errors.ClientError, "429 RESOURCE_EXHAUSTED", False),
    "503": Fault(gemini.error(503, "UNAVAILABLE"), errors.ServerError, "503 UNAVAILABLE", False),
    "dropped": Fault(wire.drop(httpx.ReadError("secret")), httpx.ReadError, "", True),
    "timed out": Fault(wire.drop(httpx.ReadTimeout("secret")), httpx.ReadTimeout, "", True),
    "unreachable": Fault(wire.drop(httpx.ConnectError("secret")), httpx.ConnectError, "", False),
    "interrupted": Fault(wire.drop(KeyboardInterrupt()), KeyboardInterrupt, "", True),
}

USES = [gemini.plain, gemini.stream, gemini.chat, gemini.chat_stream]


@on(api_client, vertex_client)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_that_gets_no_answer_raises_the_sdks_own_error_and_is_recorded(
    make: Callable[..., Any], use: Any, fault: Fault, metered: Metered
) -> None:
    untouched = run(use, make(Wire(fault.script)), None)  # type: ignore[arg-type]
    result = metered.run(use, make(Wire(fault.script)), None)  # type: ignore[arg-type]

    assert type(result.error) is fault.raises
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.error == f"{fault.raises.__name__} {fault.described}".strip()
    assert event.tags.get("estimated", False) is fault.billed
    assert (event.input_tokens > 0) is fault.billed
    assert event.output_tokens == 0
    assert event.cost_usd == price(MODEL, "google", input_tokens=event.input_tokens, output_tokens=0)
    assert "secret" not in str(event.to_dict())


@pytest.mark.skipif(not HAS_INTERACTIONS, reason="this google-genai has no interactions")
@on(api_client)
@pytest.mark.parametrize("use", [gemini.interact, gemini.interact_stream])
@pytest.mark.parametrize("name", ["429", "503", "dropped", "unreachable"])
@pytest.mark.filterwarnings("ignore:.*experimental")
def test_an_interaction_that_gets_no_answer_is_recorded(
    make: Callable[..., Any], use: Any, name: str, metered: Metered
) -> None:
    fault = FAULTS[name]
    untouched = run(use, make(Wire(fault.script)), None)  # type: ignore[arg-type]
    result = metered.run(use, make(Wire(fault.script)), None)  # type: ignore[arg-type]

    assert result.error is not None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.error is not None
    assert event.tags.get("estimated", False) is fault.billed
    assert (event.input_tokens > 0) is fault.billed


BREAKS = {
    "dropped": (lambda answer: setattr(answer, "fault", httpx.ReadError("secret")), "ReadError"),
    "interrupted": (lambda answer: setattr(answer, "fault", KeyboardInterrupt()), "KeyboardInterrupt"),
    "error event": (
        lambda answer: answer.pieces.append(wire.as_event({"error": {"code": 503, "status": "UNAVAILABLE"}})),
        "ServerError 503 UNAVAILABLE",
    ),
    "malformed": (lambda answer: answer.pieces.append(b'data: {"candidates": \n\n'), "UnknownApiResponseError"),
    "short": (lambda answer: None, None),
}


@on(api_client, vertex_client)
@pytest.mark.parametrize("use", [gemini.stream, gemini.chat_stream])
@pytest.mark.parametrize(("break_off", "described"), BREAKS.values(), ids=BREAKS)
def test_a_stream_that_breaks_off_raises_the_sdks_own_error_and_bills_what_was_told(
    make: Callable[..., Any], use: Any, break_off: Any, described: str | None, metered: Metered
) -> None:
    def broken(sent: dict[str, Any]) -> Answer:
        answer = gemini.chunks(sent)
        answer.pieces = answer.pieces[:3]
        break_off(answer)
        return answer

    untouched = run(use, make(Wire(broken)), None)  # type: ignore[arg-type]
    result = metered.run(use, make(Wire(broken)), None)  # type: ignore[arg-type]

    assert (result.error is None) is (described is None)
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    told = so_far(2)
    assert event.input_tokens == told["promptTokenCount"]
    assert event.output_tokens == told["candidatesTokenCount"] + told["thoughtsTokenCount"]
    assert (event.error, event.tags["estimated"]) == (described, True)


@on(api_client)
def test_a_stream_without_usage_is_billed_for_what_was_seen(make: Callable[..., Any], metered: Metered) -> None:
    def untold(sent: dict[str, Any]) -> Answer:
        answer = gemini.chunks(sent)
        answer.pieces = [piece.replace(b"usageMetadata", b"otherMetadata") for piece in answer.pieces]
        return answer

    metered.run(gemini.stream, make(Wire(untold)), None)  # type: ignore[arg-type]

    event = metered.event()
    assert event.tags["estimated"] is True
    assert event.output_tokens == (len(wire.TEXT) + 1) // 4
    assert event.input_tokens > 0


@pytest.mark.parametrize(
    ("interim", "received"),
    [
        pytest.param([{"promptTokenCount": 7}] * 3, 7, id="the prompt only"),  # gemini-2.0-flash, among others
        pytest.param([{"trafficType": "ON_DEMAND"}] * 3, None, id="no counts"),  # Vertex
        pytest.param(
            [{"promptTokenCount": 7, "candidatesTokenCount": 1}, {"promptTokenCount": 7}], 7, id="now and then"
        ),
    ],
)
@on(api_client, vertex_client)
def test_a_stream_that_is_left_before_its_output_is_counted_is_billed_for_what_was_seen(
    make: Callable[..., Any], interim: list[dict[str, Any]], received: int | None, metered: Metered
) -> None:
    said = ["forty-two words, " * 4] * len(interim)

    def uncounted(sent: dict[str, Any]) -> Answer:
        rows = [
            {"candidates": [{"content": {"parts": [{"text": words}], "role": "model"}}], "usageMetadata": usage}
            for words, usage in zip(said, interim, strict=True)
        ]
        answer = wire.as_events(rows, end=b"")
        answer.fault = httpx.ReadError("dropped")
        return answer

    metered.run(gemini.stream, make(Wire(uncounted)), None)  # type: ignore[arg-type]

    event = metered.event()
    counted = sum("candidatesTokenCount" in usage for usage in interim)
    assert event.output_tokens == counted + sum(map(len, said[counted:])) // 4
    assert event.total_tokens == event.input_tokens + event.output_tokens
    assert event.input_tokens == received or (received is None and event.input_tokens > 0)
    assert event.tags["estimated"] is True


THOUGHT = {"text": "t" * 400, "thought": True}
SAID = {"text": "s" * 40}


@pytest.mark.parametrize(
    ("rows", "output"),
    [
        pytest.param([([THOUGHT], {"promptTokenCount": 7, "thoughtsTokenCount": 69})], 69, id="counted thoughts"),
        pytest.param([([THOUGHT, SAID], {"promptTokenCount": 7})], 110, id="thoughts that are not"),
        pytest.param(
            [([THOUGHT], {"promptTokenCount": 7, "thoughtsTokenCount": 69}), ([SAID], {"promptTokenCount": 7})],
            10,
            id="what was said after them",
        ),
        pytest.param([([SAID], {"promptTokenCount": 10, "totalTokenCount": 60})], 60, id="the total alone"),
        pytest.param([([SAID], {"promptTokenCount": 7}), ("STOP", {"promptTokenCount": 7})], 10, id="one of two ends"),
    ],
)
@on(api_client)
def test_what_a_stream_that_is_left_has_generated(
    make: Callable[..., Any], rows: list[Any], output: int, metered: Metered
) -> None:
    def left(sent: dict[str, Any]) -> Answer:
        told = [
            {"candidates": [{"index": 0, "finishReason": parts}], "usageMetadata": usage}
            if parts == "STOP"
            else {"candidates": [{"content": {"parts": parts, "role": "model"}}], "usageMetadata": usage}
            for parts, usage in rows
        ]
        answer = wire.as_events(told, end=b"")
        answer.fault = httpx.ReadError("dropped")
        return answer

    metered.run(gemini.stream, make(Wire(left)), None)  # type: ignore[arg-type]

    event = metered.event()
    assert event.output_tokens == output
    assert event.tags["estimated"] is True


@pytest.mark.parametrize("oddity", [{"usageMetadata": "12"}, {"usageMetadata": {"promptTokenCount": "12"}}, {}])
@on(api_client)
def test_an_answer_with_odd_usage_is_estimated(
    make: Callable[..., Any], oddity: dict[str, Any], metered: Metered
) -> None:
    def odd(sent: dict[str, Any]) -> Answer:
        return wire.as_json({"candidates": [], **oddity})

    untouched = run(gemini.plain, make(Wire(odd)), None)  # type: ignore[arg-type]
    result = metered.run(gemini.plain, make(Wire(odd)), None)  # type: ignore[arg-type]

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.tags["estimated"] is True
    assert event.model == MODEL


RETRY = {"attempts": 3, "initial_delay": 0.001, "max_delay": 0.001, "jitter": 0.0}


@on(api_client, vertex_client)
@pytest.mark.parametrize(("use", "script"), [(gemini.plain, gemini.content), (gemini.stream, gemini.chunks)])
def test_retries_are_one_call(make: Callable[..., Any], use: Any, script: wire.Script, metered: Metered) -> None:
    wired = Wire(gemini.error(503, "UNAVAILABLE"), gemini.error(429, "RESOURCE_EXHAUSTED"), script)
    result = metered.run(use, make(wired, retry_options=RETRY), None)  # type: ignore[arg-type]

    assert result.error is None
    assert len(wired.sent) == 3
    event = metered.event()
    assert (event.input_tokens, event.output_tokens) == (
        gemini.WHOLE["input_tokens"], gemini.WHOLE["output_tokens"]
    )  # fmt: skip
    assert "estimated" not in event.tags


# -- cancellation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "script", "pieces"),
    [
        (gemini.plain, gemini.content, None),
        (gemini.chat, gemini.content, None),
        (gemini.stream, gemini.chunks, None),
        (gemini.stream, gemini.chunks, 3),
        (gemini.chat_stream, gemini.chunks, 3),
    ],
)
@pytest.mark.parametrize("place", [api_client, vertex_client], ids=["api", "vertex"])
def test_a_cancelled_task_is_billed_for_what_was_told(
    use: Any, script: wire.Script, pieces: int | None, place: Any, metered: Metered
) -> None:
    stall = Stall(script, pieces)
    metered.cancel(use, place(Wire(stall.script)).aio, None, stall)  # type: ignore[arg-type]

    event = metered.event()
    assert (event.error, event.tags["estimated"]) == ("CancelledError", True)
    if pieces is None:
        assert event.input_tokens > 0
    else:
        assert event.input_tokens == so_far(pieces - 1)["promptTokenCount"]


@pytest.mark.skipif(not HAS_INTERACTIONS, reason="this google-genai has no interactions")
@pytest.mark.parametrize(
    ("use", "pieces"), [(gemini.interact, None), (gemini.interact_stream, None), (gemini.interact_stream, 3)]
)
@pytest.mark.filterwarnings("ignore:.*experimental")
def test_a_cancelled_interaction_is_billed_by_estimate(use: Any, pieces: int | None, metered: Metered) -> None:
    stall = Stall(gemini.interaction, pieces)
    metered.cancel(use, api_client(Wire(stall.script)).aio, None, stall)  # type: ignore[arg-type]

    event = metered.event()
    assert (event.error, event.tags["estimated"]) == ("CancelledError", True)
    assert (event.endpoint, event.request_id) == ("interactions", None if pieces is None else gemini.RESPONSE_ID)
    assert event.input_tokens > 0
