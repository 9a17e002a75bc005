"""A project with Channels consumers, for daphne: `daphne tests.frameworks.django.consumers:app`."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import django
import openai
from django.conf import settings

PROVIDER = os.environ["CONSUMERS_PROVIDER"]
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]

settings.configure(
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    INSTALLED_APPS=["token_limit_django"],
    MIDDLEWARE=["token_limit_django.middleware.TokenLimitMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
    TOKEN_LIMIT={
        "STORE": os.environ["CONSUMERS_STORE"],
        "HOSTS": {PROVIDER.split("/")[2]: "openai"},
        "USER_TENANT_ATTRIBUTES": ["organization"],
        "UPGRADE_URL": "/plans/",
    },
)
django.setup()

from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from token_limit_core import LimitExceededException  # noqa: E402
from token_limit_django.channels import TokenLimitMiddleware  # noqa: E402

urlpatterns: list[Any] = []


def ask() -> str:
    with openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        return str(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).model)


async def aask() -> str:
    async with openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        return str((await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)).model)


class Async(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        await self.send(await aask())


class Sync(WebsocketConsumer):  # type: ignore[misc]
    def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        self.send(ask())


class Group(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Calls when a message comes over the channel layer."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()

    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("all", {"type": "answer"})

    async def answer(self, event: Any) -> None:
        await self.send(await aask())


class Handled(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        try:
            await self.send(await aask())
        except LimitExceededException as refused:
            await self.send(refused.decision.kind)


class Http(AsyncHttpConsumer):  # type: ignore[misc]
    async def handle(self, body: bytes) -> None:
        await self.send_response(200, json.dumps(await aask()).encode())


class Authentication:
    """Do what AuthMiddlewareStack does, with a token."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        user = SimpleNamespace(pk=name, is_authenticated=bool(name), organization=name.partition("@")[2] or None)
        await self.inner({**scope, "user": user}, receive, send)


routes = URLRouter(
    [
        path("async/", Async.as_asgi()),
        path("sync/", Sync.as_asgi()),
        path("group/", Group.as_asgi()),
        path("handled/", Handled.as_asgi()),
        path("http/", Http.as_asgi()),
    ]
)
stack = Authentication(TokenLimitMiddleware(routes))
app = ProtocolTypeRouter({"http": stack, "websocket": stack})
