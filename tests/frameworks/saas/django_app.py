"""The application as Django's and as REST framework's, over WSGI and ASGI; SAAS_ORDER tells where ours stands."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import django
from django.conf import settings

from .work import ASYNC, HOSTS, PEOPLE, STORE, SYNC, astream, bounded, person, produced, pumped, stream

OURS = "token_limit_django.middleware.TokenLimitMiddleware"
AUTH = f"{__name__}.Authentication"
GZIP = "django.middleware.gzip.GZipMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
ORDERS = {
    "outermost": [OURS, SESSION, AUTH, GZIP],
    "innermost": [GZIP, SESSION, AUTH, OURS],
    "between": [SESSION, OURS, GZIP, AUTH],
    "rest": [GZIP, OURS],
}

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["token_limit_django"],
    MIDDLEWARE=ORDERS[os.environ.get("SAAS_ORDER", "outermost")],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    TOKEN_LIMIT={"STORE": STORE, "HOSTS": HOSTS, "USER_TENANT_ATTRIBUTES": ["organization"]},
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connections  # noqa: E402
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


def user(name: str) -> Any:
    return SimpleNamespace(pk=name, is_authenticated=True, organization=PEOPLE[name])


class Authentication:
    """Sign people in by their token."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = person(request.headers.get("Authorization"))
        request.user = SimpleNamespace(is_authenticated=False) if name is None else user(name)  # type: ignore[assignment]
        return self.get_response(request)


def closing(question: str) -> str:
    """Close the database connections around the call, as code that calls for long does."""
    connections["default"].ensure_connection()
    connections.close_all()
    try:
        return SYNC["ask"](question)
    finally:
        connections.close_all()


def do(request: HttpRequest, kind: str) -> HttpResponseBase:
    question = request.GET["q"]
    if kind in ("stream", "pumped"):
        return StreamingHttpResponse({"stream": stream, "pumped": pumped}[kind](question), content_type="text/plain")
    return HttpResponse({**SYNC, "closing": closing}[kind](question))


async def ado(request: HttpRequest, kind: str) -> HttpResponseBase:
    question = request.GET["q"]
    if kind in ("astream", "produced", "bounded"):
        body = {"astream": astream, "produced": produced, "bounded": bounded}[kind]
        return StreamingHttpResponse(body(question), content_type="text/plain")
    return HttpResponse(await ASYNC[kind](question))


class Tokens(BaseAuthentication):
    """Sign in inside the view, as REST framework does."""

    def authenticate(self, request: Any) -> tuple[Any, None] | None:
        name = person(request.headers.get("Authorization"))
        return None if name is None else (user(name), None)


class Do(APIView):
    authentication_classes = [Tokens]

    def get(self, request: Any, kind: str) -> Any:
        if kind == "stream":
            return StreamingHttpResponse(stream(request.GET["q"]), content_type="text/plain")
        return Response(SYNC[kind](request.GET["q"]))


urlpatterns = [path("do/<kind>", do), path("ado/<kind>", ado), path("rest/<kind>", Do.as_view())]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
