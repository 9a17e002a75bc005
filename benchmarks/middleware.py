"""What the Django middleware adds to a request that makes no LLM call, beside django-ratelimit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_ratelimit.decorators import ratelimit

bare: ContextVar[Any] = ContextVar("bare", default=None)


class BareContextVarMiddleware:
    """The least a middleware that knows the request can do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = bare.set(request)
        try:
            return self.get_response(request)
        finally:
            bare.reset(token)


def view(request: HttpRequest) -> HttpResponse:
    """Answer at once."""
    return HttpResponse(b"ok")


limited = ratelimit(key=lambda group, request: "somebody", rate="1000000/s")(view)

urlpatterns = [path("", view), path("limited/", limited)]

_current: WSGIHandler
_path: str


def _handler(middleware: list[str], address: str = "/") -> Callable[[], Any]:
    settings.MIDDLEWARE = middleware
    handler = WSGIHandler()

    @contextmanager
    def subject() -> Iterator[None]:
        global _current, _path
        _current, _path = handler, address
        yield

    return subject


def subjects() -> dict[str, Callable[[], Any]]:
    """Return one WSGI handler per middleware; django-ratelimit decorates a view."""
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=__name__,
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="bench",
            INSTALLED_APPS=["token_limit_django"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            TOKEN_LIMIT={"STORE": "memory://"},
        )
        django.setup()
    return {
        "no middleware": _handler([]),
        "bare ContextVar middleware": _handler([f"{__name__}.BareContextVarMiddleware"]),
        "django-ratelimit": _handler([], "/limited/"),
        "token-limit-suite": _handler(["token_limit_django.middleware.TokenLimitMiddleware"]),
    }


def requests(count: int) -> None:
    """Send requests through the current handler."""
    for _ in range(count):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": _path,
            "SERVER_NAME": "bench",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
        }
        response = _current(environ, lambda status, headers: None)
        b"".join(response)
        response.close()
