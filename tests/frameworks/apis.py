"""Refused calls in frameworks that answer exceptions themselves, for real servers.

`/ask` and `/wrapped` let a refusal out, and `/broken` has a fault of its own. Other applications swallow every
exception: `/error` answers 503, `/text` 200, `/own` with the refusal's own status. `/checked/...` check the limit.
"""

from __future__ import annotations

import os
from typing import Any

import openai

from token_limit_core import LimitExceededException

PROVIDER = os.environ.get("APIS_PROVIDER", "")
HOSTS = {PROVIDER.partition("//")[2].partition("/")[0]: "openai"}
MESSAGES: Any = [{"role": "user", "content": "What does a limit do?"}]


def ask() -> str:
    with openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        return str(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).model)


async def aask() -> str:
    async with openai.AsyncOpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        return str((await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)).model)


def work(kind: str) -> str:
    if kind == "broken":
        raise ZeroDivisionError
    try:
        return ask()
    except LimitExceededException as error:
        if kind == "wrapped":
            raise RuntimeError("the answer could not be made") from error
        raise


async def awork(kind: str) -> str:
    if kind == "broken":
        raise ZeroDivisionError
    try:
        return await aask()
    except LimitExceededException as error:
        if kind == "wrapped":
            raise RuntimeError("the answer could not be made") from error
        raise


def swallow(kind: str) -> tuple[str, int]:
    """Call, and answer whatever happens; return a text and a status."""
    try:
        return ask(), 200
    except LimitExceededException as refused:
        return "sorry", {"error": 503, "text": 200, "own": refused.decision.status}[kind]
    except Exception:
        return "sorry", 500


def flask() -> Any:
    from flask import Flask

    from token_limit_flask import TokenLimit, check_limit, get_meter

    app = Flask(__name__)
    TokenLimit(
        app, store="memory://", hosts=HOSTS, tenant_resolver=lambda request: request.headers.get("X-Tenant"),
        render_swallowed_refusals=True,
    )  # fmt: skip
    get_meter(app).set_limit("refused", 0)
    app.get("/<kind>")(swallow)
    app.get("/checked/<kind>", endpoint="checked")(check_limit(swallow))

    @app.get("/checked/async/<kind>")
    @check_limit()
    async def alone(kind: str) -> tuple[str, int]:
        return swallow(kind)

    @app.after_request
    def added(response: Any) -> Any:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    return app


def restx() -> Any:
    from flask import Flask
    from flask_restx import Api, Resource

    from token_limit_flask import TokenLimit, get_meter

    app = Flask(__name__)
    TokenLimit(app, store="memory://", hosts=HOSTS, tenant_resolver=lambda request: "refused")
    get_meter(app).set_limit("refused", 0)
    api = Api(app)

    @api.route("/<kind>")
    class Work(Resource):  # type: ignore[misc]
        def get(self, kind: str) -> Any:
            return {"model": work(kind)}

    return app


def fastapi() -> Any:
    from fastapi import FastAPI

    from token_limit_core import Meter, MeterConfig
    from token_limit_starlette import TokenLimitMiddleware

    app = FastAPI()
    meter = Meter(MeterConfig(store="memory://", hosts=HOSTS))
    meter.set_limit("refused", 0)
    app.add_middleware(TokenLimitMiddleware, meter=meter, resolver=lambda connection: "refused")
    app.get("/async/{kind}")(awork)
    app.get("/{kind}")(work)
    return app


def swallowing() -> Any:
    from fastapi import Depends, FastAPI
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import PlainTextResponse

    from token_limit_core import Meter, MeterConfig
    from token_limit_starlette import TokenLimitMiddleware
    from token_limit_starlette.dependencies import check_limit

    app = FastAPI()
    meter = Meter(MeterConfig(store="memory://", hosts=HOSTS))
    meter.set_limit("refused", 0)
    app.add_middleware(
        TokenLimitMiddleware, meter=meter, resolver=lambda connection: connection.headers.get("X-Tenant"),
        render_swallowed_refusals=True,
    )  # fmt: skip
    app.add_middleware(CORSMiddleware, allow_origins=["*"])

    def answer(kind: str) -> PlainTextResponse:
        return PlainTextResponse(*swallow(kind))

    async def alone(kind: str) -> PlainTextResponse:
        return PlainTextResponse(*swallow(kind))

    app.get("/checked/async/{kind}", dependencies=[Depends(check_limit)])(alone)
    app.get("/checked/{kind}", dependencies=[Depends(check_limit)])(answer)
    app.get("/{kind}")(answer)
    return app


def _django() -> None:
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=True,
        INSTALLED_APPS=["token_limit_django"],
        MIDDLEWARE=["tests.frameworks.apis_urls.cors", "token_limit_django.middleware.TokenLimitMiddleware"],
        REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
        ROOT_URLCONF="tests.frameworks.apis_urls",
        SECRET_KEY="for tests only",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        TOKEN_LIMIT={
            "STORE": "memory://",
            "HOSTS": HOSTS,
            "TENANT_RESOLVER": "tests.frameworks.apis_urls.tenant_of",
            "RENDER_SWALLOWED_REFUSALS": bool(os.environ.get("APIS_RENDER")),
        },
    )
    django.setup()
    from token_limit_django.meter import get_meter

    get_meter().set_limit("refused", 0)


def django_wsgi() -> Any:
    _django()
    from django.core.handlers.wsgi import WSGIHandler

    return WSGIHandler()


def django_asgi() -> Any:
    _django()
    from django.core.handlers.asgi import ASGIHandler

    return ASGIHandler()
