"""Google inside the process, and every way to call it with `google.genai`, on the Gemini API and on Vertex."""

from __future__ import annotations

import importlib
import json
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google import genai
from google.oauth2.credentials import Credentials

from tests.contract.sdk import wire
from tests.contract.sdk.uses import each, entered, first, value
from tests.contract.sdk.wire import Answer, as_events, as_json

_BASES = type(genai.Client(api_key="secret")._api_client._httpx_client).__mro__
httpx: Any = importlib.import_module(
    next(base.__module__ for base in _BASES if base.__name__ == "Client").split(".")[0]
)
"""The HTTP library that the installed SDK speaks by itself."""

MODEL = "gemini-2.5-flash"
RESPONSE_ID = "resp-42"
QUESTION = "What is forty plus two?"

PROMPT, TOOL_USE, CACHED, CANDIDATES, THOUGHTS = 100, 17, 64, 33, 12
USAGE = {
    "promptTokenCount": PROMPT,
    "toolUsePromptTokenCount": TOOL_USE,
    "cachedContentTokenCount": CACHED,
    "candidatesTokenCount": CANDIDATES,
    "thoughtsTokenCount": THOUGHTS,
    "totalTokenCount": PROMPT + TOOL_USE + CANDIDATES + THOUGHTS,
    "serviceTier": "standard",
}
INTERACTION_USAGE = {
    "total_input_tokens": PROMPT,
    "total_tool_use_tokens": TOOL_USE,
    "total_cached_tokens": CACHED,
    "total_output_tokens": CANDIDATES,
    "total_thought_tokens": THOUGHTS,
    "total_tokens": PROMPT + TOOL_USE + CANDIDATES + THOUGHTS,
}
WHOLE = {
    "input_tokens": PROMPT + TOOL_USE,
    "output_tokens": CANDIDATES + THOUGHTS,
    "total_tokens": PROMPT + TOOL_USE + CANDIDATES + THOUGHTS,
    "cached_tokens": CACHED,
    "reasoning_tokens": THOUGHTS,
}
"""What an event must say of `USAGE`."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Spares each client the loading of certificates, a tenth of a second."""


class Wire(wire.Wire, httpx.BaseTransport, httpx.AsyncBaseTransport):  # type: ignore[misc]
    """A wire that tells Google's SDK which HTTP library it is of, as that speaks two."""

    http = httpx

    def client(self, cls: Any = None, **options: Any) -> Any:
        """Make a synchronous client of the Gemini API."""
        return api_client(self, **options)

    def async_client(self, cls: Any = None, **options: Any) -> Any:
        """Make an asynchronous client of the Gemini API."""
        return api_client(self, **options).aio


def api_client(wired: Wire, **options: Any) -> genai.Client:
    """Make a client of the Gemini API on a wire."""
    return genai.Client(api_key="secret", http_options=_options(wired, options))


def vertex_client(wired: Wire, **options: Any) -> genai.Client:
    """Make a client of Vertex on a wire."""
    return genai.Client(
        vertexai=True,
        project="project-1",
        location="us-central1",
        credentials=Credentials("secret"),  # type: ignore[no-untyped-call]
        http_options=_options(wired, options),
    )


def _options(wired: Wire, options: dict[str, Any]) -> Any:
    transport = {"transport": wired, "verify": NO_TLS}
    return {"client_args": transport, "async_client_args": transport, "retry_options": {"attempts": 1}, **options}


# -- answers ----------------------------------------------------------------------------------------


def _candidates(part: dict[str, Any], **ends: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [part]}
    return {"candidates": [{"content": content, "index": 0, **ends}], "modelVersion": MODEL, "responseId": RESPONSE_ID}


def content(sent: dict[str, Any]) -> Answer:
    """Answer with content."""
    return as_json(_candidates({"text": wire.TEXT}, finishReason="STOP") | {"usageMetadata": USAGE})


def so_far(chunk: int) -> dict[str, int]:
    """Give the usage that a chunk tells: all so far; a prompt may shrink on the way, as recorded."""
    return {
        "promptTokenCount": PROMPT + 50 - 10 * chunk,
        "candidatesTokenCount": 2 * (chunk + 1),
        "thoughtsTokenCount": THOUGHTS,
        "totalTokenCount": PROMPT + 50 - 10 * chunk + 2 * (chunk + 1) + THOUGHTS,
    }


def chunks(sent: dict[str, Any]) -> Answer:
    """Answer with content, chunk by chunk."""
    told = [_candidates({"text": word}) | {"usageMetadata": so_far(n)} for n, word in enumerate(wire.WORDS)]
    return as_events([*told, _candidates({"text": "."}, finishReason="STOP") | {"usageMetadata": USAGE}], end=b"")


CALL = {"functionCall": {"name": "add", "args": {"left": 40, "right": 2}}}


def function_call(sent: dict[str, Any]) -> Answer:
    """Ask for a function to be called."""
    return as_json(_candidates(CALL, finishReason="STOP") | {"usageMetadata": so_far(0)})


def function_call_chunks(sent: dict[str, Any]) -> Answer:
    """Ask for a function to be called, in a stream."""
    return as_events([_candidates(CALL, finishReason="STOP") | {"usageMetadata": so_far(0)}], end=b"")


def embeddings(sent: dict[str, Any]) -> Answer:
    """Answer embeddings in the way of the path that was asked, which the body tells."""
    row = {"values": [0.25, -0.5]}
    if "instances" in sent:
        rows = [
            {"embeddings": {**row, "statistics": {"token_count": 4, "truncated": False}}} for _ in sent["instances"]
        ]
        return as_json({"predictions": rows, "metadata": {"billableCharacterCount": 12}})
    return as_json({"embeddings": [row for _ in sent["requests"]], "usageMetadata": {"promptTokenCount": 8}})


def images(sent: dict[str, Any]) -> Answer:
    """Answer two images, and one that was filtered out."""
    image = {"bytesBase64Encoded": "AAAA", "mimeType": "image/png"}
    return as_json({"predictions": [image, image, {"raiFilteredReason": "no"}]})


def interaction(sent: dict[str, Any]) -> Answer:
    """Answer an interaction, whole or in events."""
    whole = _interaction("completed", usage=INTERACTION_USAGE)
    if not sent.get("stream"):
        steps = [{"type": "model_output", "content": [{"type": "text", "text": wire.TEXT}]}]
        return as_json({**whole, "steps": steps})
    events: list[dict[str, Any]] = [
        {"event_type": "interaction.created", "interaction": _interaction("in_progress")},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        *({"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": word}} for word in wire.WORDS),
        {"event_type": "step.stop", "index": 0},
        {"event_type": "interaction.completed", "interaction": whole},
    ]
    pieces = [f"event: {event['event_type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    return Answer(200, [*pieces, b"event: done\ndata: [DONE]\n\n"], "text/event-stream")


def _interaction(status: str, **more: Any) -> dict[str, Any]:
    times = {"created": "2026-05-13T19:57:40Z", "updated": "2026-05-13T19:57:40Z"}
    return {"id": RESPONSE_ID, "object": "interaction", "model": MODEL, "status": status, **times, **more}


def error(status: int, name: str) -> wire.Script:
    """Answer with an HTTP error whose message must never be stored."""
    return lambda sent: as_json({"error": {"code": status, "message": "secret prompt", "status": name}}, status)


# -- the ways to call -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A way to call: who answers, and what the event of each request must say, beside what is `estimated`."""

    use: Callable[[Any, Any, list[Any]], Any]
    scripts: tuple[wire.Script, ...]
    events: tuple[dict[str, Any], ...] = (WHOLE,)
    endpoint: str = "generate_content"
    streams: bool = False
    model: str = MODEL
    request_id: str | None = RESPONSE_ID
    priced: dict[str, int] | None = field(default_factory=lambda: {"cache_read_tokens": CACHED})


def config() -> dict[str, Any]:
    return {"max_output_tokens": 400, "temperature": 0.5, "stop_sequences": ["stop"]}


async def plain(client: Any, way: Any, seen: list[Any]) -> None:
    given = config()
    seen.append(await value(client.models.generate_content(model=MODEL, contents=QUESTION, config=given)))
    assert given == config()


def opened(client: Any, model: str = MODEL) -> Any:
    return client.models.generate_content_stream(model=model, contents=QUESTION, config=config())


async def stream(client: Any, way: Any, seen: list[Any]) -> None:
    reading = await value(opened(client))
    seen.append(type(reading))
    seen += [chunk async for chunk in each(reading)]


async def chat(client: Any, way: Any, seen: list[Any]) -> None:
    talk = client.chats.create(model=MODEL)
    seen.append(await value(talk.send_message(QUESTION)))
    seen += talk.get_history()


async def chat_stream(client: Any, way: Any, seen: list[Any]) -> None:
    talk = client.chats.create(model=MODEL)
    reading = await value(talk.send_message_stream(QUESTION))
    seen.append(type(reading))
    seen += [chunk async for chunk in each(reading)]
    seen += talk.get_history()


def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


async def functions(client: Any, way: Any, seen: list[Any]) -> None:
    talk = client.chats.create(model=MODEL, config={"tools": [add]})
    seen.append(await value(talk.send_message(QUESTION)))


async def functions_stream(client: Any, way: Any, seen: list[Any]) -> None:
    talk = client.chats.create(model=MODEL, config={"tools": [add]})
    seen += [chunk async for chunk in each(await value(talk.send_message_stream(QUESTION)))]


async def embed(client: Any, way: Way, seen: list[Any]) -> None:
    seen.append(await value(client.models.embed_content(model=way.model, contents=["one", "two"])))


async def generate_images(client: Any, way: Way, seen: list[Any]) -> None:
    seen.append(await value(client.models.generate_images(model=way.model, prompt="A duck")))


IMAGE = {"image_bytes": b"\0", "mime_type": "image/png"}


async def edit_image(client: Any, way: Way, seen: list[Any]) -> None:
    reference = genai.types.RawReferenceImage(reference_id=1, reference_image=genai.types.Image(**IMAGE))
    edited = client.models.edit_image(model=way.model, prompt="A duck", reference_images=[reference])
    seen.append(await value(edited))


async def upscale_image(client: Any, way: Way, seen: list[Any]) -> None:
    image = genai.types.Image(**IMAGE)
    seen.append(await value(client.models.upscale_image(model=way.model, image=image, upscale_factor="x2")))


async def interact(client: Any, way: Any, seen: list[Any]) -> None:
    seen.append(await value(client.interactions.create(model=MODEL, input=QUESTION)))


async def interact_stream(client: Any, way: Any, seen: list[Any]) -> None:
    reading = await value(client.interactions.create(model=MODEL, input=QUESTION, stream=True))
    seen.append(type(reading))
    seen += [event async for event in each(reading)]


async def broken_off(client: Any, way: Any, seen: list[Any]) -> None:
    reading = await value(opened(client))
    seen += [await first(reading), await first(reading)]


async def loop_broken_off(client: Any, way: Any, seen: list[Any]) -> None:
    async for chunk in each(await value(opened(client))):
        seen.append(chunk)
        break


async def closed(client: Any, way: Any, seen: list[Any]) -> None:
    reading = await value(opened(client))
    seen.append(await first(reading))
    await value(reading.aclose() if hasattr(reading, "aclose") else reading.close())
    seen += [chunk async for chunk in each(reading)]


async def chat_broken_off(client: Any, way: Any, seen: list[Any]) -> None:
    reading = await value(client.chats.create(model=MODEL).send_message_stream(QUESTION))
    seen.append(await first(reading))


async def never_iterated(client: Any, way: Any, seen: list[Any]) -> None:
    await value(opened(client))


async def interact_broken_off(client: Any, way: Any, seen: list[Any]) -> None:
    reading = await value(client.interactions.create(model=MODEL, input=QUESTION, stream=True))
    seen.append(await first(reading))


async def interact_block(client: Any, way: Any, seen: list[Any]) -> None:
    async with entered(await value(client.interactions.create(model=MODEL, input=QUESTION, stream=True))) as reading:
        seen.append(await first(reading))


IMAGEN = "imagen-4.0-generate-001"
HAS_INTERACTIONS = hasattr(genai.Client, "interactions")
if HAS_INTERACTIONS:
    with warnings.catch_warnings(action="ignore"):
        assert genai.Client(api_key="secret").interactions  # loaded now, for a collector that need not look at it again
HOP = {"input_tokens": 150, "output_tokens": 2 + THOUGHTS, "total_tokens": 152 + THOUGHTS, "reasoning_tokens": THOUGHTS}

CONTENT = (
    Way(plain, (content,)),
    Way(stream, (chunks,), streams=True),
    Way(chat, (content,)),
    Way(chat_stream, (chunks,), streams=True),
    Way(functions, (function_call, content), (HOP, WHOLE)),
    Way(functions_stream, (function_call_chunks, chunks), (HOP, WHOLE), streams=True),
)
EMBEDDED: dict[str, Any] = {"endpoint": "embed_content", "request_id": None, "priced": {}}
EMBED = Way(embed, (embeddings,), ({"input_tokens": 8, "output_tokens": 0},), model="gemini-embedding-001", **EMBEDDED)
PAINTED: dict[str, Any] = {"endpoint": "generate_images", "request_id": None, "priced": None, "model": IMAGEN}
IMAGES = tuple(
    Way(use, (images,), ({"image_count": 2, "input_tokens": 0, "output_tokens": 0},), **PAINTED)
    for use in (generate_images, edit_image, upscale_image)
)
INTERACTIONS = (
    Way(interact, (interaction,), endpoint="interactions"),
    Way(interact_stream, (interaction,), endpoint="interactions", streams=True),
)
