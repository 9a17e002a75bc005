"""The usage of the current tenant: a page, JSON, a fragment for the app's templates, and headers, each opt-in.

The tenant is the one that the LLM calls of the request are metered for; a client cannot choose it.
"""

from __future__ import annotations

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from token_limit_core import scope
from token_limit_core.calls.engine import Engine
from token_limit_core.console import tenant_app, tenant_usage
from token_limit_core.console.tenant_usage import NO_LINKS, Links
from token_limit_core.errors import ConfigurationError
from token_limit_core.runtime.faults import internal_errors

from .console import refuse_websocket, to_request, to_response
from .options import KEY


def usage_page(*, login_url: str | None = None) -> ASGIApp:
    """Make the usage page as an ASGI application to mount inside `TokenLimitMiddleware`.

    Without a tenant it answers 401, or redirects to `login_url`.
    """

    async def app(asgi: Scope, receive: Receive, send: Send) -> None:
        if asgi["type"] != "http":
            await refuse_websocket(send)
            return
        engine, tenant_id = await _current()
        request = await to_request(Request(asgi, receive))
        answer = await run_in_threadpool(tenant_app.answer, request, engine, tenant_id, login_url, _links(asgi))
        await to_response(answer)(asgi, receive, send)

    return app


async def usage_fragment(request: HTTPConnection | None = None) -> Markup:
    """Render the usage of the current tenant as HTML to embed in a template; empty without a tenant.

    With the request it also links to the `upgrade_url` and `support_url` of the middleware.
    """
    found = Markup("")
    with internal_errors("rendering the usage fragment"):
        links = NO_LINKS if request is None else _links(request.scope)
        found = await run_in_threadpool(tenant_app.fragment, *await _current(), links)
    return found


class UsageHeadersMiddleware:
    """Add headers with what is left of the limit (`tenant_usage.headers`), if the request has resolved its tenant.

    Call `add_middleware` for it before `TokenLimitMiddleware`, so that it runs inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, asgi: Scope, receive: Receive, send: Send) -> None:
        if asgi["type"] != "http":
            await self.app(asgi, receive, send)
            return
        current = scope.current()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and current is not None and current.engine is not None:
                known = await run_in_threadpool(tenant_usage.headers, current.engine, current.tenant_id)
                MutableHeaders(scope=message).update(known)
            await send(message)

        await self.app(asgi, receive, send_with_headers)


def _links(asgi: Scope) -> Links:
    options = asgi.get(KEY)
    return NO_LINKS if options is None else Links(options.upgrade_url, options.support_url)


async def _current() -> tuple[Engine, str | None]:
    current = scope.current()
    if current is None or current.engine is None:
        raise ConfigurationError(
            "this request has no TokenLimitMiddleware; add it with app.add_middleware(TokenLimitMiddleware)"
        )
    return current.engine, await current.atenant()
