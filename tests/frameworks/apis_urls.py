"""The URLs of Django's frameworks: django-ninja and REST framework, in debug mode."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.urls import path
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from token_limit_django.decorators import check_limit

from .apis import awork, swallow, work

api = NinjaAPI()


@api.get("/async/{kind}")
async def alone(request: HttpRequest, kind: str) -> str:
    return await awork(kind)


@api.get("/{kind}")
def plain(request: HttpRequest, kind: str) -> str:
    return work(kind)


@api_view(["GET"])
def rest(request: Request, kind: str) -> Response:
    return Response(work(kind))


def tenant_of(request: HttpRequest) -> str:
    return request.headers.get("X-Tenant", "refused")


def swallowing(request: HttpRequest, kind: str) -> HttpResponse:
    text, status = swallow(kind)
    return HttpResponse(text, status=status)


@check_limit()
async def alone_swallowing(request: HttpRequest, kind: str) -> HttpResponse:
    text, status = await sync_to_async(swallow)(kind)
    return HttpResponse(text, status=status)


def cors(get_response: Any) -> Any:
    """Add a header to every response."""

    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    return middleware


urlpatterns = [
    path("rest/<kind>", rest),
    path("swallowing/checked/async/<kind>", alone_swallowing),
    path("swallowing/checked/<kind>", check_limit(swallowing)),
    path("swallowing/<kind>", swallowing),
    path("", api.urls),
]
