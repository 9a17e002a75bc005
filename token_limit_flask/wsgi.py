"""The WSGI middleware: a Scope around each request and its streamed body, and the answer to what no handler caught.

Not request hooks: those run before a streamed body is produced, or twice (research: style section 3c).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask

from token_limit_core import Meter
from token_limit_core import scope as scopes
from token_limit_core.bodies import peek, stream
from token_limit_core.errors import LimitExceededException, refusal_in
from token_limit_core.scope import Scope

from .conf import Settings
from .resolvers import Payer
from .responses import upgrade_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class ScopedApp:
    """Gives each request of an app its Scope."""

    def __init__(self, app: Flask, wsgi_app: WSGIApplication, settings: Settings, meter: Meter) -> None:
        self.app = app
        self.wsgi_app = wsgi_app
        self.settings = settings
        self.meter = meter

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        payer = Payer(self.settings)
        own = Scope(meter=self.meter, resolve=payer.resolve, aresolve=payer.aresolve)
        own.peeks = self.settings.peek_streams
        start = Start(start_response, own, payer)
        scope: Scope | None = own
        service = scopes.serve(scope)
        try:
            content = self.wsgi_app(environ, start)
        except Exception as error:
            refused = refusal_in(error)
            if refused is None:
                raise
            return self._answer(refused, environ, start_response, sys.exc_info() if start.sent else None)
        finally:
            scope = scopes.current()
            scopes.end(service)
        if _is_file(content, environ):
            payer.context = None
            start.release()
            return content
        body = Body(content, scope, payer)
        return self._peek(body, environ, start) if start.held else body

    def _peek(self, body: Body, environ: WSGIEnvironment, start: Start) -> Iterable[bytes]:
        """Pull the first chunk while the status is held back; a refusal in it becomes the upgrade response."""
        try:
            peeked = peek(body)
        except Exception as error:
            body.close()
            refused = refusal_in(error)
            if refused is None:
                raise
            return self._answer(refused, environ, start.server, None)
        start.release()
        return peeked

    def _answer(
        self, refused: LimitExceededException, environ: WSGIEnvironment, start_response: StartResponse, exc_info: Any
    ) -> Iterable[bytes]:
        """Answer a refusal that left the app as an exception: in debug mode, in tests, from a WSGI app below.

        With `exc_info` the server takes the place of a response that had begun, unless it was sent already (PEP 3333).
        """
        start = start_response if exc_info is None else partial(_restart, start_response, exc_info)
        with self.app.request_context(environ):
            return upgrade_response(self.settings, refused.decision)(environ, start)


def _restart(start_response: StartResponse, exc_info: Any, status: str, headers: list[tuple[str, str]]) -> Any:
    return start_response(status, headers, exc_info)


class Start:
    """The server's `start_response`, held back while a response waits for its first chunk.

    Not started twice with `exc_info` instead: servers differ in what they make of the first one's headers.
    """

    def __init__(self, server: StartResponse, scope: Scope, payer: Payer) -> None:
        self.server = server
        self.sent = False
        self.held: tuple[Any, ...] = ()
        self._scope = scope
        self._payer = payer
        self._writer: Any = None

    def __call__(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self._payer.context = copy_context()  # the last moment at which `g`, `request` and `current_user` are there
        if self._scope.peeks:
            self.held = (status, headers, *exc_info)
            return self._write
        self.sent = True
        return self.server(status, headers, *exc_info)

    def release(self) -> Any:
        """Start the response that was held back, if one was."""
        held, self.held = self.held, ()
        if held:
            self.sent = True
            return self.server(*held)

    def _write(self, data: bytes) -> None:
        self._writer = self.release() or self._writer
        self._writer(data)


class Body:
    """A body whose every step, and its end, runs inside the request's Scope."""

    __slots__ = ("_content", "_payer", "_scope")

    def __init__(self, content: Iterable[bytes], scope: Scope | None, payer: Payer) -> None:
        self._content = content
        self._scope = scope
        self._payer = payer

    def __iter__(self) -> Iterator[bytes]:
        return stream(self._content, self._scope)

    def close(self) -> None:
        """End the body, read to its end or not, and let go of the request."""
        close = getattr(self._content, "close", None)
        service = scopes.serve(self._scope)
        try:
            if close is not None:
                close()
        finally:
            scopes.end(service)
            self._payer.context = None


def _is_file(content: Any, environ: WSGIEnvironment) -> bool:
    """Tell whether the server can send the body as a file, which it does only with the body it knows.

    Servers look for `fileno` or for their own wrapper (getsentry/sentry-python#5107).
    """
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper is not None and (
        hasattr(content, "fileno") or (isinstance(wrapper, type) and isinstance(content, wrapper))
    )
