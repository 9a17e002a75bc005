"""SDKs with funnels of their own, over a real socket: who answers, how each is called, what its event must say."""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its list of prices is fetched otherwise

import boto3
import cohere
import litellm
from botocore.config import Config
from mistralai.client import Mistral

from token_limit_core.testing.server import Exchange, Server

QUESTION = "What is forty plus two?"
ANSWER = ["Forty-two", " is", " the answer."]
INPUT, OUTPUT, CACHED, WRITTEN = 120, 40, 64, 16

litellm.suppress_debug_info = True


class Maker:
    """A provider of everything on loopback: `status` refuses, `cut` hangs up in the middle of each stream."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.status = 200
        self.cut = False
        self.server = Server(0, self.answer).start()
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"

    def say(self, document: Any, content_type: str = "application/json", body: bytes | None = None) -> None:
        """Answer everything with a document, or with a body of another type."""

        def serve(exchange: Exchange) -> None:
            self.requests.append((exchange.route, exchange.body))
            data = json.dumps(document).encode() if body is None else body
            exchange.send_body(200, data, {**HEADERS, "content-type": content_type})

        self.server.serve = serve

    def answer(self, exchange: Exchange) -> None:
        path = exchange.route
        self.requests.append((path, exchange.body))
        if self.status != 200:
            headers = {"x-amzn-errortype": "ThrottlingException"}
            exchange.send_json(self.status, {"message": "secret " + QUESTION, "error": {"message": "secret"}}, headers)
            return
        streams, document, pieces = next(answers(path, exchange.body))
        if not streams:
            exchange.send_json(200, document, HEADERS)
            return
        exchange._start(200, {"transfer-encoding": "chunked", **HEADERS, **document})
        for number, piece in enumerate(pieces):
            if self.cut and number == 2:
                exchange.hang_up()
                return
            exchange.send_chunk(piece)
        exchange.send_chunk(b"")


HEADERS = {"x-amzn-requestid": "req-42", "request-id": "req-42", "x-request-id": "req-42"}
EVENTS = {"content-type": "text/event-stream"}
FRAMES = {"content-type": "application/vnd.amazon.eventstream"}
LINES = {"content-type": "application/stream+json"}


def answers(path: str, body: Any) -> Iterator[tuple[bool, Any, Iterable[bytes]]]:
    """Answer a request in the format of its path: whether it streams, its document or headers, its pieces."""
    if path.endswith("/converse"):
        yield False, {"output": _message(), "stopReason": "end_turn", "usage": CONVERSE_USAGE}, ()
    elif path.endswith("/converse-stream"):
        yield True, FRAMES, converse_frames()
    elif path.endswith("/invoke"):
        yield False, CLAUDE, ()
    elif path.endswith("/invoke-with-response-stream"):
        yield True, FRAMES, (frame("chunk", {"bytes": _base64(event)}) for event in claude_events())
    elif path.endswith("/messages"):
        yield bool(body.get("stream")), EVENTS if body.get("stream") else CLAUDE, map(event_of, claude_events())
    elif path.endswith(":generateContent"):
        yield False, gemini("".join(ANSWER), last=True), ()
    elif path.endswith(":streamGenerateContent"):
        chunks = [gemini(piece, last=piece is ANSWER[-1]) for piece in ANSWER]
        yield True, EVENTS, (f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks)
    elif path == "/v2/chat":
        yield bool(body.get("stream")), EVENTS if body.get("stream") else COHERE_2, map(event_of, cohere_events())
    elif path == "/v1/chat":
        yield bool(body.get("stream")), LINES if body.get("stream") else COHERE_1, cohere_lines()
    elif path.endswith("/chat/completions"):
        chunks = [{**CHAT, "choices": [_delta(piece, piece is ANSWER[-1])]} for piece in ANSWER]
        chunks[-1]["usage"] = CHAT_USAGE
        events = [*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), b"data: [DONE]\n\n"]
        whole = {**CHAT, "object": "chat.completion", "choices": [_choice()], "usage": CHAT_USAGE}
        yield bool(body.get("stream")), EVENTS if body.get("stream") else whole, events
    else:
        yield False, {}, ()


# -- the formats ------------------------------------------------------------------------------------


def frame(kind: str, payload: Any, message: str = "event") -> bytes:
    """Write a frame of AWS's binary event streams."""
    data = json.dumps(payload).encode()
    name = ":event-type" if message == "event" else ":exception-type"
    pairs = ((":message-type", message), (name, kind), (":content-type", "application/json"))
    head = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(told)) + told.encode() for key, told in pairs
    )
    prelude = struct.pack(">II", 16 + len(head) + len(data), len(head))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + data
    return whole + struct.pack(">I", zlib.crc32(whole))


def event_of(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _base64(event: Any) -> str:
    return base64.b64encode(json.dumps(event).encode()).decode()


CONVERSE_USAGE = {
    "inputTokens": INPUT,
    "outputTokens": OUTPUT,
    "cacheReadInputTokens": CACHED,
    "cacheWriteInputTokens": WRITTEN,
    "totalTokens": INPUT + OUTPUT + CACHED + WRITTEN,
}


def _message() -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": [{"text": "".join(ANSWER)}]}}


def converse_frames() -> list[bytes]:
    deltas = [frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in ANSWER]
    metadata = frame("metadata", {"usage": CONVERSE_USAGE, "metrics": {"latencyMs": 1}})
    return [
        frame("messageStart", {"role": "assistant"}),
        *deltas,
        frame("contentBlockStop", {"contentBlockIndex": 0}),
        frame("messageStop", {"stopReason": "end_turn"}),
        metadata,
    ]


CLAUDE_USAGE = {
    "input_tokens": INPUT,
    "output_tokens": OUTPUT,
    "cache_read_input_tokens": CACHED,
    "cache_creation_input_tokens": WRITTEN,
}
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-3-haiku-20240307",
    "content": [{"type": "text", "text": "".join(ANSWER)}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": CLAUDE_USAGE,
}


def claude_events() -> list[dict[str, Any]]:
    start = {**CLAUDE, "content": [], "usage": {**CLAUDE_USAGE, "output_tokens": 1}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in ANSWER
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": OUTPUT}},
        {"type": "message_stop"},
    ]


def gemini(text: str, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    usage = {"promptTokenCount": INPUT, "totalTokenCount": INPUT}
    if last:
        candidate["finishReason"] = "STOP"
        usage |= {"candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT, "cachedContentTokenCount": CACHED}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.0-flash",
        "responseId": "req-42",
    }


UNITS = {
    "billed_units": {"input_tokens": 20, "output_tokens": 30},
    "tokens": {"input_tokens": INPUT, "output_tokens": OUTPUT},
}
COHERE_2 = {
    "id": "req-42",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "".join(ANSWER)}]},
    "usage": UNITS,
}
COHERE_1 = {
    "response_id": "req-42",
    "generation_id": "req-42",
    "text": "".join(ANSWER),
    "finish_reason": "COMPLETE",
    "meta": {"api_version": {"version": "1"}, **UNITS},
}


def cohere_events() -> list[dict[str, Any]]:
    deltas = [{"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": t}}}} for t in ANSWER]
    return [
        {"type": "message-start", "id": "req-42", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        *deltas,
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": UNITS}},
    ]


def cohere_lines() -> list[bytes]:
    events: list[dict[str, Any]] = [{"event_type": "stream-start", "generation_id": "req-42", "is_finished": False}]
    events += [{"event_type": "text-generation", "text": piece, "is_finished": False} for piece in ANSWER]
    events.append({"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE", "response": COHERE_1})
    return [json.dumps(event).encode() + b"\n" for event in events]


CHAT = {"id": "req-42", "object": "chat.completion.chunk", "created": 1, "model": "mistral-small-2506"}
CHAT_USAGE = {
    "prompt_tokens": INPUT,
    "completion_tokens": OUTPUT,
    "total_tokens": INPUT + OUTPUT,
    "prompt_tokens_details": {"cached_tokens": CACHED},
}


def _delta(text: str, last: bool) -> dict[str, Any]:
    return {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": "stop" if last else None}


def _choice() -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": "".join(ANSWER)}, "finish_reason": "stop"}


# -- the SDKs ---------------------------------------------------------------------------------------

Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Sdk:
    """One way to call a provider: how a client is made, its call whole and streamed, and what the event must say."""

    name: str
    patch: str
    provider: str
    endpoint: str
    model: str
    make: Callable[[str], Any]
    whole: Call
    stream: Call
    counts: dict[str, int]
    prices: dict[str, int]
    priced_as: str
    asynchronous: bool = False
    request_id: str = "req-42"
    hosts: bool = False
    """Whether the host must be named; where the SDK says who answers that is not needed."""

    def __str__(self) -> str:
        return self.name


POOLS = {"input_tokens": INPUT, "output_tokens": OUTPUT, "cached_tokens": CACHED, "cache_creation_tokens": WRITTEN}
OUTSIDE = {**POOLS, "total_tokens": INPUT + OUTPUT + CACHED + WRITTEN}
INSIDE = {"input_tokens": INPUT, "output_tokens": OUTPUT, "cached_tokens": CACHED, "total_tokens": INPUT + OUTPUT}
PRICED_OUTSIDE = {
    "input_tokens": INPUT + CACHED + WRITTEN,
    "output_tokens": OUTPUT,
    "cache_read_tokens": CACHED,
    "cache_write_tokens": WRITTEN,
}
PRICED_INSIDE = {"input_tokens": INPUT, "output_tokens": OUTPUT, "cache_read_tokens": CACHED}

CLAUDE_ON_AWS = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def bedrock(url: str, **options: Any) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        endpoint_url=url,
        config=Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": 10, **options}),
    )


ASKED = {"modelId": CLAUDE_ON_AWS, "messages": [{"role": "user", "content": [{"text": QUESTION}]}]}
BODY = json.dumps({"max_tokens": 99, "messages": [{"role": "user", "content": QUESTION}], "anthropic_version": "x"})
MESSAGES: Any = [{"role": "user", "content": QUESTION}]


def mistral(url: str) -> Mistral:
    return Mistral(api_key="secret", server_url=url)


def litellm_call(model: str, asynchronous: bool, stream: bool) -> Call:
    def call(url: str) -> Any:
        function = litellm.acompletion if asynchronous else litellm.completion
        return function(model, messages=MESSAGES, api_base=url, api_key="x", stream=stream, max_retries=0)

    return call


async def closing(calling: Awaitable[Any]) -> Any:
    """Await a call of LiteLLM's, and close the clients that it keeps, in their loop."""
    try:
        return await calling
    finally:
        await litellm.close_litellm_async_clients()


def sdks() -> Iterator[Sdk]:
    """List every SDK, synchronous and asynchronous."""
    at_aws = {"counts": OUTSIDE, "prices": PRICED_OUTSIDE, "priced_as": CLAUDE_ON_AWS}
    yield Sdk(
        "bedrock-converse", "bedrock", "aws", "converse", CLAUDE_ON_AWS, bedrock,
        lambda client: client.converse(**ASKED),
        lambda client: client.converse_stream(**ASKED)["stream"], **at_aws,
    )  # fmt: skip
    yield Sdk(
        "bedrock-invoke", "bedrock", "aws", "invoke_model", "claude-3-haiku-20240307", bedrock,
        lambda client: client.invoke_model(modelId=CLAUDE_ON_AWS, body=BODY)["body"].read(),
        lambda client: client.invoke_model_with_response_stream(modelId=CLAUDE_ON_AWS, body=BODY)["body"], **at_aws,
    )  # fmt: skip
    for asynchronous in (False, True):
        yield from _of_kind(asynchronous, "-async" if asynchronous else "")


def _of_kind(asynchronous: bool, ending: str) -> Iterator[Sdk]:
    suffix = "_async" if asynchronous else ""
    small = {"model": "mistral-small-latest", "messages": MESSAGES}
    yield Sdk(
        f"mistral{ending}", "mistral", "mistral", "chat.completions", "mistral-small-2506", mistral,
        lambda client: getattr(client.chat, f"complete{suffix}")(**small),
        lambda client: getattr(client.chat, f"stream{suffix}")(**small),
        INSIDE, PRICED_INSIDE, "mistral-small-2506", asynchronous,
    )  # fmt: skip
    second, first = (cohere.AsyncClientV2, cohere.AsyncClient) if asynchronous else (cohere.ClientV2, cohere.Client)
    counted = {"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
    billed = {"input_tokens": 20, "output_tokens": 30}
    for name, made, asked in (
        ("cohere-2", second, {"messages": MESSAGES}),
        ("cohere-1", first, {"message": QUESTION}),
    ):
        yield Sdk(
            f"{name}{ending}", "cohere", "cohere", "chat", "command-a-03-2025",
            lambda url, made=made: made(api_key="secret", base_url=url, timeout=10, max_retries=0),
            lambda client, asked=asked: client.chat(model="command-a-03-2025", **asked),
            lambda client, asked=asked: client.chat_stream(model="command-a-03-2025", **asked),
            counted, billed, "command-a-03-2025", asynchronous,
        )  # fmt: skip
    for name, provider, endpoint, model, answered, counts, prices, priced_as in (
        ("anthropic", "anthropic", "messages", "anthropic/claude-3-haiku-20240307", "claude-3-haiku-20240307",
         OUTSIDE, PRICED_OUTSIDE, "claude-3-haiku-20240307"),
        ("gemini", "google", "generate_content", "gemini/gemini-2.0-flash", "gemini-2.0-flash", INSIDE, PRICED_INSIDE,
         "gemini-2.0-flash"),
        ("bedrock", "aws", "converse", f"bedrock/{CLAUDE_ON_AWS}", CLAUDE_ON_AWS, OUTSIDE, PRICED_OUTSIDE,
         CLAUDE_ON_AWS),
        ("invoke", "aws", "invoke_model", f"bedrock/invoke/{CLAUDE_ON_AWS}", "claude-3-haiku-20240307", OUTSIDE,
         PRICED_OUTSIDE, CLAUDE_ON_AWS),
        ("mistral", "mistral", "chat.completions", "mistral/mistral-small-2506", "mistral-small-2506", INSIDE,
         PRICED_INSIDE, "mistral-small-2506"),
        ("openai", "mistral", "chat.completions", "openai/mistral-small-2506", "mistral-small-2506", INSIDE,
         PRICED_INSIDE, "mistral-small-2506"),
    ):  # fmt: skip
        yield Sdk(
            f"litellm-{name}{ending}", "litellm", provider, endpoint, answered, lambda url: url,
            litellm_call(model, asynchronous, stream=False), litellm_call(model, asynchronous, stream=True),
            counts, prices, priced_as, asynchronous, hosts=name == "openai",
        )  # fmt: skip
