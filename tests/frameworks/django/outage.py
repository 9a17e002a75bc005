"""A project whose database is away for a while: the tenant of a request is looked up in it, and so are our limits."""

from __future__ import annotations

import json
import os
from typing import Any

import django
import openai
from django.conf import settings

PROVIDER = os.environ["OUTAGE_PROVIDER"]
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "CONN_MAX_AGE": 600,
            "OPTIONS": {"connect_timeout": 5},
            **json.loads(os.environ["OUTAGE_DATABASE"]),
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "token_limit_django"],
    MIDDLEWARE=["token_limit_django.middleware.TokenLimitMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
    TOKEN_LIMIT={"HOSTS": {PROVIDER.split("/")[2]: "openai"}, "TENANT_RESOLVER": f"{__name__}.tenant_of"},
)
django.setup()

from django.contrib.auth.models import Group  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def tenant_of(request: HttpRequest) -> str:
    """Look a group up, which stands for an organization; an application must never trust such a header."""
    return Group.objects.get(name=request.headers["X-Group"]).name


def ask(request: HttpRequest) -> HttpResponse:
    with openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return HttpResponse("yes")


async def aask(request: HttpRequest) -> HttpResponse:
    async with openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return HttpResponse("yes")


urlpatterns = [path("ask/", ask), path("aask/", aask)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
