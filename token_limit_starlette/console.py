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

    `authorize(request)` returns the name of an authorized person or True, and None for all others. It may also
    raise `HTTPException`. A synchronous one runs in a thread. `meter` defaults to the Meter of `TokenLimitMiddleware`.
    Raises `ConfigurationError` for an `authorize` without a `secret`, which signs forms.
    """
    admin = Console(secret, authorize is not None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await refuse_websocket(send)
            return
        request = Request(scope, receive)
        allowed = None if authorize is None else await _ask(authorize, request)
        answer = await run_in_threadpool(
            admin.answer, await to_request(request), allowed, lambda: meter or _meter(scope)
        )
        await to_response(answer)(scope, receive, send)

    return app


async def _ask(authorize: Callable[[Request], Any], request: Request) -> object:
    if inspect.iscoroutinefunction(authorize):
        return await authorize(request)
    allowed = await run_in_threadpool(authorize, request)
    return await allowed if inspect.isawaitable(allowed) else allowed


async def refuse_websocket(send: Send) -> None:
    """Close a WebSocket with 1008 (policy violation): only HTTP is served."""
    await send({"type": "websocket.close", "code": 1008})


def _meter(scope: Scope) -> Meter:
    options = scope.get(KEY)
    if options is None:
        raise ConfigurationError(
            "meter: none given, and no TokenLimitMiddleware is around this application; add it, or pass meter="
        )
    return cast(Meter, options.meter)


async def to_request(request: Request) -> ConsoleRequest:
    """Convert a Starlette request into one of the console."""
    root, path = request.scope.get("root_path", "").rstrip("/"), request.scope["path"]
    mount = root
    if not f"{path}/".startswith(f"{root}/"):  # a proxy has stripped its prefix: only links contain it
        mount = root.removeprefix(request.scope.get("app_root_path", "").rstrip("/"))
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            break
    return ConsoleRequest(
        method=request.method,
        path=path.removeprefix(mount).removeprefix("/"),
        mount=root,
        query=request.scope["query_string"].decode("latin-1"),
        headers=dict(request.headers),
        body=body,
        secure=request.url.scheme == "https",
    )


def to_response(answer: ConsoleResponse) -> Response:
    """Convert an answer of the console into a Starlette response."""
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, answer.headers)
    return StreamingResponse(answer.body, answer.status, answer.headers)
