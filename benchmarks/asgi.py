"""What the ASGI middleware adds to a request that makes no LLM call: Starlette beside slowapi, and Django."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from token_limit_starlette import TokenLimitMiddleware

bare: ContextVar[Any] = ContextVar("bare", default=None)

_loop = asyncio.new_event_loop()
_current: Any


class BareContextVarMiddleware:
    """The least a middleware that knows the request can do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        token = bare.set(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            bare.reset(token)


async def endpoint(request: Request) -> PlainTextResponse:
    """Answer at once."""
    return PlainTextResponse("ok")


def _starlette(*middleware: Middleware) -> Starlette:
    app = Starlette(middleware=list(middleware))
    app.add_route("/", endpoint)
    return app


def _with_slowapi() -> Starlette:
    app = _starlette(Middleware(SlowAPIASGIMiddleware))
    limiter = Limiter(lambda request: "somebody", default_limits=["1000000/second"], storage_uri="memory://")
    app.state.limiter = limiter
    return app


def _subject(app: Any) -> Callable[[], Any]:
    @contextmanager
    def subject() -> Iterator[None]:
        global _current
        _current = app
        yield

    return subject


def subjects() -> dict[str, Callable[[], Any]]:
    """Return one Starlette application per middleware."""
    return {
        "no middleware": _subject(_starlette()),
        "bare ContextVar middleware": _subject(_starlette(Middleware(BareContextVarMiddleware))),
        "slowapi": _subject(_with_slowapi()),
        "token-limit-suite": _subject(_starlette(Middleware(TokenLimitMiddleware, store="memory://"))),
    }


def django_subjects() -> dict[str, Callable[[], Any]]:
    """Return one Django ASGI handler per middleware; call after `middleware.subjects`, which sets Django up."""
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler

    def handler(*middleware: str) -> Any:
        settings.ROOT_URLCONF = __name__
        settings.MIDDLEWARE = list(middleware)
        return _subject(ASGIHandler())

    return {
        "no middleware": handler(),
        "bare ContextVar middleware": handler(f"{__name__}.BareDjangoMiddleware"),
        "token-limit-suite": handler("token_limit_django.middleware.TokenLimitMiddleware"),
    }


class BareDjangoMiddleware:
    """The same for Django's stack."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        from asgiref.sync import markcoroutinefunction

        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        token = bare.set(request)
        try:
            return await self.get_response(request)
        finally:
            bare.reset(token)


async def django_view(request: Any) -> Any:
    """Answer at once."""
    from django.http import HttpResponse

    return HttpResponse(b"ok")


def __getattr__(name: str) -> Any:
    """Give Django its routes, which cannot be made before it is set up."""
    if name == "urlpatterns":
        from django.urls import path

        return [path("", django_view)]
    raise AttributeError(name)


def requests(count: int) -> None:
    """Send requests through the current application."""
    _loop.run_until_complete(_requests(count))


async def _requests(count: int) -> None:
    async def receive() -> dict[str, Any]:
        if asked:
            await asyncio.Event().wait()  # nobody hangs up
        asked.append(True)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    for _ in range(count):
        asked: list[bool] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"bench")],
            "client": ("127.0.0.1", 1),
            "server": ("bench", 80),
            "state": {},
        }
        await _current(scope, receive, send)
