"""The admin console for Starlette and FastAPI: `app.mount("/token-limit", console(authorize=..., secret=...))`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from token_limit_core import Meter
from token_limit_core.console.app import Console
from token_limit_core.console.web import MOST_BODY
from token_limit_core.console.web import Request as ConsoleRequest
from token_limit_core.console.web import Response as ConsoleResponse
from token_limit_core.errors import ConfigurationError

from .options import KEY


def console(
    authorize: Callable[[Request], Any] | None = None,
    *,
    secret: str | bytes | None = None,
    meter: Meter | None = None,
) -> ASGIApp:
    """Make the admin console as an ASGI application to mount; without `authorize` every page answers 403.

    `authorize(request)` returns the name of the person who may enter (or True), None for others; it may also raise
    `HTTPException`. A synchronous one runs in a thread. The Meter is `TokenLimitMiddleware`'s unless one is given.
    Raises `ConfigurationError` for an `authorize` without a `secret` that protects forms.
    """
    own = Console(secret, authorize is not None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await refuse_websocket(send)
            return
        request = Request(scope, receive)
        allowed = None if authorize is None else await _ask(authorize, request)
        answer = await run_in_threadpool(own.answer, await asked(request), allowed, lambda: meter or _meter(scope))
        await sent(answer)(scope, receive, send)

    return app


async def _ask(authorize: Callable[[Request], Any], request: Request) -> object:
    if inspect.iscoroutinefunction(authorize):
        return await authorize(request)
    allowed = await run_in_threadpool(authorize, request)
    return await allowed if inspect.isawaitable(allowed) else allowed


async def refuse_websocket(send: Send) -> None:
    """Close a WebSocket: there are only pages here."""
    await send({"type": "websocket.close", "code": 1008})


def _meter(scope: Scope) -> Meter:
    options = scope.get(KEY)
    if options is None:
        raise ConfigurationError("meter: no TokenLimitMiddleware is around this application; add it, or give meter=")
    return cast(Meter, options.meter)


async def asked(request: Request) -> ConsoleRequest:
    """Turn a request of Starlette's into one of the console's."""
    root, path = request.scope.get("root_path", "").rstrip("/"), request.scope["path"]
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            break
    return ConsoleRequest(
        method=request.method,
        path=path.removeprefix(root).removeprefix("/"),
        mount=root,
        query=request.scope["query_string"].decode("latin-1"),
        headers=dict(request.headers),
        body=body,
        secure=request.url.scheme == "https",
    )


def sent(answer: ConsoleResponse) -> Response:
    """Turn an answer of the console's into one of Starlette's."""
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, answer.headers)
    return StreamingResponse(answer.body, answer.status, answer.headers)
