"""What a metered call adds, in CPU microseconds: the OpenAI SDK over an in-process transport."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import wrapt
from openai._base_client import AsyncAPIClient, SyncAPIClient

from token_limit_core import Meter, MeterConfig

CHUNKS = 100
USAGE = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 12}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]


def _plain() -> bytes:
    message = {"role": "assistant", "content": "It stops."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()


def _stream(with_usage: bool) -> bytes:
    head = {**HEAD, "object": "chat.completion.chunk"}
    choices = [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]
    rows: list[dict[str, Any]] = [{**head, "choices": choices} for _ in range(CHUNKS)]
    if with_usage:
        rows.append({**head, "choices": [], "usage": USAGE})
    return b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows) + b"data: [DONE]\n\n"


PLAIN, STREAM, STREAM_WITH_USAGE = _plain(), _stream(False), _stream(True)


def _answer(request: httpx2.Request) -> httpx2.Response:
    body = json.loads(request.content)
    if not body.get("stream"):
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=PLAIN)
    content = STREAM_WITH_USAGE if "stream_options" in body else STREAM
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content)


transport = httpx2.MockTransport(_answer)
sync_client = openai.OpenAI(api_key="x", http_client=openai.DefaultHttpxClient(transport=transport))
async_client = openai.AsyncOpenAI(api_key="x", http_client=openai.DefaultAsyncHttpxClient(transport=transport))
loop = asyncio.new_event_loop()


def sync_plain(calls: int) -> None:
    """Make plain calls."""
    for _ in range(calls):
        sync_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def sync_stream(calls: int) -> None:
    """Read streams of 100 chunks."""
    for _ in range(calls):
        for _chunk in sync_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True):
            pass


def async_plain(calls: int) -> None:
    """Make plain calls on an event loop."""

    async def run() -> None:
        for _ in range(calls):
            await async_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)

    loop.run_until_complete(run())


def async_stream(calls: int) -> None:
    """Read streams of 100 chunks on an event loop."""

    async def run() -> None:
        for _ in range(calls):
            stream = await async_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
            async for _chunk in stream:
                pass

    loop.run_until_complete(run())


WORKLOADS: dict[str, tuple[Callable[[int], None], int]] = {
    "sync": (sync_plain, 200),
    "async": (async_plain, 200),
    "sync stream": (sync_stream, 12),
    "async stream": (async_stream, 12),
}


@contextmanager
def unpatched() -> Iterator[None]:
    """Change nothing."""
    yield


@contextmanager
def wrapt_pass_through() -> Iterator[None]:
    """Wrap the same two functions with wrappers that only call on."""

    def through(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    targets = [(cls, name) for cls in (SyncAPIClient, AsyncAPIClient) for name in ("request", "_process_response")]
    originals = [cls.__dict__[name] for cls, name in targets]
    for (cls, name), original in zip(targets, originals, strict=True):
        setattr(cls, name, wrapt.FunctionWrapper(original, through))
    yield
    for (cls, name), original in zip(targets, originals, strict=True):
        setattr(cls, name, original)


def suite(store: str) -> Callable[[], Any]:
    """Meter for a tenant with a monthly limit."""
    meter = Meter(MeterConfig(store=store))
    meter.set_limit("tenant", 1_000_000)

    @contextmanager
    def patched() -> Iterator[None]:
        meter.patch_all()
        with meter.for_tenant("tenant"):
            yield
        meter.unpatch_all()

    return patched


def subjects() -> dict[str, Callable[[], Any]]:
    """Return what is compared, the base first."""
    folder = tempfile.mkdtemp(prefix="token-limit-bench-")
    return {
        "unpatched": unpatched,
        "wrapt pass-through": wrapt_pass_through,
        "token-limit-suite, memory store": suite("memory://"),
        "token-limit-suite, SQLite store": suite(f"sqlite:///{folder}/bench.db"),
    }
