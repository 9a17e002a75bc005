"""Django Channels: the calls of a consumer are paid by the user of its connection.

    ProtocolTypeRouter({"websocket": AuthMiddlewareStack(TokenLimitMiddleware(URLRouter(routes)))})

It goes inside of what sets `scope["user"]`. HTTP that Django itself serves has the middleware in MIDDLEWARE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.request import HttpHeaders

from token_limit_core import scope as scopes
from token_limit_core.errors import refusal_in
from token_limit_core.limits import Decision
from token_limit_core.refusal_log import calm_servers
from token_limit_core.upgrade import close_frame, render

from .conf import settings
from .meter import get_meter
from .resolvers import RequestScope

logger: logging.Logger = logging.getLogger("token_limit")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class TokenLimitMiddleware:
    """Gives each connection of a consumer its Scope, and answers a refusal that leaves the consumer.

    HTTP gets the upgrade response if nothing was sent; a WebSocket is closed with the code 4000 + status, such as 4402.
    """

    def __init__(self, inner: Callable[[dict[str, Any], Receive, Send], Awaitable[None]]) -> None:
        self.inner = inner
        calm_servers()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if not settings.ENABLED or scope["type"] not in ("http", "websocket"):
            await self.inner(scope, receive, send)
            return
        outbox = _Outbox(send)
        exchange = RequestScope(cast(HttpRequest, Connection(scope)), get_meter(), asyncio.get_running_loop())
        exchange.accept_language = Connection(scope).headers.get("Accept-Language")
        token = scopes.enter(exchange)
        try:
            await self.inner(scope, receive, outbox.send)
        except Exception as error:
            refused = refusal_in(error)
            if refused is None or outbox.answered:
                raise
            await _answer(refused.decision, scope, send, exchange.language)
        finally:
            scopes.leave(token)
            exchange.end()


class Connection:
    """What a TENANT_RESOLVER gets for a consumer in place of a request.

    `scope` is that of the connection; `user`, `session` and `tenant` are its entries, None where it has none.
    """

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.session: Any = scope.get("session")
        self.tenant: Any = scope.get("tenant")

    @property
    def user(self) -> Any:
        """The user of the connection."""
        if "user" not in self.scope:
            _warn_of_missing_user()
        return self.scope.get("user")

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request that opened the connection."""
        pairs = {name.decode("latin1"): value.decode("latin1") for name, value in self.scope.get("headers", ())}
        return HttpHeaders({HttpHeaders.to_wsgi_name(name): value for name, value in pairs.items()})


@cache
def _warn_of_missing_user() -> None:
    logger.warning(
        "a consumer's scope has no user, so its calls have no tenant; put TokenLimitMiddleware inside of "
        "AuthMiddlewareStack, or of what sets scope['user']"
    )


class _Outbox:
    """Knows whether a connection has been answered."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.answered = False

    async def send(self, message: dict[str, Any]) -> None:
        """Pass a message on."""
        self.answered = self.answered or message["type"] in ("http.response.start", "websocket.close")
        await self._send(message)


async def _answer(decision: Decision, scope: dict[str, Any], send: Send, language: str) -> None:
    if scope["type"] == "websocket":
        code, reason = close_frame(decision, language)
        await send({"type": "websocket.close", "code": code, "reason": reason})
        return
    accept = Connection(scope).headers.get("Accept")
    upgrade_url, support_url = settings.UPGRADE_URL, settings.SUPPORT_URL
    rendered = await sync_to_async(render)(
        decision, accept, upgrade_url=upgrade_url, support_url=support_url, language=language
    )
    headers = [(name.encode("latin1"), value.encode("latin1")) for name, value in rendered.headers.items()]
    await send({"type": "http.response.start", "status": rendered.status, "headers": headers})
    await send({"type": "http.response.body", "body": rendered.body})
