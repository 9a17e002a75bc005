"""What the applications of the shared suite do for a request, in every way that real ones call an LLM.

One client is shared by all users. A question is long for one tenant and short for the other, so that the ledger tells
by its counts who has asked.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import openai

from token_limit_core import LimitExceededException

STORE = os.environ.get("SAAS_STORE", "memory://")
PROVIDER = os.environ.get("SAAS_PROVIDER", "http://127.0.0.1:1/v1")
HOSTS = {PROVIDER.partition("//")[2].partition("/")[0]: "openai"}
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used; clients that are made for one call would load one each, which takes 50 ms."""

PEOPLE = {"alice": "acme", "bob": "globex", "carol": "broke"}

client = openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0)
aclient = openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0)
pool = ThreadPoolExecutor(4)
threads = ThreadPool(4)
left: list[Any] = []
"""Event loops that are never closed."""

kept = asyncio.Runner()
using_kept = threading.Lock()


def request_of(question: str, **options: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}], **options}


def ask(question: str) -> str:
    return client.chat.completions.create(**request_of(question)).choices[0].message.content or ""


async def aask(question: str) -> str:
    return (await aclient.chat.completions.create(**request_of(question))).choices[0].message.content or ""


async def ask_alone(question: str) -> str:
    """Ask on an event loop of its own, which the shared client does not belong to."""
    transport = openai.DefaultAsyncHttpxClient(verify=TLS)
    async with openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0, http_client=transport) as own:
        return (await own.chat.completions.create(**request_of(question))).choices[0].message.content or ""


def stream(question: str) -> Iterator[str]:
    """Ask when the body is produced."""
    with client.chat.completions.create(**request_of(question, stream=True)) as chunks:
        for chunk in chunks:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


async def astream(question: str) -> AsyncIterator[str]:
    async with await aclient.chat.completions.create(**request_of(question, stream=True)) as chunks:
        async for chunk in chunks:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


async def produced(question: str) -> AsyncIterator[str]:
    """Let a task of its own produce the body, through a queue."""
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def produce() -> None:
        async for piece in astream(question):
            await queue.put(piece)
        await queue.put(None)

    task = asyncio.create_task(produce())
    while (piece := await queue.get()) is not None:
        yield piece
    await task


async def bounded(question: str) -> AsyncIterator[str]:
    """Do what `produced` does with a queue that holds one piece: without a reader the task waits there for ever."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(1)

    async def produce() -> None:
        async for piece in astream(question):
            await queue.put(piece)
        await queue.put(None)

    left.append(asyncio.create_task(produce()))
    while (piece := await queue.get()) is not None:
        yield piece


def pumped(question: str) -> Iterator[str]:
    """Pull an asynchronous stream piece by piece, on a loop that is never closed."""
    runner, body = asyncio.Runner(), astream_alone(question)
    left.append((runner, body))

    async def pull() -> str | None:
        return await anext(body, None)

    while (piece := runner.run(pull())) is not None:
        yield piece


async def astream_alone(question: str) -> AsyncIterator[str]:
    """Stream on an event loop of its own, and close nothing."""
    transport = openai.DefaultAsyncHttpxClient(verify=TLS)
    own = openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0, http_client=transport)
    async for chunk in await own.chat.completions.create(**request_of(question, stream=True)):
        if chunk.choices:
            yield chunk.choices[0].delta.content or ""


def in_pool(question: str) -> str:
    """Hand the context to a thread of a pool."""
    return pool.submit(contextvars.copy_context().run, ask, question).result()


def own_loop(question: str) -> str:
    return asyncio.run(ask_alone(question))


def runner(question: str) -> str:
    with asyncio.Runner() as own:
        return own.run(ask_alone(question))


def kept_runner(question: str) -> str:
    """Run on a loop that one customer after another uses."""
    with using_kept:
        return kept.run(ask_alone(question))


def kept_to_thread(question: str) -> str:
    with using_kept:
        return kept.run(asyncio.to_thread(ask, question))


def _in_thread(work: Callable[[], str]) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def bare_thread(question: str) -> str:
    return _in_thread(partial(ask, question))


def bare_loop(question: str) -> str:
    return _in_thread(partial(own_loop, question))


def timer(question: str) -> str:
    found: list[str] = []
    thread = threading.Timer(0, lambda: found.append(ask(question)))
    thread.start()
    thread.join()
    return found[0]


def submitted(question: str) -> str:
    return pool.submit(ask, question).result()


def mapped(question: str) -> str:
    return "".join(pool.map(ask, [question]))


def applied(question: str) -> str:
    return threads.apply(ask, (question,))


async def in_executor(question: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(pool, ask, question)


def caught(question: str) -> str:
    """Answer whatever happens."""
    try:
        return ask(question)
    except Exception:
        return "all is well"


def wrapped(question: str) -> str:
    try:
        return ask(question)
    except LimitExceededException as error:
        raise RuntimeError("the answer could not be made") from error


def grouped(question: str) -> str:
    try:
        return ask(question)
    except LimitExceededException as error:
        raise ExceptionGroup("some of it failed", [ValueError(), error]) from None


async def tasks(question: str) -> str:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(aask(question))
    return task.result()


async def to_thread(question: str) -> str:
    return await asyncio.to_thread(ask, question)


async def acaught(question: str) -> str:
    try:
        return await aask(question)
    except Exception:
        return "all is well"


async def awrapped(question: str) -> str:
    try:
        return await aask(question)
    except LimitExceededException as error:
        raise RuntimeError("the answer could not be made") from error


SYNC: dict[str, Callable[[str], str]] = {
    work.__name__: work
    for work in (
        ask,
        in_pool,
        own_loop,
        runner,
        kept_runner,
        kept_to_thread,
        bare_thread,
        bare_loop,
        timer,
        submitted,
        mapped,
        applied,
        caught,
        wrapped,
        grouped,
    )
}
ASYNC: dict[str, Callable[[str], Any]] = {
    work.__name__: work for work in (aask, tasks, to_thread, in_executor, acaught, awrapped)
}


def person(authorization: str | None) -> str | None:
    """Return who has signed in, by the token of a request."""
    name = (authorization or "").removeprefix("Bearer ")
    return name if name in PEOPLE else None
