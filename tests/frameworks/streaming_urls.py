"""The URLs of the streaming service in Django: each view for a server of its own kind."""

from __future__ import annotations

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from rest_framework import authentication, views
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from token_limit_core.bodies import peek_stream
from token_limit_django.meter import get_meter

from .streaming import SSE, abody, body, letters


def wsgi(request: HttpRequest, how: str, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(body(how, text), content_type=SSE)


async def asgi(request: HttpRequest, how: str, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(abody(how, text), content_type=SSE)


class Caller:
    """Somebody whom only the view knows."""

    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.pk = name


class ByToken(authentication.BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, None]:
        return Caller(request.headers["Authorization"].removeprefix("Token ")), None


class Api(views.APIView):
    authentication_classes = [ByToken]
    renderer_classes = [JSONRenderer]

    def get(self, request: Request) -> Response:
        list(letters("*"))
        return Response({"paid": get_meter().current_tenant_id})


def tenant_of(request: HttpRequest) -> str | None:
    return request.headers.get("X-Tenant") or getattr(getattr(request, "user", None), "pk", None)


urlpatterns = [
    path("api/", Api.as_view()),
    path("asgi/api/", Api.as_view()),
    path("asgi/peeked/<text>", peek_stream(asgi), {"how": "peeked"}),
    path("asgi/peeked-ended/<text>", peek_stream(asgi), {"how": "peeked-ended"}),
    path("asgi/peeked-task/<text>", peek_stream(asgi), {"how": "peeked-task"}),
    path("asgi/<how>/<text>", asgi),
    path("peeked/<text>", peek_stream(wsgi), {"how": "peeked"}),
    path("peeked-task/<text>", peek_stream(wsgi), {"how": "peeked-task"}),
    path("peeked-ended/<text>", peek_stream(wsgi), {"how": "peeked-ended"}),
    path("<how>/<text>", wsgi),
]
