"""The middleware: a Scope around each request and WebSocket, their bodies and tasks, and the upgrade response.

Pure ASGI. The tenant is resolved at the first LLM call, so the middleware may be before or after authentication.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Send

from token_limit_core import Meter
from token_limit_core import scope as scopes
from token_limit_core.errors import ConfigurationError, refusal_in
from token_limit_core.exchange import Exchange
from token_limit_core.limits import Decision
from token_limit_core.meter import engine_of
from token_limit_core.refusal_log import calm_servers
from token_limit_core.runtime.executor import on_loop
from token_limit_core.runtime.faults import internal_errors
from token_limit_core.runtime.language import preferred
from token_limit_core.scope import Scope
from token_limit_core.upgrade import close_frame

from .options import KEY, Answer, Options, Page, Resolver, make_meter
from .resolvers import aresolve, resolve
from .responses import upgrade_response as answer_of

FLUSH_SECONDS = 10.0
DENIAL = "websocket.http.response"
"""The ASGI extension that lets a server refuse a WebSocket with a whole HTTP response."""


class TokenLimitMiddleware:
    """Meters the LLM calls of an ASGI application: `app.add_middleware(TokenLimitMiddleware, ...)`.

    Takes a `meter`, or the options of `MeterConfig` to make one. `resolver(connection)`, sync or async, returns the
    tenant; without it the module `resolvers` does. `upgrade_url` and `support_url` are links of the upgrade response,
    `upgrade_page(values)` renders its HTML, and `upgrade_response(connection, decision)`, sync or async, replaces it.
    With `peek_streams` every response waits for its first chunk, so that a refusal before that is answered with 402.
    An invalid option raises `ConfigurationError` when the application starts.
    """

    def __init__(
        self,
        app: ASGIApp,
        meter: Meter | None = None,
        *,
        resolver: Resolver | None = None,
        user_tenant_attributes: Sequence[str] = (),
        upgrade_url: str | None = None,
        upgrade_response: Answer | None = None,
        upgrade_page: Page | None = None,
        peek_streams: bool = False,
        render_swallowed_refusals: bool = False,
        support_url: str | None = None,
        **config: Any,
    ) -> None:
        self.app = app
        self._fault: ConfigurationError | None = None
        try:
            self.options: Options = Options(
                make_meter(meter, config),
                resolver,
                user_tenant_attributes,
                upgrade_url,
                upgrade_response,
                upgrade_page,
                peek_streams,
                render_swallowed_refusals,
                support_url,
            )
            self.options.meter.patch_all()
            calm_servers()
        except ConfigurationError as error:
            if not on_loop():
                raise
            # Starlette creates its middleware on the first ASGI event, the lifespan. If that raises, uvicorn (lifespan
            # "auto") assumes an application without lifespan and serves it. So `_lifespan` reports the failure.
            self._fault = error

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if self._fault is not None:
            raise self._fault
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope[KEY] = options = self.options
        loop = _running_loop()
        exchange = Exchange(
            engine=engine_of(options.meter),
            loop=loop,
            resolve=partial(resolve, options, scope, loop),
            aresolve=partial(aresolve, options, scope, loop),
        )
        exchange.peeks = options.peek_streams
        exchange.accept_language = _accept_language(scope)
        outbox = _Outbox(exchange, send, options.render_swallowed_refusals)
        token = scopes.enter(exchange)
        try:
            await self.app(scope, receive, outbox.send)
        except Exception as error:
            refused = refusal_in(error)
            if refused is None or not await _answer(refused.decision, scope, receive, outbox):
                await outbox.fail()
                raise
        else:
            if outbox.swallowed is not None:
                await _answer(outbox.swallowed, scope, receive, outbox)
            elif outbox.kept:
                await outbox.release()
        finally:
            scopes.leave(token)
            exchange.end()

    async def _lifespan(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Stop a server with invalid options; flush settled calls when the server shuts down."""
        if self._fault is not None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": f"token-limit: {self._fault}"})
            raise self._fault
        meter = self.options.meter

        async def flush_first(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                with internal_errors("flushing the meter"):
                    engine_of(meter).settler.collect()  # settle streams that were cut off by the shutdown
                    await run_in_threadpool(meter.flush, FLUSH_SECONDS)
            await send(message)

        await self.app(scope, receive, flush_first)


class _Outbox:
    """The messages that have been sent on one connection.

    A 500 after a refusal is kept until the application has ended: an inner application, mounted or wrapped, sends the
    500 first and then raises the error, which shows whether the refusal caused it.
    If the Scope has `peeks`, the start of every response is kept until its first chunk.
    With `renders` an error response after a refusal is also kept, and the upgrade response replaces it.
    """

    __slots__ = ("_peeking", "_renders", "_scope", "_send", "accepted", "kept", "started", "swallowed")

    def __init__(self, scope: Scope, send: Send, renders: bool) -> None:
        self._scope = scope
        self._send = send
        self._renders = renders
        self.swallowed: Decision | None = None
        self.kept: list[Message] | None = None
        self._peeking = False
        self.started = False
        self.accepted = False

    async def send(self, message: Message) -> None:
        """Send a message, or keep it."""
        kind = message["type"]
        if kind == "http.response.start":
            if self._renders and not self.started:
                self.swallowed = self._scope.swallowed(message["status"])
            if self.swallowed is not None or (
                message["status"] == 500 and self._scope.denial is not None and not self.started
            ):
                self.kept = []
            elif self._scope.peeks and not self.started:
                self.kept, self._peeking = [], True
            else:
                self.started = True
        elif self._peeking and kind.startswith("http.response.") and not _is_empty(message):
            self._peeking, self.started = False, True
            await self.release()
        elif kind == "websocket.accept":
            self.accepted = True
        elif kind in ("websocket.close", "websocket.http.response.start"):
            self.started = True
        if self.kept is None:
            await self._send(message)
        else:
            self.kept.append(message)

    async def release(self) -> None:
        """Send the kept messages."""
        kept, self.kept = self.kept, None
        for message in kept or ():
            await self._send(message)

    async def fail(self) -> None:
        """Send the kept messages before the error is raised; drop a start without a chunk, so the server sends 500."""
        if self._peeking:
            self.drop()
        await self.release()

    def drop(self) -> None:
        """Drop the kept messages: another answer replaces them."""
        self.kept, self._peeking, self.swallowed = None, False, None


def _is_empty(message: Message) -> bool:
    """Return whether a message is an empty chunk before the end of the body."""
    return message["type"] == "http.response.body" and not message.get("body") and bool(message.get("more_body"))


def _accept_language(scope: MutableMapping[str, Any]) -> str | None:
    return next((value.decode("latin1") for name, value in scope["headers"] if name == b"accept-language"), None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that serves a connection; None if it is not an asyncio loop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _answer(decision: Decision, scope: MutableMapping[str, Any], receive: Receive, outbox: _Outbox) -> bool:
    """Answer a refusal that the application has raised; return False if its response has begun."""
    if outbox.started:
        return False
    outbox.drop()
    if scope["type"] == "http" or (not outbox.accepted and DENIAL in (scope.get("extensions") or {})):
        response = await answer_of(HTTPConnection(scope), decision)
        await response(scope, receive, outbox.send)
    else:
        code, reason = close_frame(decision, preferred(_accept_language(scope)))
        await outbox.send({"type": "websocket.close", "code": code, "reason": reason})
    return True
