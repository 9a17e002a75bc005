"""The URLs of Django's frameworks: django-ninja and REST framework, in debug mode."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import path
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from .apis import awork, work

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
    return "refused"


urlpatterns = [path("rest/<kind>", rest), path("", api.urls)]
