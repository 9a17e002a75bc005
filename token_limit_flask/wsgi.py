"""The WSGI middleware: a Scope around each request and its streamed body, and the answer to uncaught refusals.

Flask's request hooks cannot do this: they run before a streamed body is produced, or twice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask

from token_limit_core import Meter
from token_limit_core import scope as scopes
from token_limit_core.bodies import Body, peek
from token_limit_core.errors import LimitExceededException, refusal_in

from .conf import Settings
from .resolvers import RequestScope
from .responses import upgrade_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class ScopedApp:
    """Runs each request of an app inside a Scope."""

    def __init__(self, app: Flask, wsgi_app: WSGIApplication, settings: Settings, meter: Meter) -> None:
        self.app = app
        self.wsgi_app = wsgi_app
        self.settings = settings
        self.meter = meter

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request_scope = RequestScope(self.meter, self.settings)
        request_scope.accept_language = environ.get("HTTP_ACCEPT_LANGUAGE")
        response = ScopedResponse(start_response, request_scope)
        token = scopes.enter(request_scope)
        try:
            response.content = self.wsgi_app(environ, response.start)
        except Exception as error:
            request_scope.end()
            refused = refusal_in(error)
            if refused is None:
                raise
            return self._answer(refused, environ, start_response, sys.exc_info() if response.sent else None)
        finally:
            response.scope = scopes.current()
            scopes.leave(token)
        if "wsgi.file_wrapper" in environ and _is_file(response.content, environ["wsgi.file_wrapper"]):
            request_scope.end()
            response.release()
            return response.content
        return self._peek(response, environ) if response.held else response

    def _peek(self, response: ScopedResponse, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Read the first chunk while the status is held back; a refusal in it becomes the upgrade response."""
        try:
            peeked = peek(response)
        except Exception as error:
            response.close()
            refused = refusal_in(error)
            if refused is None:
                raise
            return self._answer(refused, environ, response.server, None)
        response.release()
        return peeked

    def _answer(
        self, refused: LimitExceededException, environ: WSGIEnvironment, start_response: StartResponse, exc_info: Any
    ) -> Iterable[bytes]:
        """Answer a refusal that the app has raised: in debug mode, in tests, or in a WSGI app below.

        With `exc_info` the server replaces a response that has begun, unless its headers are sent (PEP 3333).
        """
        start = start_response if exc_info is None else partial(_restart, start_response, exc_info)
        with self.app.request_context(environ):
            return upgrade_response(self.settings, refused.decision)(environ, start)


def _restart(start_response: StartResponse, exc_info: Any, status: str, headers: list[tuple[str, str]]) -> Any:
    return start_response(status, headers, exc_info)


class ScopedResponse(Body[bytes]):
    """One response: its start, and its body, whose steps and `close` run inside the Scope of the request.

    The start is held back while the response waits for its first chunk. Calling `start_response` twice with `exc_info`
    is no alternative: servers treat the headers of the first call differently.
    """

    sent: bool = False
    held: tuple[Any, ...] = ()
    _writer: Any = None

    def __init__(self, server: StartResponse, request: RequestScope) -> None:
        self.server = server
        self.request = request

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Start the response, or hold the start back; `start_response` of PEP 3333."""
        self.request.context = copy_context()  # later `g`, `request` and `current_user` are gone
        if self.request.works or self.request.unresolved:  # the tenant may be needed after the request
            self.request.tenant()
        if self.request.peeks:
            self.held = (status, headers) if exc_info is None else (status, headers, exc_info)
            return self._write
        self.sent = True
        return self.server(status, headers) if exc_info is None else self.server(status, headers, exc_info)

    def release(self) -> Any:
        """Start the response if its start was held back."""
        held, self.held = self.held, ()
        if held:
            self.sent = True
            return self.server(*held)

    def _write(self, data: bytes) -> None:
        self._writer = self.release() or self._writer
        self._writer(data)

    def close(self) -> None:
        """Close the body, whether it was read or not, and end the Scope of the request."""
        close = getattr(self.content, "close", None)
        token = scopes.enter(self.scope)
        try:
            if close is not None:
                close()
        finally:
            scopes.leave(token)
            self.request.end()


def _is_file(content: Any, wrapper: Any) -> bool:
    """Return whether the server can send the body as a file, which it cannot do with a wrapped body.

    Servers look for `fileno` or for their file wrapper (getsentry/sentry-python#5107).
    """
    return hasattr(content, "fileno") or (isinstance(wrapper, type) and isinstance(content, wrapper))
