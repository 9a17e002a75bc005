"""What the Flask extension adds to a request that makes no LLM call, beside flask-limiter."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flask import Flask
from flask_limiter import Limiter

from token_limit_flask import TokenLimit

bare: ContextVar[Any] = ContextVar("bare", default=None)

_current: Flask


def _app() -> Flask:
    app = Flask("bench")

    @app.get("/")
    def view() -> bytes:
        return b"ok"

    return app


def _with_bare_contextvar() -> Flask:
    """Wrap an app with the least a middleware that knows the request can do."""
    app = _app()
    inner = app.wsgi_app

    def wrapped(environ: Any, start_response: Any) -> Any:
        token = bare.set(environ)
        try:
            return inner(environ, start_response)
        finally:
            bare.reset(token)

    app.wsgi_app = wrapped  # type: ignore[method-assign]
    return app


def _with_flask_limiter() -> Flask:
    app = _app()
    Limiter(lambda: "somebody", app=app, default_limits=["1000000/second"], storage_uri="memory://")
    return app


def _with_suite() -> Flask:
    app = _app()
    TokenLimit(app, store="memory://")
    return app


def _subject(app: Flask) -> Callable[[], Any]:
    @contextmanager
    def subject() -> Iterator[None]:
        global _current
        _current = app
        yield

    return subject


def subjects() -> dict[str, Callable[[], Any]]:
    """Return one app per extension."""
    return {
        "no middleware": _subject(_app()),
        "bare ContextVar middleware": _subject(_with_bare_contextvar()),
        "flask-limiter": _subject(_with_flask_limiter()),
        "token-limit-suite": _subject(_with_suite()),
    }


def requests(count: int) -> None:
    """Send requests through the current app."""
    for _ in range(count):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SERVER_NAME": "bench",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
        }
        response = _current(environ, lambda status, headers: None)
        b"".join(response)
        response.close()
