"""A provider inside the process: answers OpenAI's wire format from a script and keeps what it was sent.

It replaces the transport of a real SDK client, so that a test controls every byte, cut and fault. One instance
serves synchronous and asynchronous clients.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import openai

httpx: Any = importlib.import_module("httpx2" if int(openai.VERSION.split(".")[0]) >= 3 else "httpx")
"""The HTTP library that the installed SDK speaks."""

MODEL = "gpt-4o-mini"
ANSWERED = "gpt-4o-mini-2024-07-18"
REQUEST_ID = "req_42"

INPUT, CACHED, OUTPUT, REASONING = 117, 64, 33, 12

CHAT_USAGE = {
    "prompt_tokens": INPUT,
    "completion_tokens": OUTPUT,
    "total_tokens": INPUT + OUTPUT,
    "prompt_tokens_details": {"cached_tokens": CACHED},
    "completion_tokens_details": {"reasoning_tokens": REASONING},
}
RESPONSES_USAGE = {
    "input_tokens": INPUT,
    "output_tokens": OUTPUT,
    "total_tokens": INPUT + OUTPUT,
    "input_tokens_details": {"cached_tokens": CACHED},
    "output_tokens_details": {"reasoning_tokens": REASONING},
}
EMBEDDINGS_USAGE = {"prompt_tokens": INPUT, "total_tokens": INPUT}

WORDS = ['{"answer"', ": ", '"forty', '-two"', "}"]
"""What every answer says, piece by piece; together valid JSON, for the helpers that parse."""

TEXT = "".join(WORDS)


@dataclass
class Answer:
    """One answer: `pieces` of a body, then `fault` (an exception) if any. Without a status it is `fault` alone."""

    status: int | None = 200
    pieces: list[bytes] = field(default_factory=list)
    content_type: str = "application/json"
    fault: BaseException | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pause: Callable[[], Any] | None = None
    """Called before the answer."""
    stall: Callable[[], Any] | None = None
    """Awaited after the pieces."""

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)


class Body:
    """A body that is sent piece by piece, and may break off."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.answer.pieces
        if self.answer.fault is not None:
            raise self.answer.fault

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.answer.pieces:
            await asyncio.sleep(0)
            yield piece
        if self.answer.stall is not None:
            await self.answer.stall()
        if self.answer.fault is not None:
            raise self.answer.fault

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


Script = Callable[[dict[str, Any]], Answer]


class Wire:
    """Answers each request with the next script, the last one for ever; a script gets the request's JSON.

    `sdk` makes the clients, and `http` is the library that it speaks.
    """

    sdk: ClassVar[Any] = openai
    http: ClassVar[Any] = httpx
    clients: ClassVar[tuple[str, str]] = ("OpenAI", "AsyncOpenAI")
    request_id_header: ClassVar[str] = "x-request-id"

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.sent: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.bodies: list[Body] = []
        self.forgetful = False
        """Whether only the last request and body are kept."""

    def handle_request(self, request: Any) -> Any:
        request.read()
        answer = self._next(request)
        if answer.pause is not None:
            answer.pause()
        return self._respond(request, answer)

    async def handle_async_request(self, request: Any) -> Any:
        await request.aread()
        answer = self._next(request)
        if answer.pause is not None:
            await answer.pause()
        return self._respond(request, answer)

    def close(self) -> None:
        """Nothing is held."""

    async def aclose(self) -> None:
        """Nothing is held."""

    def _next(self, request: Any) -> Answer:
        sent = _sent(request)
        if self.forgetful:
            for kept in (self.sent, self.paths, self.bodies):
                kept.clear()
        self.sent.append(sent)
        self.paths.append(request.url.path)
        script = self.scripts[min(len(self.sent), len(self.scripts)) - 1]
        return script(sent)

    def _respond(self, request: Any, answer: Answer) -> Any:
        if answer.status is None:
            assert answer.fault is not None
            raise answer.fault
        body = type("Body", (Body, self.http.SyncByteStream, self.http.AsyncByteStream), {})(answer)
        self.bodies.append(body)
        ours = {"content-type": answer.content_type, self.request_id_header: REQUEST_ID, "retry-after-ms": "1"}
        return self.http.Response(answer.status, headers=ours | answer.headers, stream=body, request=request)

    def client(self, cls: Any = None, **options: Any) -> Any:
        """Make a synchronous client on this wire."""
        cls = getattr(self.sdk, self.clients[0]) if cls is None else cls
        http_client = self.sdk.DefaultHttpxClient(transport=self)
        return cls(http_client=http_client, **{"api_key": "sk-secret", "max_retries": 0, **options})

    def async_client(self, cls: Any = None, **options: Any) -> Any:
        """Make an asynchronous client on this wire."""
        cls = getattr(self.sdk, self.clients[1]) if cls is None else cls
        http_client = self.sdk.DefaultAsyncHttpxClient(transport=self)
        return cls(http_client=http_client, **{"api_key": "sk-secret", "max_retries": 0, **options})


_FIELD = re.compile(rb'name="(\w+)"\r\n\r\n([^\r]*)\r\n')


def _sent(request: Any) -> dict[str, Any]:
    """Read a request's JSON, or the fields of its form."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        return {name.decode(): value.decode() for name, value in _FIELD.findall(request.content)}
    document: dict[str, Any] = json.loads(request.content) if request.content else {}
    return document


class Stall:
    """A provider that says it was reached, and then nothing more."""

    def __init__(self, answer: Script, pieces: int | None) -> None:
        self.reached = asyncio.Event()
        self.answer = answer
        self.pieces = pieces

    def script(self, sent: dict[str, Any]) -> Answer:
        answer = self.answer(sent)
        if self.pieces is None:
            answer.pause = self._stall
        else:
            answer.pieces, answer.stall = answer.pieces[: self.pieces], self._stall
        return answer

    async def _stall(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


# -- answers ----------------------------------------------------------------------------------------


def as_json(document: Any, status: int = 200) -> Answer:
    """Answer with a JSON document."""
    return Answer(status, [json.dumps(document).encode()])


def as_events(events: list[Any], end: bytes = b"data: [DONE]\n\n") -> Answer:
    """Answer with server-sent events, one in a piece."""
    return Answer(200, [*map(as_event, events), *([end] if end else [])], "text/event-stream")


def as_event(event: dict[str, Any]) -> bytes:
    """Write one server-sent event; OpenAI names those of the Responses API."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def error(status: int, code: str = "some_code") -> Script:
    """Answer with an HTTP error whose message must never be stored."""
    document = {"error": {"message": "secret prompt echoed", "type": "some_type", "code": code, "param": None}}
    return lambda sent: as_json(document, status)


def drop(fault: BaseException) -> Script:
    """Never answer: fail with `fault`."""
    return lambda sent: Answer(None, fault=fault)


def chat(sent: dict[str, Any]) -> Answer:
    """Answer a chat completion; a stream tells its usage only where that was asked for."""
    if not sent.get("stream"):
        message = {"role": "assistant", "content": TEXT, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return as_json(_head("chat.completion") | {"choices": [choice], "usage": CHAT_USAGE})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS), {}]
    choices = [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None} for delta in deltas]
    choices[-1]["finish_reason"] = "stop"
    return as_events(_with_usage(sent, [_head("chat.completion.chunk") | {"choices": [c]} for c in choices]))


def truncated_chat(sent: dict[str, Any]) -> Answer:
    """Answer a chat completion that ran into its bound."""
    return _amended(chat, finish_reason="length")


def wrong_chat(sent: dict[str, Any]) -> Answer:
    """Answer a chat completion that does not fit the schema it was asked to follow."""
    return _amended(chat, message={"role": "assistant", "content": '{"other": 1}', "refusal": None})


def wrong_response(sent: dict[str, Any]) -> Answer:
    """Answer the Responses API with a text that does not fit the schema it was asked to follow."""
    document = _response("completed")
    document["output"][0]["content"][0]["text"] = '{"other": 1}'
    return as_json(document)


def _amended(script: Script, **changes: Any) -> Answer:
    document = json.loads(script({}).content)
    document["choices"][0].update(changes)
    return as_json(document)


def completions(sent: dict[str, Any]) -> Answer:
    """Answer a legacy completion."""
    if not sent.get("stream"):
        choice = {"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}
        return as_json(_head("text_completion") | {"choices": [choice], "usage": CHAT_USAGE})
    choices = [{"index": 0, "text": word, "finish_reason": None, "logprobs": None} for word in WORDS]
    return as_events(_with_usage(sent, [_head("text_completion") | {"choices": [c]} for c in choices]))


def responses(sent: dict[str, Any]) -> Answer:
    """Answer the Responses API, whose streams tell their usage at the end unasked."""
    if not sent.get("stream"):
        return as_json(_response("completed"))
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress")},
        {"type": "response.in_progress", "response": _response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        *({"type": "response.output_text.delta", **at, "delta": word, "logprobs": []} for word in WORDS),
        {"type": "response.output_text.done", **at, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": {**part, "text": TEXT}},
        {"type": "response.output_item.done", "output_index": 0, "item": _response("completed")["output"][0]},
        {"type": "response.completed", "response": _response("completed")},
    ]
    return as_events([{**event, "sequence_number": number} for number, event in enumerate(events)], end=b"")


def embeddings(sent: dict[str, Any]) -> Answer:
    """Answer embeddings."""
    row = {"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}
    return as_json({"object": "list", "model": "text-embedding-3-small", "data": [row], "usage": EMBEDDINGS_USAGE})


def _head(kind: str) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": kind, "created": 1_700_000_000, "model": ANSWERED, "service_tier": "default"}


def _with_usage(sent: dict[str, Any], chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not (sent.get("stream_options") or {}).get("include_usage"):
        return chunks
    last = {**chunks[-1], "choices": [], "usage": CHAT_USAGE}
    return [*({**chunk, "usage": None} for chunk in chunks), last]


def _response(status: str) -> dict[str, Any]:
    done = status == "completed"
    text = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": ANSWERED,
        "output": [message] if done else [],
        "usage": RESPONSES_USAGE if done else None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": "default",
    }
