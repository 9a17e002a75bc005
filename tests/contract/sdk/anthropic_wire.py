"""Anthropic inside the process: its answers to a script, and the ways of its SDK that OpenAI's has not."""

from __future__ import annotations

import importlib
from typing import Any

import anthropic
import pydantic

from tests.contract.sdk import uses
from tests.contract.sdk.uses import Endpoint, Use, each, entered, first, value
from tests.contract.sdk.wire import Answer, Script, Wire, as_events, as_json

httpx: Any = importlib.import_module("httpx2" if int(anthropic.__version__.split(".")[0]) >= 1 else "httpx")
"""The HTTP library that the installed SDK speaks."""

MODEL = "claude-sonnet-4-6"
ANSWERED = "claude-sonnet-4-6-20260101"
INPUT, CACHED, WRITTEN, WRITTEN_1H, OUTPUT, THINKING = 117, 64, 48, 16, 33, 12
TOTAL = INPUT + CACHED + WRITTEN + OUTPUT

USAGE = {
    "input_tokens": INPUT,
    "cache_read_input_tokens": CACHED,
    "cache_creation_input_tokens": WRITTEN,
    "cache_creation": {"ephemeral_5m_input_tokens": WRITTEN - WRITTEN_1H, "ephemeral_1h_input_tokens": WRITTEN_1H},
    "output_tokens": OUTPUT,
    "output_tokens_details": {"thinking_tokens": THINKING},
    "service_tier": "standard",
    "inference_geo": "global",
}
STARTED = {name: told for name, told in USAGE.items() if name != "output_tokens_details"} | {"output_tokens": 3}
"""What a stream tells at its start."""

DELTA = {"output_tokens": OUTPUT, "output_tokens_details": {"thinking_tokens": THINKING}}
"""What it tells at its end, in the older form without the input."""

WORDS = ['{"answer"', ": ", '"forty', '-two"', "}"]
TEXT = "".join(WORDS)


class AnthropicWire(Wire):
    """Answers Anthropic's clients."""

    sdk = anthropic
    http = httpx
    clients = ("Anthropic", "AsyncAnthropic")
    request_id_header = "request-id"


def message(usage: dict[str, Any] = USAGE, **fields: Any) -> dict[str, Any]:
    """Write a message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": ANSWERED,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
        **fields,
    }


def events(started: dict[str, Any] = STARTED, delta: dict[str, Any] = DELTA, **fields: Any) -> list[dict[str, Any]]:
    """Write the events of a streamed message."""
    start = message(started, **{"content": [], "stop_reason": None, **fields})
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": delta},
        {"type": "message_stop"},
    ]


def messages(sent: dict[str, Any]) -> Answer:
    """Answer a message, streamed or not."""
    return as_events(events(), end=b"") if sent.get("stream") else as_json(message())


def using(usage: dict[str, Any], **fields: Any) -> Script:
    """Answer a message with this usage; a stream tells it at its end."""

    def script(sent: dict[str, Any]) -> Answer:
        if sent.get("stream"):
            return as_events(events(delta=usage, **fields), end=b"")
        return as_json(message({**USAGE, **usage}, **fields))

    return script


def error(status: int, kind: str) -> Script:
    """Answer with an HTTP error whose message must never be stored."""
    return lambda sent: as_json({"type": "error", "error": {"type": kind, "message": "secret prompt echoed"}}, status)


def breaking_off(*shown: int, kind: str = "overloaded_error") -> Script:
    """Answer with the first events of a stream and then an error event."""
    bad = {"type": "error", "error": {"type": kind, "message": "secret prompt echoed"}}
    return lambda sent: as_events([*events()[slice(*shown)], bad], end=b"")


class Parsed(pydantic.BaseModel):
    answer: str


ARGUMENTS = {"model": MODEL, "max_tokens": 100, "messages": uses.MESSAGES}


class MessagesEndpoint(Endpoint):
    """Messages, and their beta."""

    @property
    def path(self) -> str:
        return "/v1/messages" + ("?beta=true" if self.name.startswith("beta") else "")


def endpoint(name: str) -> Endpoint:
    return MessagesEndpoint(
        name,
        messages,
        ARGUMENTS,
        answered=ANSWERED,
        output=OUTPUT,
        cached=CACHED,
        reasoning=THINKING,
        parsing={"output_format": Parsed},
        final="get_final_message",
    )


MESSAGES, BETA = endpoint("messages"), endpoint("beta.messages")
ALL = (MESSAGES, BETA)


# -- ways to call that only this SDK has -------------------------------------------------------------


def opened(client: Any, at: Endpoint) -> Any:
    """Open the stream helper without a schema."""
    return at.resource(client).stream(**at.arguments)


async def helper_plain(client: Any, at: Endpoint, seen: list[Any]) -> None:
    async with entered(opened(client, at)) as stream:
        seen += [event async for event in each(stream)]


async def helper_text(client: Any, at: Endpoint, seen: list[Any]) -> None:
    async with entered(opened(client, at)) as stream:
        seen += [text async for text in each(stream.text_stream)]
        seen.append(await value(stream.get_final_message()))


async def helper_final(client: Any, at: Endpoint, seen: list[Any]) -> None:
    async with entered(opened(client, at)) as stream:
        seen += [await value(stream.get_final_text()), stream.request_id]


async def helper_until_done(client: Any, at: Endpoint, seen: list[Any]) -> None:
    async with entered(opened(client, at)) as stream:
        await value(stream.until_done())
        seen.append(stream.current_message_snapshot)


async def helper_closed(client: Any, at: Endpoint, seen: list[Any]) -> None:
    async with entered(opened(client, at)) as stream:
        seen.append(await first(stream))
        await value(stream.close())


async def helper_text_broken_off(client: Any, at: Endpoint, seen: list[Any]) -> None:
    async with entered(opened(client, at)) as stream:
        seen.append(await first(stream.text_stream))


HELPERS: tuple[Use, ...] = (helper_plain, helper_text, helper_final, helper_until_done)
