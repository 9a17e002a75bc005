"""The tenant's own usage: a page with JSON beside it, a fragment for the app's templates, and headers, each opt-in.

The tenant is the one that the request's LLM calls are metered for; nothing a client sends chooses it.
"""

from __future__ import annotations

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from token_limit_core import scope
from token_limit_core.calls.engine import Engine
from token_limit_core.console import tenant_app as own_app
from token_limit_core.console import tenant_usage as own
from token_limit_core.errors import ConfigurationError
from token_limit_core.runtime.faults import internal_errors

from .console import asked, refuse_websocket, sent


def usage_page(*, login_url: str | None = None) -> ASGIApp:
    """Make the tenant's own page as an ASGI application to mount inside `TokenLimitMiddleware`.

    Without a tenant it answers 401, or sends people to `login_url`.
    """

    async def app(asgi: Scope, receive: Receive, send: Send) -> None:
        if asgi["type"] != "http":
            await refuse_websocket(send)
            return
        engine, tenant_id = await _current()
        request = await asked(Request(asgi, receive))
        answer = await run_in_threadpool(own_app.answer, request, engine, tenant_id, login_url)
        await sent(answer)(asgi, receive, send)

    return app


async def usage_fragment() -> Markup:
    """Make the current tenant's usage as HTML to embed, for a template's context; empty without a tenant."""
    found = Markup("")
    with internal_errors("making the usage fragment"):
        found = await run_in_threadpool(own_app.fragment, *await _current())
    return found


class UsageHeadersMiddleware:
    """Have responses to requests that asked for their tenant tell what is left of its limit (`own.headers`).

    Add it before `TokenLimitMiddleware`, so that it is inside of that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, asgi: Scope, receive: Receive, send: Send) -> None:
        if asgi["type"] != "http":
            await self.app(asgi, receive, send)
            return
        current = scope.current()

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and current is not None and current.engine is not None:
                known = await run_in_threadpool(own.headers, current.engine, current.tenant_id)
                MutableHeaders(scope=message).update(known)
            await send(message)

        await self.app(asgi, receive, tell)


async def _current() -> tuple[Engine, str | None]:
    current = scope.current()
    if current is None or current.engine is None:
        raise ConfigurationError("usage: add TokenLimitMiddleware to the application with add_middleware()")
    return current.engine, await current.atenant()
