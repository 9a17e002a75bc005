"""Views of a SaaS that calls an LLM in every way a request can."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import Any

import openai
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from token_limit_core import LimitExceededException
from token_limit_django.meter import get_meter

MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]
client: openai.OpenAI
runner = asyncio.Runner()
"""Kept from request to request by code that wants to keep its connections; each test has its own."""


def connect(base_url: str) -> openai.OpenAI:
    """Point the views' clients at a provider."""
    global client
    client = openai.OpenAI(api_key="test", base_url=base_url, max_retries=0)
    return client


def async_client() -> openai.AsyncOpenAI:
    """Make a client for this event loop; the tests have many."""
    return openai.AsyncOpenAI(api_key="test", base_url=client.base_url, max_retries=0)


def ask(**options: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, **options)


async def aask() -> Any:
    async with async_client() as own:
        return await own.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(ask().choices[0].message.content)


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    """Call only when the body is produced, long after the middleware has returned."""

    def body() -> Iterator[str]:
        for chunk in ask(stream=True):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    return StreamingHttpResponse(body())


def in_thread(request: HttpRequest) -> HttpResponse:
    """Hand the context to a thread, as asyncio.to_thread does."""

    def work() -> Any:
        try:
            return ask()
        finally:
            connections.close_all()  # the user was looked up here, on a connection of this thread's

    return HttpResponse(asyncio.run(asyncio.to_thread(work)).choices[0].message.content)


def own_loop(request: HttpRequest) -> HttpResponse:
    """Run an event loop of one's own, as code does that has only an async client."""
    return HttpResponse(asyncio.run(aask()).choices[0].message.content)


def kept_runner(request: HttpRequest) -> HttpResponse:
    """Run on a loop that is kept from request to request; `tenant` is an explicit one, set outside or inside of it."""
    tenant, inside = request.GET.get("tenant"), "inside" in request.GET

    async def work() -> Any:
        with get_meter().for_tenant(tenant) if tenant and inside else nullcontext():
            return await aask()

    with get_meter().for_tenant(tenant) if tenant and not inside else nullcontext():
        return HttpResponse(runner.run(work()).choices[0].message.content)


async def aplain(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await aask()).choices[0].message.content)


async def astreamed(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[str]:
        async with async_client() as own:
            stream = await own.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
            async for chunk in stream:
                if chunk.choices:
                    yield chunk.choices[0].delta.content or ""

    return StreamingHttpResponse(body())


async def sync_call_in_async_view(request: HttpRequest) -> HttpResponse:
    await request.auser()
    return HttpResponse(ask().choices[0].message.content)


async def two_tasks(request: HttpRequest) -> HttpResponse:
    """Bill two tenants from two tasks of one request, interleaved."""
    both = asyncio.Barrier(2)

    async def work(tenant: str) -> None:
        get_meter().set_tenant(tenant)
        await both.wait()
        await aask()

    await asyncio.gather(work("left"), work("right"))
    return HttpResponse("done")


def set_tenant(request: HttpRequest) -> HttpResponse:
    get_meter().set_tenant("explicit")
    return plain(request)


def wrapped(request: HttpRequest) -> HttpResponse:
    try:
        return plain(request)
    except LimitExceededException as error:
        raise RuntimeError("the answer could not be made") from error


async def grouped(request: HttpRequest) -> HttpResponse:
    async with asyncio.TaskGroup() as group:
        group.create_task(aask())
    return HttpResponse("done")


def handled(request: HttpRequest) -> HttpResponse:
    try:
        return plain(request)
    except LimitExceededException:
        return HttpResponse("no answer today")


def handled_then_broken(request: HttpRequest) -> HttpResponse:
    handled(request)
    raise ZeroDivisionError


def no_call(request: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing asked")


def middleware_that_asks(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make a call outside of any view, where Django turns what is raised into a 500."""

    def middleware(request: HttpRequest) -> HttpResponse:
        ask()
        return get_response(request)

    return middleware


def bare_thread(request: HttpRequest) -> HttpResponse:
    """Lose the context, as a thread of one's own does."""
    thread = threading.Thread(target=ask, name="bare")
    thread.start()
    thread.join()
    return HttpResponse("done")


urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in (
        plain, streamed, in_thread, own_loop, kept_runner, aplain, astreamed, sync_call_in_async_view, two_tasks,
        set_tenant, wrapped, grouped, handled, handled_then_broken, no_call, bare_thread,
    )
]  # fmt: skip
