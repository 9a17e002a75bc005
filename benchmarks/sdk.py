"""What a metered call adds, in CPU microseconds: the OpenAI SDK over an in-process transport."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx2
import openai
import wrapt
from openai._base_client import AsyncAPIClient, SyncAPIClient
from openai._models import FinalRequestOptions

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
    loop.run_until_complete(loop.shutdown_asyncgens())  # the SDK leaves its inner generators to the loop


WORKLOADS: dict[str, tuple[Callable[[int], None], int]] = {
    "sync": (sync_plain, 30),
    "async": (async_plain, 30),
    "sync stream": (sync_stream, 4),
    "async stream": (async_stream, 4),
}


@contextmanager
def unpatched() -> Iterator[None]:
    """Change nothing."""
    yield


def wrapt_pass_through() -> Any:
    """Wrap the funnel with wrappers that only call on."""

    def through(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    return _wrapped(through, through)


def wrapper_that_reads_usage() -> Any:
    """Wrap the funnel with wrappers that note the usage of plain answers and do nothing with it."""
    noted: deque[dict[str, Any]] = deque(maxlen=1000)

    def note(answer: Any) -> Any:
        usage = None if isinstance(answer, (openai.Stream, openai.AsyncStream)) else answer.usage
        if usage is not None:
            noted.append({"model": answer.model, "input": usage.prompt_tokens, "output": usage.completion_tokens})
        return answer

    def read(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return note(wrapped(*args, **kwargs))

    async def aread(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return note(await wrapped(*args, **kwargs))

    return _wrapped(read, aread)


@contextmanager
def _wrapped(sync_wrapper: Any, async_wrapper: Any) -> Iterator[None]:
    targets = [(SyncAPIClient, sync_wrapper), (AsyncAPIClient, async_wrapper)]
    originals = [cls.__dict__["request"] for cls, _ in targets]
    for (cls, wrapper), original in zip(targets, originals, strict=True):
        cls.request = wrapt.FunctionWrapper(original, wrapper)  # type: ignore[method-assign, assignment]
    yield
    for (cls, _), original in zip(targets, originals, strict=True):
        cls.request = original  # type: ignore[method-assign]


@contextmanager
def without_the_sdk() -> Iterator[None]:
    """Answer at the funnel itself, so that what runs is the wrapper and little else."""
    answer = sync_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    http = httpx2.Response(200, headers={"x-request-id": "req_1"}, content=PLAIN)

    def request(self: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        return self._process_response(cast_to=cast_to, options=options, response=http, stream=False, stream_cls=None)

    def process(self: Any, **kwargs: Any) -> Any:
        return answer

    originals = SyncAPIClient.request, SyncAPIClient._process_response
    SyncAPIClient.request, SyncAPIClient._process_response = request, process  # type: ignore[method-assign, assignment]
    yield
    SyncAPIClient.request, SyncAPIClient._process_response = originals  # type: ignore[method-assign]


OPTIONS = FinalRequestOptions.construct(
    method="post", url="/chat/completions", json_data={"model": "gpt-4o-mini", "messages": MESSAGES}
)


def funnel(calls: int) -> None:
    """Call the funnel with a prepared request."""
    for _ in range(calls):
        sync_client.request(cast(Any, None), OPTIONS, stream=False)


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
        "wrapper that reads usage": wrapper_that_reads_usage,
        "token-limit-suite, memory store": suite("memory://"),
        "token-limit-suite, SQLite store": suite(f"sqlite:///{folder}/bench.db"),
    }
