"""Streams that outgrow their hold raise it, renew it while they run, and are cut where the limit says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest

from tests.contract.sdk import anthropic_wire, gemini, wire
from tests.contract.sdk.anthropic_wire import AnthropicWire
from tests.contract.sdk.metered import TENANT
from tests.contract.sdk.uses import MESSAGES
from tests.contract.sdk.wire import MODEL, Answer, Wire, as_events
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, LLMEvent, Meter, MeterConfig
from token_limit_core.calls.growth import LONGEST_INTERVAL
from token_limit_core.testing import Clock

PIECES = 600
"""Pieces of each answer, of one token each: more than twice what the first estimate holds for."""

WORD = "word"


def chat(sent: dict[str, Any]) -> Answer:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunk = {**head, "choices": [{"index": 0, "delta": {"content": WORD}, "finish_reason": None}]}
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 5, "completion_tokens": PIECES, "total_tokens": PIECES + 5}
    return as_events([*[chunk] * PIECES, last, {**head, "choices": [], "usage": usage}])


def completions(sent: dict[str, Any]) -> Answer:
    head = {"id": "c1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct"}
    chunk = {**head, "choices": [{"index": 0, "text": WORD, "finish_reason": None, "logprobs": None}]}
    return as_events([chunk] * PIECES)


def responses(sent: dict[str, Any]) -> Answer:
    first = wire._response("in_progress")
    delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": WORD}
    events = [{"type": "response.created", "response": first}, *[delta] * PIECES]
    return as_events([{**event, "sequence_number": n} for n, event in enumerate(events)], end=b"")


def messages(sent: dict[str, Any]) -> Answer:
    usage = {"input_tokens": 5, "output_tokens": 1}
    message = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": anthropic_wire.MODEL}
    block = {"type": "text", "text": ""}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
    return as_events(
        [
            {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *[delta] * PIECES,
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": PIECES}},
            {"type": "message_stop"},
        ],
        end=b"",
    )


def content(sent: dict[str, Any]) -> Answer:
    parts = {"content": {"role": "model", "parts": [{"text": WORD}]}, "index": 0}
    return as_events([{"candidates": [parts], "modelVersion": gemini.MODEL}] * PIECES, end=b"")


@dataclass
class Way:
    """A streamed call: its patch, who answers, how it is made, and what its last chunk must say of its end."""

    patch: str
    wire: Callable[[], Any]
    call: Callable[[Any], Any]
    ended: Callable[[Any], object]
    end: object


WAYS = {
    "chat": Way(
        "openai", lambda: Wire(chat), lambda c: c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True),
        lambda chunk: (chunk.choices[0].finish_reason, chunk.choices[0].delta.content), ("length", None),
    ),
    "completions": Way(
        "openai", lambda: Wire(completions),
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="?", stream=True),
        lambda chunk: (chunk.choices[0].finish_reason, chunk.choices[0].text), ("length", ""),
    ),
    "responses": Way(
        "openai", lambda: Wire(responses), lambda c: c.responses.create(model=MODEL, input="?", stream=True),
        lambda event: (event.type, event.response.status, event.response.incomplete_details.reason),
        ("response.incomplete", "incomplete", "max_output_tokens"),
    ),
    "messages": Way(
        "anthropic", lambda: AnthropicWire(messages),
        lambda c: c.messages.create(model=anthropic_wire.MODEL, max_tokens=4096, messages=MESSAGES, stream=True),
        lambda event: event.type, "message_stop",
    ),
    "content": Way(
        "google", lambda: gemini.Wire(content),
        lambda c: c.models.generate_content_stream(model=gemini.MODEL, contents="?"),
        lambda chunk: (chunk.candidates[0].finish_reason.name, chunk.text), ("MAX_TOKENS", ""),
    ),
}  # fmt: skip


class Streams:
    """A Meter with a limit, and what became of its calls."""

    def __init__(self, patch: str, limit: Any, **config: Any) -> None:
        self.events: list[LLMEvent] = []
        self.meter = Meter(MeterConfig(**{"store": "memory://", "on_event": self.events.append, **config}))
        self.meter.set_limit(TENANT, **limit)
        self.meter.patch(patch)

    def read(self, stream: Any) -> Iterator[tuple[Any, int]]:
        """Read a stream; give each chunk with the tokens that are held by then."""
        for chunk in stream:
            assert self.meter.flush(PATIENCE)  # the hold is raised in another thread
            yield chunk, sum(hold.tokens for hold in self.meter.store.holds())


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_raises_its_hold_as_it_grows(way: str) -> None:
    made = WAYS[way]
    streams = Streams(made.patch, {"limit_usd": 1000})
    client = made.wire().client()
    with streams.meter, streams.meter.for_tenant(TENANT):
        held = [tokens for _, tokens in streams.read(made.call(client))]
    assert held[0] < PIECES // 2
    assert all(tokens >= seen - LONGEST_INTERVAL for seen, tokens in enumerate(held[:PIECES]))
    (event,) = streams.events
    assert "overrun" not in event.tags
    assert streams.meter.store.holds() == []


@pytest.mark.parametrize("raw", [False, True])
def test_an_asynchronous_stream_and_a_raw_one_do_the_same(raw: bool) -> None:
    streams = Streams("openai", {"limit_usd": 1000})
    held: list[int] = []

    async def main() -> None:
        async with Wire(chat).async_client() as client:
            made = client.chat.completions
            arguments: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "stream": True}
            if raw:
                async with made.with_streaming_response.create(**arguments) as response:
                    async for _ in response.iter_lines():
                        look()
            else:
                async for _ in await made.create(**arguments):
                    look()

    def look() -> None:
        assert streams.meter.flush(PATIENCE)
        held.append(sum(hold.tokens for hold in streams.meter.store.holds()))

    with streams.meter, streams.meter.for_tenant(TENANT):
        asyncio.run(main())
    assert held[0] < PIECES // 2
    assert max(held) >= PIECES


def test_a_stream_renews_its_hold_while_it_runs(token_limit_clock: Clock) -> None:
    streams = Streams("openai", {"limit_usd": 1000}, clock=token_limit_clock, hold_seconds=100)
    client = Wire(chat).client()
    with streams.meter, streams.meter.for_tenant(TENANT):
        for number, _ in enumerate(streams.read(WAYS["chat"].call(client))):
            if number < 500 and number % 100 == 99:
                token_limit_clock.advance(60)
            if number < PIECES:
                assert streams.meter.store.expire(token_limit_clock()) == 0
    (event,) = streams.events
    assert "estimated" not in event.tags


def test_a_stream_without_a_limit_asks_the_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams("openai", {"limit_usd": 1000})
    asked: list[str] = []
    store: Any = streams.meter.store
    plain = store.raise_hold
    monkeypatch.setattr(store, "raise_hold", lambda call_id, *rest: asked.append(call_id) or plain(call_id, *rest))
    with streams.meter, streams.meter.for_tenant("nobody"):
        for _ in streams.read(WAYS["chat"].call(Wire(chat).client())):
            pass
    assert len(asked) == 1


# -- a limit that is used up ------------------------------------------------------------------------

HALF = {"amount": PIECES // 2, "unit": "tokens"}


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_uses_the_limit_up_is_cut(way: str) -> None:
    made = WAYS[way]
    streams = Streams(made.patch, HALF, on_overrun="cut")
    wired = made.wire()
    client = wired.client()
    seen: list[Any] = []
    with streams.meter, streams.meter.for_tenant(TENANT):
        with pytest.raises(LimitExhausted) as caught:
            seen.extend(chunk for chunk, _ in streams.read(made.call(client)))
        seen = _again(streams, made, client, seen)
    assert caught.value.decision.unit == "tokens"
    # google-genai before 3 leaves the body of a stream that ends early to the garbage collector
    assert wired.bodies[0].closed or (made.patch == "google" and version("google-genai") < "3")
    first = streams.events[0]
    assert (first.error, first.tags["overrun"], first.tags["estimated"]) == ("LimitExhausted", True, True)
    assert PIECES // 4 < first.output_tokens < PIECES
    assert streams.meter.store.holds() == []
    assert streams.meter.status()["counts"]["cut"] == 1


def _again(streams: Streams, made: Way, client: Any, seen: list[Any]) -> list[Any]:
    """The next call is refused before anything is sent."""
    with pytest.raises(LimitExhausted):
        made.call(client) if made.patch != "google" else list(made.call(client))
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_a_cut_stream_is_that_of_a_bound(way: str) -> None:
    made = WAYS[way]
    streams = Streams(made.patch, HALF, on_overrun="cut")
    client = made.wire().client()
    last = None
    with streams.meter, streams.meter.for_tenant(TENANT), pytest.raises(LimitExhausted):
        for chunk, _ in streams.read(made.call(client)):
            last = chunk
    assert made.ended(last) == made.end


def test_the_helper_of_anthropic_gives_a_whole_message_of_a_cut_stream() -> None:
    streams = Streams("anthropic", HALF, on_overrun="cut")
    client = AnthropicWire(messages).client()
    arguments: dict[str, Any] = {"model": anthropic_wire.MODEL, "max_tokens": 4096, "messages": MESSAGES}
    with streams.meter, streams.meter.for_tenant(TENANT), client.messages.stream(**arguments) as stream:
        with pytest.raises(LimitExhausted):
            for _ in streams.read(stream):
                pass
        message = stream.current_message_snapshot
    assert message.stop_reason == "max_tokens"
    assert message.content[0].text.startswith(WORD)


def test_an_asynchronous_stream_is_cut() -> None:
    streams = Streams("openai", HALF, on_overrun="cut")
    wired = Wire(chat)
    ends: list[Any] = []

    async def main() -> None:
        async with wired.async_client() as client:
            async for chunk in await WAYS["chat"].call(client):
                assert streams.meter.flush(PATIENCE)
                ends.append(chunk.choices[0].finish_reason)

    with streams.meter, streams.meter.for_tenant(TENANT), pytest.raises(LimitExhausted):
        asyncio.run(main())
    assert ends[-1] == "length"
    assert len(ends) < PIECES
    assert wired.bodies[0].closed


def test_by_default_a_stream_finishes_and_says_that_it_used_the_limit_up() -> None:
    streams = Streams("openai", HALF)
    with streams.meter, streams.meter.for_tenant(TENANT):
        client = Wire(chat).client()
        seen = sum(bool(chunk.choices[0].delta.content) for chunk, _ in streams.read(WAYS["chat"].call(client)))
    assert seen == PIECES
    (event,) = streams.events
    assert event.tags["overrun"]
    assert event.error is None
    assert streams.meter.status()["counts"]["overruns"] == 1
