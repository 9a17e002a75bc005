"""One streaming service in every framework, for real servers: `gunicorn tests.frameworks.streaming:flask_app()`.

`/<how>/<text>` streams a text letter by letter; at each `*` it calls an LLM. The header `X-Tenant` names who pays,
which an application must never do; `refused` has no money.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from asgiref.sync import sync_to_async

from token_limit_core import Meter
from token_limit_core.bodies import aend_refused_stream, end_refused_stream, peek_response, peek_stream

PROVIDER = os.environ.get("STREAMING_PROVIDER", "")
HOSTS = {PROVIDER.partition("//")[2].partition("/")[0]: "openai"}
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]
SSE = "text/event-stream"


def letters(text: str) -> Iterator[str]:
    client = openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0)
    for letter in text:
        if letter == "*":
            client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        yield f"data: {letter}\n\n"


async def aletters(text: str) -> AsyncIterator[str]:
    async with openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        for letter in text:
            if letter == "*":
                await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            yield f"data: {letter}\n\n"


def body(how: str, text: str) -> Iterator[Any]:
    return end_refused_stream(letters(text), "/plans/") if "ended" in how else letters(text)


async def by_task(text: str) -> AsyncIterator[str]:
    """Let a task produce the letters, which has work in threads before each."""
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def produce() -> None:
        try:
            async for letter in aletters(text):
                await sync_to_async(threading.get_ident)()
                await queue.put(letter)
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    task = asyncio.create_task(produce())
    while (letter := await queue.get()) is not None:
        if isinstance(letter, Exception):
            raise letter
        yield letter
    await task


def abody(how: str, text: str) -> AsyncIterator[Any]:
    letters = by_task(text) if "task" in how else aletters(text)
    return aend_refused_stream(letters, "/plans/") if "ended" in how else letters


class Synchronous:
    """A middleware that knows no event loop, and adds to each response."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        response = self.get_response(request)
        response.headers["X-Frame-Options"] = "DENY"
        response.set_cookie("seen", "yes")
        return response


OURS = "token_limit_django.middleware.TokenLimitMiddleware"
SYNCHRONOUS = f"{__name__}.Synchronous"
ORDERS = {
    "alone": [OURS],
    "outside": [OURS, SYNCHRONOUS],
    "inside": [SYNCHRONOUS, OURS],
    "between": [SYNCHRONOUS, OURS, SYNCHRONOUS],
    "compressed": ["django.middleware.gzip.GZipMiddleware", SYNCHRONOUS, OURS],
}
"""Where our middleware stands in Django, by STREAMING_ORDER."""


def broke(meter: Meter) -> Meter:
    meter.set_limit("refused", 0)
    return meter


def flask_app() -> Any:
    from flask import Flask, Response

    from token_limit_flask import TokenLimit, get_meter

    app = Flask(__name__)
    TokenLimit(app, store="memory://", hosts=HOSTS, tenant_resolver=lambda request: request.headers.get("X-Tenant"))
    broke(get_meter(app))

    @app.get("/peeked/<text>", endpoint="peeked", defaults={"how": "peeked"})
    @app.get("/peeked-task/<text>", endpoint="peeked-task", defaults={"how": "peeked-task"})
    @app.get("/peeked-ended/<text>", endpoint="peeked-ended", defaults={"how": "peeked-ended"})
    @peek_stream
    def peeked(how: str, text: str) -> Response:
        return Response(body(how, text), mimetype=SSE)

    @app.get("/<how>/<text>")
    def plain(how: str, text: str) -> Response:
        return Response(body(how, text), mimetype=SSE)

    return app


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def stream(request: Request) -> StreamingResponse:
        how = request.path_params["how"]
        if "peeked" in how:
            peek_response()
        return StreamingResponse(abody(how, request.path_params["text"]), media_type=SSE)

    return _metered(Starlette(routes=[Route("/{how}/{text}", stream)]))


def fastapi_app() -> Any:
    from fastapi import Depends, FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @app.get("/peeked/{text}", dependencies=[Depends(peek_response)])
    def peeked(text: str) -> StreamingResponse:
        return StreamingResponse(body("peeked", text), media_type=SSE)

    @app.get("/peeked-task/{text}")
    @peek_stream
    async def peeked_task(text: str) -> StreamingResponse:
        return StreamingResponse(abody("peeked-task", text), media_type=SSE)

    @app.get("/peeked-ended/{text}")
    @peek_stream
    async def peeked_ended(text: str) -> StreamingResponse:
        return StreamingResponse(abody("peeked-ended", text), media_type=SSE)

    @app.get("/{how}/{text}")
    def plain(how: str, text: str) -> StreamingResponse:
        return StreamingResponse(body(how, text), media_type=SSE)

    return _metered(app)


def _metered(app: Any) -> Any:
    from token_limit_core import MeterConfig
    from token_limit_starlette import TokenLimitMiddleware

    meter = broke(Meter(MeterConfig(store="memory://", hosts=HOSTS)))
    app.add_middleware(
        TokenLimitMiddleware, meter=meter, resolver=lambda connection: connection.headers.get("X-Tenant")
    )
    return app


def _django() -> None:
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["token_limit_django"],
        MIDDLEWARE=ORDERS[os.environ.get("STREAMING_ORDER", "alone")],
        ROOT_URLCONF="tests.frameworks.streaming_urls",
        SECRET_KEY="for tests only",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        TOKEN_LIMIT={
            "STORE": "memory://",
            "HOSTS": HOSTS,
            "TENANT_RESOLVER": "tests.frameworks.streaming_urls.tenant_of",
        },
        REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
    )
    django.setup()
    from token_limit_django.meter import get_meter

    broke(get_meter())


def django_wsgi() -> Any:
    _django()
    from django.core.handlers.wsgi import WSGIHandler

    return WSGIHandler()


def django_asgi() -> Any:
    _django()
    from django.core.handlers.asgi import ASGIHandler

    return ASGIHandler()
