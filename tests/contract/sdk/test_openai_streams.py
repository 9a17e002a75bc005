"""Usage of streams: asked for where that is safe, hidden from a caller that did not ask, in objects and in bytes."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import ALL, CHAT, COMPLETIONS, RESPONSES, Endpoint, Use, each, value
from tests.contract.sdk.wire import Answer, Wire

ASKED = {"include_usage": True}
COUNTED = [pytest.param(endpoint, id=endpoint.name) for endpoint in (CHAT, COMPLETIONS)]


def streaming(**arguments: Any) -> Use:
    """Make a use that streams with more arguments."""

    async def stream(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        opened = await value(endpoint.create(client, stream=True, **arguments))
        seen += [chunk async for chunk in each(opened)]

    return stream


def reading(**arguments: Any) -> Use:
    """Make a use that reads a stream as bytes."""

    async def read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        async with uses.entered(endpoint.create(client, "with_streaming_response", stream=True, **arguments)) as raw:
            seen.append(b"".join([data async for data in each(raw.iter_bytes())]))

    return read


@pytest.mark.parametrize("endpoint", COUNTED)
def test_usage_is_asked_for(make: Callable[..., Any], endpoint: Endpoint, metered: Metered) -> None:
    wired = Wire(endpoint.script)
    metered.run(uses.stream, make(wired), endpoint)

    assert wired.sent == [{**endpoint.arguments, "stream": True, "stream_options": ASKED}]


@pytest.mark.parametrize(("use", "endpoint"), [*((uses.plain, endpoint) for endpoint in ALL), (uses.stream, RESPONSES)])
def test_nothing_is_added_to_other_requests(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, metered: Metered
) -> None:
    before, wired = Wire(endpoint.script), Wire(endpoint.script)
    run(use, make(before), endpoint)
    metered.run(use, make(wired), endpoint)

    assert wired.sent == before.sent


@pytest.mark.parametrize("endpoint", COUNTED)
@pytest.mark.parametrize("through", ["stream_options", "extra_body"])
def test_a_caller_that_asks_for_usage_gets_it(
    make: Callable[..., Any], endpoint: Endpoint, through: str, metered: Metered
) -> None:
    asking = {"stream_options": ASKED} if through == "stream_options" else {"extra_body": {"stream_options": ASKED}}
    untouched = run(streaming(**asking), make(Wire(endpoint.script)), endpoint)
    wired = Wire(endpoint.script)
    result = metered.run(streaming(**asking), make(wired), endpoint)

    assert result.seen[-1].choices == []
    assert result.seen[-1].usage.prompt_tokens == wire.INPUT
    assert result.seen == untouched.seen
    assert wired.sent[0]["stream_options"] == ASKED
    assert metered.event().input_tokens == wire.INPUT


@pytest.mark.parametrize("through", ["stream_options", "extra_body"])
def test_a_caller_that_declines_usage_is_billed_by_estimate(
    make: Callable[..., Any], through: str, metered: Metered
) -> None:
    no = {"include_usage": False}
    declining = {"stream_options": no} if through == "stream_options" else {"extra_body": {"stream_options": no}}
    untouched = run(streaming(**declining), make(Wire(wire.chat)), CHAT)
    wired = Wire(wire.chat)
    result = metered.run(streaming(**declining), make(wired), CHAT)

    assert result.seen == untouched.seen
    assert wired.sent[0]["stream_options"] == no
    event = metered.event()
    assert event.tags["estimated"] is True
    assert event.output_tokens == len(wire.WORDS) + 1


@pytest.mark.parametrize("letters", [4, 40])
def test_the_output_of_a_long_stream_is_estimated_from_its_letters(
    make: Callable[..., Any], letters: int, metered: Metered
) -> None:
    def script(sent: dict[str, Any]) -> Answer:
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": wire.ANSWERED}
        words = ["", *["x" * letters] * 1000]
        return wire.as_events([head | {"choices": [{"index": 0, "delta": {"content": word}}]} for word in words])

    result = metered.run(streaming(stream_options={"include_usage": False}), make(Wire(script)), CHAT)

    assert len(result.seen) == 1001
    assert metered.event().output_tokens == pytest.approx(letters * 1000 / 4, rel=0.01)


@pytest.mark.parametrize("through", ["stream_options", "extra_body"])
def test_other_stream_options_are_kept_and_the_callers_dicts_untouched(
    make: Callable[..., Any], through: str, metered: Metered
) -> None:
    mine = {"include_obfuscation": False}
    given: dict[str, Any] = (
        {"stream_options": mine} if through == "stream_options" else {"extra_body": {"stream_options": mine}}
    )
    wired = Wire(wire.chat)
    metered.run(streaming(**given), make(wired), CHAT)

    assert wired.sent[0]["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert mine == {"include_obfuscation": False}
    assert given in ({"stream_options": mine}, {"extra_body": {"stream_options": mine}})
    assert "estimated" not in metered.event().tags


def test_a_body_posted_by_hand_is_not_changed(make: Callable[..., Any], metered: Metered) -> None:
    body = {**CHAT.arguments, "stream": True}
    original = json.dumps(body)

    async def post(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        cls = openai.AsyncStream if isinstance(client, openai.AsyncOpenAI) else openai.Stream
        stream_cls = cls[openai.types.chat.ChatCompletionChunk]
        opened = client.post("/chat/completions?v=2", body=body, cast_to=object, stream=True, stream_cls=stream_cls)
        seen += [chunk async for chunk in each(await value(opened))]

    untouched = run(post, make(Wire(wire.chat)), CHAT)
    result = metered.run(post, make(Wire(wire.chat)), CHAT)

    assert result.comparable() == untouched.comparable()
    assert json.dumps(body) == original
    assert metered.event().input_tokens == wire.INPUT


def test_what_extra_body_says_of_model_and_bound_counts(make: Callable[..., Any], metered: Metered) -> None:
    held: list[int | None] = []

    def look(sent: dict[str, Any]) -> Answer:
        held.append(metered.meter.store.holds()[0].amount)
        return wire.chat(sent)

    client = make(Wire(look))
    metered.run(streaming(max_tokens=4000, extra_body={"max_tokens": 1, "model": "gpt-4o"}), client, CHAT)

    assert metered.event().tags["requested_model"] == "gpt-4o"
    per_input, per_output = 2_500, 10_000  # nano-dollars, gpt-4o
    assert held[0] is not None
    assert (held[0] - per_output) % per_input == 0
    assert 0 < held[0] < per_output + 20 * per_input


# -- providers that report usage only when asked -----------------------------------------------------

ONLY_WHEN_ASKED = {
    "https://api.moonshot.ai/v1": "moonshotai",
    "https://dashscope-intl.aliyuncs.com/compatible-mode/v1": "alibaba",
    "https://generativelanguage.googleapis.com/v1beta/openai": "google",
    "https://api.z.ai/api/paas/v4": "zai",
    "https://api.cerebras.ai/v1": "cerebras",
    "https://api.fireworks.ai/inference/v1": "fireworks",
    "https://api.mistral.ai/v1": "mistral",
    "https://api.together.xyz/v1": "together",
    "https://api.sambanova.ai/v1": "sambanova",
    "https://router.huggingface.co/v1": "huggingface",
    "https://models.github.ai/inference": "github",
    "https://ai-gateway.vercel.sh/v1": "vercel",
    "https://api.perplexity.ai": "perplexity",
    "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1": "aws",
    "http://localhost:8000/v1": "unknown",
}


def in_the_last_choice(sent: dict[str, Any]) -> Answer:
    """Report usage as Moonshot does: in the choice of the last chunk."""
    chunks = [json.loads(piece[6:]) for piece in wire.chat({"stream": True}).pieces[:-1]]
    if (sent.get("stream_options") or {}).get("include_usage"):
        chunks[-1]["choices"][0]["usage"] = wire.CHAT_USAGE
    return wire.as_events(chunks)


@pytest.mark.parametrize("script", [wire.chat, in_the_last_choice], ids=["own chunk", "last choice"])
@pytest.mark.parametrize("use", [uses.stream, uses.stream_bytes, uses.stream_undecoded])
@pytest.mark.parametrize(("base_url", "provider"), ONLY_WHEN_ASKED.items(), ids=ONLY_WHEN_ASKED.values())
def test_a_provider_is_asked_for_the_usage_of_a_stream(
    make: Callable[..., Any], base_url: str, provider: str, use: Use, script: wire.Script, metered: Metered
) -> None:
    untouched = run(use, make(Wire(script), base_url=base_url), CHAT)
    wired = Wire(script)
    result = metered.run(use, make(wired, base_url=base_url), CHAT)

    assert wired.sent[0]["stream_options"] == ASKED
    if script is wire.chat:
        assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.provider, event.input_tokens, event.tags.get("estimated")) == (provider, wire.INPUT, None)
    assert event.output_tokens >= wire.OUTPUT


# -- gateways that do not take it -------------------------------------------------------------------


NAMED = {"error": {"message": "Unknown parameter: 'stream_options'.", "code": None}}
EXTRA = {
    "error": {
        "code": "invalid_parameters",
        "message": "Invalid input",
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        ],
    }
}
"""Azure's answer for a Mistral model: the name is in the body, and not in the message."""

DETAIL = {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"], "msg": "Extra"}]}
UNNAMED = {"error": {"message": "Bad request", "code": None}}


def refusing(document: dict[str, Any], status: int) -> wire.Script:
    """Refuse what asks for usage."""
    return lambda sent: wire.as_json(document, status) if "stream_options" in sent else wire.chat(sent)


picky = refusing(NAMED, 400)

AZURE = "https://acme.services.ai.azure.com/models"
REFUSALS = [
    pytest.param("https://api.openai.com/v1", NAMED, 400, id="named"),
    pytest.param("https://api.openai.com/v1", NAMED, 422, id="named, 422"),
    pytest.param(AZURE, EXTRA, 422, id="azure"),
    pytest.param(AZURE, EXTRA, 400, id="azure, 400"),
    pytest.param("https://adb-1.azuredatabricks.net/v1", DETAIL, 422, id="detail"),
    pytest.param("http://gateway.internal/v1", UNNAMED, 400, id="own gateway, unnamed"),
]


@pytest.mark.parametrize(("base_url", "document", "status"), REFUSALS)
@pytest.mark.parametrize("use", [uses.stream, uses.stream_streaming, uses.stream_raw])
def test_a_refusal_of_stream_options_is_tried_once_without_and_remembered(
    make: Callable[..., Any], use: Use, base_url: str, document: dict[str, Any], status: int, metered: Metered
) -> None:
    script = refusing(document, status)
    untouched = run(use, make(Wire(script), base_url=base_url), CHAT)
    wired = Wire(script)
    results = [metered.run(use, make(wired, base_url=base_url), CHAT) for _ in range(2)]

    assert [result.comparable() for result in results] == [untouched.comparable()] * 2
    assert [sent.get("stream_options") for sent in wired.sent] == [ASKED, None, None]
    for event in metered.settled(2):
        assert event.error is None
        assert event.tags["estimated"] is True


def test_a_refusal_for_one_model_is_none_for_another_on_its_host(make: Callable[..., Any], metered: Metered) -> None:
    def one_of_two(sent: dict[str, Any]) -> Answer:
        return refusing(EXTRA, 422)(sent) if sent["model"] == "mistral-large" else wire.chat(sent)

    wired = Wire(one_of_two)
    for model in ("mistral-large", "gpt-4o-mini"):
        asked = dataclasses.replace(CHAT, arguments={**CHAT.arguments, "model": model})
        metered.run(uses.stream, make(wired, base_url=AZURE), asked)
    assert ["stream_options" in sent for sent in wired.sent] == [True, False, True]
    assert [event.tags.get("estimated") for event in metered.settled(2)] == [True, None]


def test_a_400_that_stays_is_the_callers(make: Callable[..., Any], metered: Metered) -> None:
    def refuse(sent: dict[str, Any]) -> Answer:
        return wire.as_json({"error": {"message": "bad stream_options or model", "code": "bad"}}, 400)

    untouched = run(uses.stream, make(Wire(refuse)), CHAT)
    wired = Wire(refuse)
    result = metered.run(uses.stream, make(wired), CHAT)

    assert result.comparable() == untouched.comparable()
    assert len(wired.sent) == 2
    assert (metered.event().error, metered.event().cost_usd) == ("BadRequestError 400 bad", 0)


def test_another_400_is_not_tried_again(make: Callable[..., Any], metered: Metered) -> None:
    wired = Wire(wire.error(400))
    metered.run(uses.stream, make(wired), CHAT)

    assert len(wired.sent) == 1
    assert metered.event().error == "BadRequestError 400 some_code"


def test_a_callers_own_stream_options_are_never_taken_away(make: Callable[..., Any], metered: Metered) -> None:
    wired = Wire(picky)
    result = metered.run(streaming(stream_options=ASKED), make(wired), CHAT)

    assert isinstance(result.error, openai.BadRequestError)
    assert len(wired.sent) == 1


# -- bytes ------------------------------------------------------------------------------------------


def cut(answer: Answer, size: int) -> Answer:
    body = answer.content
    answer.pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return answer


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("endpoint", COUNTED)
def test_raw_bytes_lack_the_usage_event_and_nothing_else(
    make: Callable[..., Any], endpoint: Endpoint, size: int, line_end: bytes, metered: Metered
) -> None:
    expected: list[bytes] = []

    def script(sent: dict[str, Any]) -> Answer:
        answer = endpoint.script(sent)
        answer.pieces = [piece.replace(b"\n", line_end) for piece in [b": ping\n\n", *answer.pieces]]
        expected.append(b"".join(answer.pieces[:-2] + answer.pieces[-1:]))
        return cut(answer, size)

    result = metered.run(reading(), make(Wire(script)), endpoint)

    assert result.error is None
    assert result.seen == expected
    assert metered.event().input_tokens == wire.INPUT


def test_raw_bytes_of_a_body_that_just_stops_are_all_there(make: Callable[..., Any], metered: Metered) -> None:
    def script(sent: dict[str, Any]) -> Answer:
        answer = wire.chat(sent)
        return Answer(200, [*answer.pieces[:3], b'data: {"id": "cmpl-1", "cho'], answer.content_type)

    untouched = run(reading(stream_options=ASKED), make(Wire(script)), CHAT)
    result = metered.run(reading(), make(Wire(script)), CHAT)

    assert result.seen == untouched.seen
    assert metered.event().tags["estimated"] is True


def test_raw_bytes_of_a_caller_that_asks_are_passed_on_as_they_come(make: Callable[..., Any], metered: Metered) -> None:
    async def pieces(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        opened = endpoint.create(client, "with_streaming_response", stream=True, stream_options=ASKED)
        async with uses.entered(opened) as raw:
            seen += [data async for data in each(raw.iter_bytes())]

    def script(sent: dict[str, Any]) -> Answer:
        return cut(wire.chat(sent), 11)

    untouched = run(pieces, make(Wire(script)), CHAT)
    result = metered.run(pieces, make(Wire(script)), CHAT)

    assert result.seen == untouched.seen
    assert metered.event().input_tokens == wire.INPUT


# -- what other providers put into a stream ---------------------------------------------------------


def test_the_last_usage_counts_and_only_the_added_chunk_is_hidden(make: Callable[..., Any], metered: Metered) -> None:
    def growing(sent: dict[str, Any]) -> Answer:
        answer = wire.chat({"stream": True})
        chunks = [json.loads(piece[6:]) for piece in answer.pieces[:-1]]
        for number, chunk in enumerate(chunks):
            chunk["usage"] = {"prompt_tokens": 5, "completion_tokens": number, "total_tokens": 5 + number}
        filtered = {**chunks[0], "choices": [], "usage": None, "prompt_filter_results": []}
        return wire.as_events([filtered, *chunks, {**chunks[-1], "choices": [], "usage": wire.CHAT_USAGE}])

    result = metered.run(uses.stream, make(Wire(growing)), CHAT)

    chunks = result.seen[2:]
    assert [len(chunk.choices) for chunk in chunks] == [0, *[1] * (len(wire.WORDS) + 2)]
    assert (metered.event().input_tokens, metered.event().output_tokens) == (wire.INPUT, wire.OUTPUT)


def test_a_stream_handed_to_a_generator_keeps_its_tenant(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.patch("openai")

    async def words(client: Any) -> AsyncIterator[str]:
        opened = await value(CHAT.create(client, stream=True))
        async for chunk in each(opened):
            yield chunk.choices[0].delta.content or ""

    async def use(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        told = words(client)
        first = await anext(told)
        with metered.meter.for_tenant("somebody else"):
            seen.append(first + "".join([word async for word in told]))

    result = metered.run(use, make(Wire(wire.chat)), CHAT)

    assert result.seen == [wire.TEXT]
    assert metered.event().tenant_id == TENANT


@pytest.mark.parametrize("broken", [False, True])
def test_an_encoded_body_that_is_read_undecoded_is_passed_on_as_it_is(
    make: Callable[..., Any],
    broken: bool,
    metered: Metered,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bodies: list[bytes] = []

    def encoded(sent: dict[str, Any]) -> Answer:
        answer = CHAT.script(sent)
        bodies.append(b"no gzip" if broken else gzip.compress(b"".join(answer.pieces)))
        answer.pieces = [bodies[-1][at : at + 50] for at in range(0, len(bodies[-1]), 50)]
        answer.headers["content-encoding"] = "gzip"
        return answer

    async def read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        async with uses.entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
            body = response.http_response
            raw = body.iter_raw() if isinstance(client, openai.OpenAI) else body.aiter_raw()
            seen.append(b"".join([data async for data in uses.each(raw)]))

    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in production
    assert metered.run(read, make(Wire(encoded)), CHAT).seen == bodies
    if broken:
        assert "decoding a raw body" in caplog.text
        assert metered.event().tags["estimated"] is True
        return
    event = metered.event()
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, wire.OUTPUT)
    assert "estimated" not in event.tags
