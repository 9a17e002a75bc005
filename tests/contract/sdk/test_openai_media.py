"""Transcripts, speech and pictures: the caller notices nothing, and one event says what was used and what it cost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import openai
import pytest

from tests.contract.sdk import media, uses, wire
from tests.contract.sdk.media import CASES, SPEECH, Case
from tests.contract.sdk.metered import Metered, run
from tests.contract.sdk.uses import Use, each, value
from tests.contract.sdk.wire import Wire, httpx
from token_limit_core import LLMEvent
from token_limit_core.patches.audio import TOKENS_PER_CHARACTER
from token_limit_core.patches.images import DRAFT, PICTURE

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # translations and variations

WHOLE = (uses.plain, uses.raw, uses.streaming_parsed, uses.streaming_bytes)
STREAMED = (
    uses.stream, uses.stream_by_next, uses.stream_block, uses.stream_raw, uses.stream_streaming, uses.stream_bytes,
)  # fmt: skip
BROKEN = (
    uses.broken_off, uses.block_broken_off, uses.closed, uses.closed_unread, uses.never_iterated, uses.raw_broken_off,
    uses.raw_never_read, uses.bytes_broken_off,
)  # fmt: skip


def params(cases: dict[str, Case], several: tuple[Use, ...]) -> list[Any]:
    return [pytest.param(use, case, id=f"{use.__name__}-{name}") for name, case in cases.items() for use in several]


STREAMING = {name: case for name, case in CASES.items() if case.streams}


def check(event: LLMEvent, case: Case, streams: bool) -> None:
    assert (event.provider, event.endpoint, event.stream) == ("openai", case.endpoint.name, streams)
    assert (event.model, event.request_id, event.error) == (case.endpoint.model, wire.REQUEST_ID, None)
    assert {name: getattr(event, name) for name in case.event} == case.event
    assert set(event.tags) == {"plan", *case.tags}
    if case.cost is not None:
        assert event.cost_usd == case.cost.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
    else:
        assert event.cost_usd is not None
        assert event.cost_usd > 0


@pytest.mark.parametrize(("use", "case"), params(CASES, WHOLE))
def test_a_whole_answer(make: Callable[..., Any], use: Use, case: Case, metered: Metered) -> None:
    result, wired = metered.run_beside(use, make, lambda: Wire(case.endpoint.script), case.endpoint)

    assert result.error is None
    assert len(wired.sent) == 1
    check(metered.event(), case, streams=False)


@pytest.mark.parametrize(("use", "case"), params(STREAMING, STREAMED))
def test_a_stream(make: Callable[..., Any], use: Use, case: Case, metered: Metered) -> None:
    untouched = run(use, make(Wire(case.endpoint.script)), case.endpoint)
    result = metered.run(use, make(Wire(case.endpoint.script)), case.endpoint)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    check(metered.event(), case, streams=True)


@pytest.mark.parametrize(("use", "case"), params(STREAMING, BROKEN))
def test_a_stream_that_is_left(make: Callable[..., Any], use: Use, case: Case, metered: Metered) -> None:
    before, wired = Wire(case.endpoint.script), Wire(case.endpoint.script)
    untouched = run(use, make(before), case.endpoint)
    result = metered.run(use, make(wired), case.endpoint)

    assert type(result.error) is type(untouched.error)
    assert result.comparable() == untouched.comparable()
    assert [body.closed for body in wired.bodies] == [body.closed for body in before.bodies]
    event = metered.event()
    assert (event.endpoint, event.stream, event.request_id) == (case.endpoint.name, True, wire.REQUEST_ID)
    assert event.tags.get("estimated") is True or event.output_tokens == case.event["output_tokens"]


@pytest.mark.parametrize(("use", "case"), params(SPEECH, media.SPEAKING))
def test_speech(make: Callable[..., Any], use: Use, case: Case, metered: Metered) -> None:
    untouched = run(use, make(Wire(case.endpoint.script)), case.endpoint)
    result = metered.run(use, make(Wire(case.endpoint.script)), case.endpoint)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert media.BINARY in result.seen
    check(metered.event(), case, streams=False)


@pytest.mark.parametrize("case", SPEECH.values(), ids=SPEECH)
def test_speech_that_is_not_listened_to_the_end_is_billed_all_the_same(
    make: Callable[..., Any], case: Case, metered: Metered
) -> None:
    metered.run(media.spoken_broken_off, make(Wire(media.speech)), case.endpoint)

    check(metered.event(), case, streams=False)


@pytest.mark.parametrize("case", SPEECH.values(), ids=SPEECH)
def test_a_body_of_speech_is_not_kept(make: Callable[..., Any], case: Case, metered: Metered) -> None:
    before = run(media.spoken_stream, make(Wire(media.speech)), case.endpoint).seen
    assert metered.run(media.spoken_stream, make(Wire(media.speech)), case.endpoint).seen == before


@pytest.mark.parametrize("raw", [(), ("with_raw_response",)], ids=["parsed", "raw"])
def test_speech_as_events_that_is_taken_for_a_document_tells_its_tokens_too(
    make: Callable[..., Any], raw: tuple[str, ...], metered: Metered
) -> None:
    endpoint = SPEECH["by tokens"].endpoint

    async def listen(client: Any, endpoint: uses.Endpoint, seen: list[Any]) -> None:
        opened = endpoint.create(client, *raw, stream_format="sse")
        seen.append((await uses.value(opened)).content)

    untouched = run(listen, make(Wire(media.speech)), endpoint)
    assert metered.run(listen, make(Wire(media.speech)), endpoint).seen == untouched.seen
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.request_id) == (8, 90, wire.REQUEST_ID)
    assert "estimated" not in event.tags


def test_speech_as_events_that_is_left_is_billed_for_all_that_was_to_be_said(
    make: Callable[..., Any], metered: Metered
) -> None:
    endpoint = SPEECH["by tokens"].endpoint

    async def leave(client: Any, endpoint: uses.Endpoint, seen: list[Any]) -> None:
        opened = endpoint.create(client, "with_streaming_response", stream_format="sse")
        async with uses.entered(opened) as response:
            seen.append(await uses.first(response.iter_lines()))

    metered.run(leave, make(Wire(media.speech)), endpoint)
    event = metered.event()
    assert event.output_tokens == round(len(media.SAID) * TOKENS_PER_CHARACTER)
    assert event.tags["estimated"] is True


def test_a_picture_that_is_left_after_a_partial_one_is_billed_as_a_whole(
    make: Callable[..., Any], metered: Metered
) -> None:
    async def leave(client: Any, endpoint: uses.Endpoint, seen: list[Any]) -> None:
        seen.append(await uses.first(await uses.value(endpoint.create(client, stream=True))))

    metered.run(leave, make(Wire(media.pictures)), CASES["pictures"].endpoint)
    event = metered.event()
    assert event.output_tokens == event.output_image_tokens == PICTURE + DRAFT
    assert event.input_tokens > 0
    assert event.cost_usd is not None and event.cost_usd > Decimal("0.04")
    assert event.tags["estimated"] is True


def test_a_drawing_that_a_text_model_writes_is_billed_at_that_models_price(
    make: Callable[..., Any], metered: Metered
) -> None:
    written = {"input_tokens": 5000, "output_tokens": 20_000, "reasoning_tokens": 1000, "total_tokens": 25_000}

    def drawing(sent: dict[str, Any]) -> wire.Answer:
        data = [{"b64_json": "AA=="}]
        usage = {"usage": media.IMAGE_USAGE, "svg_usage": {**written, "model": "gpt-5"}}
        return wire.as_json({"created": 1, "data": data, "output_format": "svg", **usage})

    case = CASES["pictures"]
    metered.run(uses.plain, make(Wire(drawing)), case.endpoint)
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.reasoning_tokens) == (5350, 21_056, 1000)
    assert event.output_image_tokens == 1056
    assert event.tags["other_models"] == ["gpt-5"]
    assert case.cost is not None
    assert event.cost_usd == case.cost + Decimal("0.000001") * (5000 * Decimal("1.25") + 20_000 * 10)


def test_speech_as_events_tells_its_tokens(make: Callable[..., Any], metered: Metered) -> None:
    endpoint = SPEECH["by tokens"].endpoint

    async def listen(client: Any, endpoint: uses.Endpoint, seen: list[Any]) -> None:
        opened = endpoint.create(client, "with_streaming_response", stream_format="sse")
        async with uses.entered(opened) as response:
            seen += [line async for line in each(response.iter_lines())]

    untouched = run(listen, make(Wire(media.speech)), endpoint)
    result = metered.run(listen, make(Wire(media.speech)), endpoint)

    assert result.seen == untouched.seen
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.character_count, event.stream) == (8, 90, 0, True)
    assert event.cost_usd == Decimal("0.000001") * (8 * Decimal("0.6") + 90 * 12)


ERRORS = {**{name: CASES[name] for name in ("transcript by tokens", "translation", "pictures", "an edit")}, **SPEECH}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_costs_nothing(make: Callable[..., Any], status: int, case: Case, metered: Metered) -> None:
    untouched = run(uses.plain, make(Wire(wire.error(status))), case.endpoint)
    result = metered.run(uses.plain, make(Wire(wire.error(status))), case.endpoint)

    assert isinstance(result.error, openai.APIStatusError)
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.error, event.cost_usd) == (f"{type(result.error).__name__} {status} some_code", 0)


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_a_connection_that_is_lost_is_settled_by_estimate(
    make: Callable[..., Any], case: Case, metered: Metered
) -> None:
    result = metered.run(uses.plain, make(Wire(wire.drop(httpx.ReadError("lost")))), case.endpoint)

    assert isinstance(result.error, openai.APIConnectionError)
    event = metered.event()
    assert event.tags["estimated"] is True
    assert event.input_tokens > 0


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_a_retry_is_one_call(make: Callable[..., Any], case: Case, metered: Metered) -> None:
    wired = Wire(wire.error(500), case.endpoint.script)
    use = media.spoken if case in SPEECH.values() else uses.plain
    metered.run(use, make(wired, max_retries=2), case.endpoint)

    assert len(wired.sent) == 2
    check(metered.event(), case, streams=False)


@pytest.mark.parametrize("case", STREAMING.values(), ids=STREAMING)
def test_a_stream_that_breaks_off(make: Callable[..., Any], case: Case, metered: Metered) -> None:
    def cut(sent: dict[str, Any]) -> wire.Answer:
        answer = case.endpoint.script(sent)
        answer.pieces = answer.pieces[:1]
        answer.fault = httpx.ReadError("lost")
        return answer

    untouched = run(uses.stream, make(Wire(cut)), case.endpoint)
    result = metered.run(uses.stream, make(Wire(cut)), case.endpoint)

    assert result.error is not None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.error is not None
    assert event.tags["estimated"] is True


@pytest.mark.parametrize(
    ("use", "pieces"),
    [
        (uses.plain, None),
        (uses.stream, None),
        (uses.stream, 1),
        (uses.stream_block, 1),
        (uses.stream_raw, 1),
        (uses.stream_bytes, 1),
    ],
)
@pytest.mark.parametrize("case", STREAMING.values(), ids=STREAMING)
def test_a_cancelled_task_is_billed_by_estimate(use: Use, pieces: int | None, case: Case, metered: Metered) -> None:
    stall = wire.Stall(case.endpoint.script, pieces)
    metered.cancel(use, Wire(stall.script).async_client(), case.endpoint, stall)

    event = metered.event()
    assert (event.endpoint, event.error, event.tags["estimated"]) == (case.endpoint.name, "CancelledError", True)
    assert event.input_tokens > 0


@pytest.mark.parametrize(("use", "pieces"), [(media.spoken, None), (media.spoken_raw, None), (media.spoken_stream, 1)])
@pytest.mark.parametrize("case", SPEECH.values(), ids=SPEECH)
def test_speech_whose_task_is_cancelled(use: Use, pieces: int | None, case: Case, metered: Metered) -> None:
    stall = wire.Stall(media.speech, pieces)
    metered.cancel(use, Wire(stall.script).async_client(), case.endpoint, stall)

    event = metered.event()
    assert event.error == "CancelledError"
    if pieces is None:
        assert event.tags["estimated"] is True
    else:
        assert event.character_count == case.event["character_count"]


def test_a_transcript_without_its_duration_is_warned_about_once(
    make: Callable[..., Any], metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    from token_limit_core.patches import audio

    audio._warn_untimed.cache_clear()
    endpoint = CASES["transcript as text"].endpoint
    with caplog.at_level(logging.WARNING, "token_limit"):
        for _ in range(2):
            metered.run(uses.plain, make(Wire(media.bare)), endpoint)

    assert [record.message for record in caplog.records if "verbose_json" in record.message] == [
        record.message for record in caplog.records if "duration" in record.message
    ]
    assert sum("verbose_json" in record.message for record in caplog.records) == 1
    assert [event.tags["duration_unavailable"] for event in metered.events] == [True, True]


@pytest.mark.parametrize("opened", [bytes, media.Recording])
def test_what_is_held_for_a_file_follows_its_length(
    make: Callable[..., Any], opened: Callable[[bytes], Any], metered: Metered
) -> None:
    held: list[int] = []
    file = opened(media.AUDIO)

    def look(sent: dict[str, Any]) -> wire.Answer:
        held.append(metered.meter.store.holds()[0].held)
        return media.transcript(sent)

    async def call(client: Any, endpoint: uses.Endpoint, seen: list[Any]) -> None:
        seen.append(await value(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", file))))

    metered.run(call, make(Wire(look)), CASES["transcript by tokens"].endpoint)

    tokens = len(media.AUDIO) // 1600
    assert 2_500 * tokens <= held[0] - 257 * 10_000 <= 2_500 * (tokens + 20)
