"""Applications whose requests leave a stream behind that nobody has read to its end, for servers that are stopped."""

from __future__ import annotations

import os
import time
from typing import Any

import openai

from token_limit_core import Meter, MeterConfig
from token_limit_core.meter import engine_of

PROVIDER = os.environ["LEAVING_PROVIDER"]
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]

meter = Meter(
    MeterConfig(store=os.environ["LEAVING_STORE"], hosts={PROVIDER.partition("//")[2].partition("/")[0]: "openai"})
).patch_all()  # before the fork, where the server preloads


def leave() -> str:
    """Drop a stream when the thread that settles it is busy for a while."""
    client = openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0)
    with meter.for_tenant("acme"):
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        next(iter(stream))
    engine_of(meter).settler.put(lambda: time.sleep(0.5))
    return str(os.getpid())


async def aleave() -> str:
    client = openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0)
    with meter.for_tenant("acme"):
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        await anext(aiter(stream))
    engine_of(meter).settler.put(lambda: time.sleep(0.5))
    return str(os.getpid())


def flask_app() -> Any:
    from flask import Flask

    app = Flask(__name__)
    app.add_url_rule("/", view_func=leave)
    return app


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from token_limit_starlette import TokenLimitMiddleware

    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await aleave())

    app = Starlette(routes=[Route("/", view)])
    app.add_middleware(TokenLimitMiddleware, meter=meter)
    return app
