"""Streamed views that call an LLM in their bodies, and an API of Django REST framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from rest_framework import authentication, permissions, renderers, views
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.request import Request
from rest_framework.response import Response

from token_limit_core.bodies import aend_refused_stream, end_refused_stream, peek_stream
from token_limit_django.drf import refusals_first
from token_limit_django.meter import get_meter

from .views import aask, ask

closed: list[str] = []


class Chunks:
    """A synchronous body that wants to be closed; each `*` in its text is a call."""

    def __init__(self, text: str) -> None:
        self._text = iter(text)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        letter = next(self._text)
        if letter == "*":
            ask()
        if letter == "!":
            raise ZeroDivisionError
        return f"data: {letter}\n\n"

    def close(self) -> None:
        closed.append("sync")


def asking_at_its_end() -> Iterator[str]:
    try:
        yield "data: 1\n\n"
        yield "data: 2\n\n"
    finally:
        ask()


def left(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(asking_at_its_end(), content_type="text/event-stream")


async def achunks(text: str) -> AsyncIterator[str]:
    for letter in text:
        if letter == "*":
            await aask()
        if letter == "!":
            raise ZeroDivisionError
        yield f"data: {letter}\n\n"


def stream(request: HttpRequest, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(Chunks(text), content_type="text/event-stream")


async def astream(request: HttpRequest, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(achunks(text), content_type="text/event-stream")


def ended(request: HttpRequest, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(end_refused_stream(Chunks(text), "/plans/"), content_type="text/event-stream")


async def aended(request: HttpRequest, text: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(aend_refused_stream(achunks(text), "/plans/"), content_type="text/event-stream")


class PlainXMLRenderer(renderers.BaseRenderer):
    """A renderer that is neither JSON nor HTML."""

    media_type = "application/xml"
    format = "xml"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return f"<kind>{data['kind']}</kind>".encode() if "kind" in data else b"<ok/>"


class Ask(views.APIView):
    """An endpoint whose caller is known by a token, so only inside the view."""

    authentication_classes = [authentication.TokenAuthentication]
    permission_classes = [permissions.IsAuthenticated]
    renderer_classes = [renderers.JSONRenderer, renderers.BrowsableAPIRenderer, PlainXMLRenderer]

    def get(self, request: Request) -> Response:
        ask()
        return Response({"answer": "yes"})

    def post(self, request: Request) -> Response:
        """Write, then call: what was written goes with the refusal where requests are atomic."""
        from django.contrib.auth.models import Group

        Group.objects.create(name="written before the refusal")
        try:
            ask()
        except Exception as error:
            raise RuntimeError("the answer could not be made") from error
        return Response({"answer": "yes"})


@api_view(["GET"])
@authentication_classes([authentication.TokenAuthentication])
@peek_stream
def api_stream(request: Request) -> StreamingHttpResponse:
    return StreamingHttpResponse(Chunks("*"), content_type="text/event-stream")


@refusals_first
def own_handler(exc: Exception, context: dict[str, Any]) -> Response:
    return Response({"own": type(exc).__name__}, status=418)


def tenant_by_host(get_response: Any) -> Any:
    """Set `request.tenant` from the host name, as django-tenants' middleware does."""

    class Organization:
        def __init__(self, pk: str) -> None:
            self.pk = pk

    def middleware(request: HttpRequest) -> Any:
        request.tenant = Organization(request.get_host().partition(".")[0])  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def tenant_of(request: HttpRequest) -> Any:
    """Take the host's word, signed in or not."""
    return request.tenant  # type: ignore[attr-defined]


def spent() -> dict[str, int]:
    return {tenant: get_meter().store.spend(tenant, 0, 4e9).calls for tenant in ("acme", "globex", "")}


urlpatterns = [
    path("stream/<text>/", stream),
    path("astream/<text>/", astream),
    path("peeked/<text>/", peek_stream(stream)),
    path("apeeked/<text>/", peek_stream(astream)),
    path("ended/<text>/", ended),
    path("aended/<text>/", aended),
    path("peeked-ended/<text>/", peek_stream(ended)),
    path("apeeked-ended/<text>/", peek_stream(aended)),
    path("left/", left),
    path("api/ask/", Ask.as_view()),
    path("api/stream/", api_stream),
]
