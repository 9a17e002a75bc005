"""The short pieces of Python in the pages: each runs with the names that the text around it is about."""

from __future__ import annotations

import logging.config
import queue
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import fastapi
import openai
import pytest
from django.urls import include, path
from django.utils.module_loading import import_string
from fastapi.testclient import TestClient
from flask import Flask, Response, request
from starlette.applications import Starlette
from starlette.middleware import Middleware

from tests.pages import PAGES, blocks
from token_limit_core import Decision, LimitExceededException, LimitExhausted, Meter, MeterConfig, patches
from token_limit_core.errors import TenantSuspended
from token_limit_core.patches import PATCH_REGISTRY
from token_limit_core.testing import FakeProvider
from token_limit_flask import TokenLimit, get_meter
from token_limit_flask import console as flask_console
from token_limit_flask import usage as flask_usage
from token_limit_starlette import TokenLimitMiddleware
from token_limit_starlette import usage as starlette_usage

Names = dict[str, Any]


class Client:
    """The SDK of the page's provider."""

    def generate(self, prompt: str) -> SimpleNamespace:
        return SimpleNamespace(model="mistral-small-2506", tokens_in=3, tokens_out=4)

    async def agenerate(self, prompt: str) -> SimpleNamespace:
        return self.generate(prompt)


class Place(NamedTuple):
    """What a piece of code is run with."""

    meter: Meter
    provider: FakeProvider
    events: list[Any]


class Snippet(NamedTuple):
    """The block of a page that begins with `start`: the names it is given, and what is looked at afterwards.

    With `lines`, each line is for another framework and has names of its own.
    """

    page: str
    start: str
    given: Callable[[Place], Names | list[Names]] = lambda place: {}
    check: Callable[[Place, Names], object] = lambda place, names: None


def _flask(place: Place, **config: Any) -> Flask:
    app = Flask("x")
    hosts = {place.provider.host: "openai"}
    app.config.update(TOKEN_LIMIT_STORE="memory://", TOKEN_LIMIT_HOSTS=hosts, **config)
    TokenLimit(app)
    return app


def _staff(place: Place) -> Names:
    user = SimpleNamespace(is_staff=True, email="ann@example.com")
    return {"console": flask_console.console, "current_user": user}


def _usage_pages(place: Place) -> list[Names]:
    return [
        {"app": Flask("x"), "usage_page": flask_usage.usage_page},
        {"app": Starlette(), "usage_page": starlette_usage.usage_page},
        {"path": path, "include": include},
    ]


def _usage_headers(place: Place) -> list[Names]:
    return [
        {"app": _flask(place), "send_usage_headers": flask_usage.send_usage_headers},
        {"app": Starlette(), "UsageHeadersMiddleware": starlette_usage.UsageHeadersMiddleware},
        {},
    ]


def _logs(place: Place, names: Names) -> None:
    logging.config.DictConfigurator(names["LOGGING"])  # type: ignore[attr-defined]
    assert list(names["LOGGING"]["loggers"]) == ["token_limit"]


def _own_error(place: Place, names: Names) -> None:
    assert names["exception_handler"](ValueError(), {}) is None


def _handles(place: Place, names: Names) -> None:
    @names["app"].get("/")
    def refuse() -> None:
        raise LimitExhausted(Decision("exhausted", "acme"))

    assert TestClient(names["app"]).get("/").status_code == 402


def _flask_app(place: Place) -> Names:
    app = _flask(place, TOKEN_LIMIT_TENANT_RESOLVER=lambda request: "acme")
    client = openai.OpenAI(api_key="x", base_url=place.provider.base_url)
    return {"app": app, "login_required": lambda view: view, "request": request, "Response": Response, "client": client}


def _streams(place: Place, names: Names) -> None:
    sent = names["app"].test_client().post("/send", data={"question": "?"})
    assert sent.status_code == 200 and sent.data
    get_meter(names["app"]).set_limit("acme", 0)
    assert names["app"].test_client().post("/send", data={"question": "?"}).status_code == 402
    names["client"].close()


def _limited(place: Place, names: Names) -> None:
    assert len(names["meter"].limits("acme")) == 4
    names["meter"].close()


def _corrected(place: Place, names: Names) -> None:
    assert {status.limit.plan for status in place.meter.usage("acme")} == {"pro"}


def _stripe(place: Place, names: Names) -> None:
    names["set_up_plans"](place.meter)
    bought = {"metadata": {"tenant": "acme"}, "items": {"data": [{"price": {"id": "price_pro"}}]}}
    names["apply_stripe_event"](place.meter, {"type": "customer.subscription.created", "data": {"object": bought}})
    assert {status.limit.plan for status in place.meter.usage("acme")} == {"pro"}
    names["apply_stripe_event"](place.meter, {"type": "customer.subscription.deleted", "data": {"object": bought}})
    with place.meter.for_tenant("acme"), pytest.raises(TenantSuspended):
        place.meter.check_limit()


def _checked(place: Place, names: Names) -> None:
    place.meter.set_limit("acme", 0)
    with place.meter.for_tenant("acme"), pytest.raises(LimitExceededException):
        names["answer"]("?")


def _sends_events(place: Place, names: Names) -> None:
    names["meter"].track_manually(provider="openai", model="gpt-4o", input_tokens=1, output_tokens=1, tenant_id="acme")
    assert names["meter_events"].get_nowait()["tenant_id"] == "acme"
    names["meter"].close()


def _own_patch(place: Place, names: Names) -> None:
    config = MeterConfig(store="memory://", patches=["acme"], on_event=place.events.append)
    with Meter(config).patch_all() as meter, meter.for_tenant("acme"):
        Client().generate("hi")
    assert [(event.provider, event.total_tokens) for event in place.events] == [("mistral", 7)]


def _config(place: Place) -> Names:
    return {"MeterConfig": MeterConfig}


def _meter(place: Place) -> Names:
    return {"meter": place.meter}


def _closed(place: Place, names: Names) -> None:
    names["meter"].close()


SNIPPETS = [
    Snippet("docs/console.md", "console(authorize=", _staff),
    Snippet("docs/console.md", "app.register_blueprint(usage_page(", _usage_pages),
    Snippet("docs/console.md", "send_usage_headers(app)", _usage_headers),
    Snippet("docs/django.md", "LOGGING =", check=_logs),
    Snippet("docs/django.md", "from token_limit_django.meter import get_meter"),
    Snippet(
        "docs/django.md", "REST_FRAMEWORK =",
        check=lambda place, names: import_string(names["REST_FRAMEWORK"]["EXCEPTION_HANDLER"]),
    ),
    Snippet("docs/django.md", "from rest_framework.views import", check=_own_error),
    Snippet("docs/fastapi.md", "from starlette.applications import Starlette", check=_closed),
    Snippet("docs/fastapi.md", 'with meter.for_tenant("acme"', _meter),
    Snippet("docs/fastapi.md", "from token_limit_core import LimitExceededException", lambda place: {
        "app": fastapi.FastAPI(middleware=[Middleware(TokenLimitMiddleware, meter=place.meter)])
    }, _handles),
    Snippet("docs/flask.md", "from token_limit_flask import get_meter"),
    Snippet("docs/flask.md", '@app.post("/send")', _flask_app, _streams),
    Snippet("docs/limits.md", "from token_limit_core import Meter", check=_limited),
    Snippet("docs/limits.md", "meter.set_plan(", _meter, _corrected),
    Snippet("docs/providers.md", 'MeterConfig(hosts={"127.0.0.1:8010"', _config),
    Snippet("docs/providers.md", 'MeterConfig(\n    hosts={"gateway.internal', _config),
    Snippet("docs/providers.md", "client = meter.openrouter_client(", lambda place: {
        "meter": place.meter, "api_key": "x", "client_of_my_own": openai.OpenAI(api_key="x", base_url="http://llm/v1")
    }),
    Snippet("docs/providers.md", "MeterConfig(\n    prices=", _config),
    Snippet("docs/providers.md", "from acme import Client", check=_own_patch),
    Snippet("docs/recipes.md", "PLANS = {", check=_stripe),
    Snippet("docs/recipes.md", "def answer(question)", lambda place: {"meter": place.meter, "agent": None}, _checked),
    Snippet("docs/recipes.md", "meter_events = queue", lambda place: {
        "queue": queue, "Meter": Meter, "MeterConfig": MeterConfig
    }, _sends_events),
    Snippet("docs/recipes.md", "MeterConfig(hosts=", _config),
    Snippet("docs/recipes.md", 'with meter.for_tenant("acme"', _meter),
    Snippet("docs/recipes.md", "with meter.for_tenant(meter.current_tenant_id", lambda place: {
        "meter": SimpleNamespace(current_tenant_id="acme", for_tenant=place.meter.for_tenant)
    }),
]  # fmt: skip

ELSEWHERE = {
    "docs/notices.md", "docs/plans.md", "docs/prices.md", "docs/remote.md", "docs/streaming.md", "docs/testing.md",
    "docs/workers.md", "README.md", "docs/index.md",
}  # fmt: skip
"""Pages whose blocks all run in tests of their own. A block with a title is a file of a project that a test makes."""


def code_of(snippet: Snippet) -> str:
    (code,) = (block.code for block in blocks(snippet.page, language="python") if block.code.startswith(snippet.start))
    return code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_provider: FakeProvider) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "acme", SimpleNamespace(Client=Client))
    registered, before = dict(PATCH_REGISTRY), patches.engines()
    config = MeterConfig(store="memory://", hosts={fake_provider.host: "openai"})
    with Meter(config) as meter:
        yield Place(meter, fake_provider, [])
    for engine in patches.engines():  # those that the pages made
        if engine not in before:
            patches.uninstall_all(engine)
            engine.close()
    PATCH_REGISTRY.clear()
    PATCH_REGISTRY.update(registered)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: f"{snippet.page}: {snippet.start[:30]}")
def test_a_piece_of_code_runs(snippet: Snippet, place: Place) -> None:
    code, given = code_of(snippet), snippet.given(place)
    if isinstance(given, list):
        for line, known in zip(code.splitlines(), given, strict=True):
            exec(compile(line, snippet.page, "exec"), known)
        return
    names = {"__name__": "documented", **given}
    in_flask = snippet.page == "docs/flask.md" and "app" not in given
    if in_flask:
        with _flask(place).app_context():
            exec(compile(code, snippet.page, "exec"), names)
    else:
        exec(compile(code, snippet.page, "exec"), names)
    snippet.check(place, names)


def test_every_block_of_python_is_run_by_a_test() -> None:
    known: Mapping[str, list[str]] = {page: [s.start for s in SNIPPETS if s.page == page] for page in PAGES}
    missing = [
        (page, block.code.splitlines()[0])
        for page in PAGES
        if page not in ELSEWHERE
        for block in blocks(page, language="python")
        if not (block.title or block.code.startswith(tuple(known[page])))
    ]
    assert missing == []
