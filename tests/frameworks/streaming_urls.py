"""The URLs of the streaming service in Django: each view for a server of its own kind."""

from __future__ import annotations

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from token_limit_core.bodies import peek_stream

from .streaming import SSE, abody, body


def wsgi(request: HttpRequest, how: str, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(body(how, text), content_type=SSE)


async def asgi(request: HttpRequest, how: str, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(abody(how, text), content_type=SSE)


urlpatterns = [
    path("asgi/peeked/<text>", peek_stream(asgi), {"how": "peeked"}),
    path("asgi/peeked-ended/<text>", peek_stream(asgi), {"how": "peeked-ended"}),
    path("asgi/<how>/<text>", asgi),
    path("peeked/<text>", peek_stream(wsgi), {"how": "peeked"}),
    path("peeked-ended/<text>", peek_stream(wsgi), {"how": "peeked-ended"}),
    path("<how>/<text>", wsgi),
]
