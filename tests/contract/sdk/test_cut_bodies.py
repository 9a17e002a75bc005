"""Streams of Mistral and Cohere, whose SDKs read them from a raw body, are cut where the limit says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import cohere
import httpx
import pytest
from mistralai.client import Mistral

from tests.contract.sdk.metered import TENANT
from tests.contract.sdk.wire import Answer, Wire, as_event
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, LLMEvent, Meter, MeterConfig

pytestmark = pytest.mark.filterwarnings(  # its clients leave their sockets open
    "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

PIECES, WORD = 600, "word"
HALF: dict[str, Any] = {"amount": PIECES // 2, "unit": "tokens"}
MESSAGES: Any = [{"role": "user", "content": "?"}]


class PlainWire(Wire):
    """A wire that plain httpx speaks."""

    http = httpx  # type: ignore[misc]


def in_halves(pieces: list[bytes]) -> list[bytes]:
    """Split each piece, so that a look at the stream may come in the middle of an event."""
    return [half for piece in pieces for half in (piece[: len(piece) // 2], piece[len(piece) // 2 :])]


def chunks(sent: dict[str, Any]) -> Answer:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "mistral-small-2506"}
    chunk = {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": WORD}, "finish_reason": None}]}
    return Answer(200, in_halves([as_event(chunk)] * PIECES), "text/event-stream")


def events(sent: dict[str, Any]) -> Answer:
    delta = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": WORD}}}}
    rows: list[dict[str, Any]] = [
        {"type": "message-start", "id": "req-42", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        *[delta] * PIECES,
    ]
    return Answer(200, in_halves(list(map(as_event, rows))), "text/event-stream")


def lines(sent: dict[str, Any]) -> Answer:
    rows: list[dict[str, Any]] = [{"event_type": "stream-start", "generation_id": "req-42", "is_finished": False}]
    rows += [{"event_type": "text-generation", "text": WORD, "is_finished": False}] * PIECES
    return Answer(200, in_halves([json.dumps(row).encode() + b"\n" for row in rows]), "application/stream+json")


class Way(NamedTuple):
    """A streamed call of an SDK, by a synchronous client or not, and what its last chunks must say of its end."""

    patch: str
    script: Callable[[dict[str, Any]], Answer]
    client: Callable[[Any, bool], Any]
    call: Callable[[Any, bool], Any]
    ended: Callable[[list[Any]], object]
    end: object


def mistral(http: Any, asynchronous: bool) -> Any:
    return Mistral(api_key="secret", **{"async_client" if asynchronous else "client": http})


def cohere_of(sync: Any, other: Any) -> Callable[[Any, bool], Any]:
    return lambda http, asynchronous: (other if asynchronous else sync)(api_key="secret", httpx_client=http)


WAYS = {
    "mistral": Way(
        "mistral", chunks, mistral,
        lambda client, asynchronous: getattr(client.chat, "stream_async" if asynchronous else "stream")(
            model="mistral-small-latest", messages=MESSAGES
        ),
        lambda seen: seen[-1].data.choices[0].finish_reason, "length",
    ),
    "cohere 2": Way(
        "cohere", events, cohere_of(cohere.ClientV2, cohere.AsyncClientV2),
        lambda client, asynchronous: client.chat_stream(model="command-a-03-2025", messages=MESSAGES),
        lambda seen: (seen[-2].type, seen[-1].type, seen[-1].delta.finish_reason),
        ("content-end", "message-end", "MAX_TOKENS"),
    ),
    "cohere 1": Way(
        "cohere", lines, cohere_of(cohere.Client, cohere.AsyncClient),
        lambda client, asynchronous: client.chat_stream(model="command-a-03-2025", message="?"),
        lambda seen: (seen[-1].event_type, seen[-1].finish_reason), ("stream-end", "MAX_TOKENS"),
    ),
}  # fmt: skip


async def read(made: Way, wired: Wire, asynchronous: bool, meter: Meter, seen: list[Any]) -> None:
    """Read a stream; each hold that is to be raised is raised before the next chunk is read."""
    transport: Any = wired
    http: Any = httpx.AsyncClient(transport=transport) if asynchronous else httpx.Client(transport=transport)
    stream = made.call(made.client(http, asynchronous), asynchronous)
    if not asynchronous:
        for chunk in stream:
            seen.append(chunk)
            assert meter.flush(PATIENCE)
        return
    async for chunk in await stream if asyncio.iscoroutine(stream) else stream:
        seen.append(chunk)
        assert meter.flush(PATIENCE)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_uses_the_limit_up_is_cut_as_by_a_bound(way: str, asynchronous: bool) -> None:
    made, wired, told, seen = WAYS[way], PlainWire(WAYS[way].script), list[LLMEvent](), list[Any]()
    meter = Meter(MeterConfig(store="memory://", on_event=told.append, on_overrun="cut")).patch(made.patch)
    with meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, **HALF)
        with pytest.raises(LimitExhausted):
            asyncio.run(read(made, wired, asynchronous, meter, seen))
        assert made.ended(seen) == made.end
        assert PIECES // 4 < len(seen) < PIECES
        assert wired.bodies[0].closed
        assert meter.store.holds() == []
        assert meter.status()["counts"]["cut"] == 1
        with pytest.raises(LimitExhausted):
            asyncio.run(read(made, wired, asynchronous, meter, []))
    assert len(wired.sent) == 1
    assert (told[0].error, told[0].tags["overrun"], told[0].tags["estimated"]) == ("LimitExhausted", True, True)


@pytest.mark.parametrize("way", WAYS)
def test_by_default_it_goes_on_to_its_end(way: str) -> None:
    made, told, seen = WAYS[way], list[LLMEvent](), list[Any]()
    meter = Meter(MeterConfig(store="memory://", on_event=told.append)).patch(made.patch)
    with meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, **HALF)
        asyncio.run(read(made, PlainWire(made.script), False, meter, seen))
    assert len(seen) >= PIECES
    assert told[0].tags["overrun"] is True
