"""A tenant sees its own usage and nobody else's, in each framework: page, JSON, fragment, headers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import Context, Template
from django.test import AsyncClient, override_settings
from django.test import Client as DjangoClient
from django.urls import include, path
from flask import Flask, render_template_string
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from token_limit_core import Meter, MeterConfig
from token_limit_core import scope as scopes
from token_limit_core.console import tenant_usage as own
from token_limit_core.errors import KeptElsewhere, StoreError
from token_limit_core.events import LLMEvent
from token_limit_core.meter import engine_of
from token_limit_core.windows import PER_DAY
from token_limit_django.meter import get_meter as django_meter
from token_limit_flask import TokenLimit
from token_limit_flask.usage import send_usage_headers
from token_limit_flask.usage import usage_page as flask_page
from token_limit_starlette import TokenLimitMiddleware
from token_limit_starlette.usage import UsageHeadersMiddleware, usage_fragment
from token_limit_starlette.usage import usage_page as starlette_page

from .mounts import WHO, Answer
from .site import EVIL, NOW, USD

Get = Callable[..., Answer]
TENANTS = {"alice": "acme", "bob": "globex", "eve": EVIL}
DJANGO = pytest.mark.django_db(databases="__all__", transaction=True)
PATHS = ("", "usage.json", "console.css", "icon.svg")


def fill(meter: Meter, tenants: dict[str, str]) -> None:
    """Give each tenant a model of its own name, and alice limits."""
    now = meter.config.clock()
    for number, tenant in enumerate(tenants.values(), 1):
        event = LLMEvent(f"e-{number}", tenant, model=f"model-of-{tenant}", provider="openai", timestamp=now)
        meter.store.record([(event, number * USD)], now)
    meter.set_limit(tenants["alice"], 4)
    meter.set_limit(tenants["alice"], "2.5", PER_DAY)


@contextmanager
def flask_site() -> Iterator[tuple[Get, Meter]]:
    app = Flask(__name__)
    app.secret_key = "x" * 32
    meter_options = {"store": "memory://", "patches": []}
    TokenLimit(app, tenant_resolver=lambda request: TENANTS.get(request.headers.get(WHO)), **meter_options)
    app.register_blueprint(flask_page(login_url="/login?from=usage"), url_prefix="/usage")
    send_usage_headers(app)

    @app.get("/embedded")
    def embedded() -> str:
        return render_template_string("<body>{{ token_limit_usage() }}</body>")

    @app.get("/plain")
    def plain() -> str:
        return "nothing was asked of the tenant"

    meter = app.extensions["token_limit"].meter
    fill(meter, TENANTS)

    def get(path: str, user: str | None = None, **more: Any) -> Answer:
        headers = {**({} if user is None else {WHO: user}), **more.pop("headers", {})}
        found = app.test_client().open(path, headers=headers, **more)
        return Answer(found.status_code, {k.lower(): v for k, v in found.headers.items()}, found.text)

    yield get, meter
    meter.close()


@contextmanager
def starlette_site() -> Iterator[tuple[Get, Meter]]:
    async def embedded(request: Request) -> HTMLResponse:
        return HTMLResponse(f"<body>{await usage_fragment()}</body>")

    async def plain(request: Request) -> HTMLResponse:
        return HTMLResponse("nothing was asked of the tenant")

    meter = Meter(MeterConfig(store="memory://", patches=[]))
    fill(meter, TENANTS)
    app = Starlette(
        routes=[
            Mount("/usage", starlette_page(login_url="/login?from=usage")),
            Route("/embedded", embedded),
            Route("/plain", plain),
        ]
    )
    app.add_middleware(UsageHeadersMiddleware)
    app.add_middleware(TokenLimitMiddleware, meter=meter, resolver=lambda asked: TENANTS.get(asked.headers.get(WHO)))
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:

        def get(path: str, user: str | None = None, **more: Any) -> Answer:
            headers = {**({} if user is None else {WHO: user}), **more.pop("headers", {})}
            found = client.request(more.pop("method", "GET"), path, headers=headers)
            return Answer(found.status_code, found.headers, found.text)

        yield get, meter
    meter.close()


def embedded(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Template("{% load token_limit %}<body>{% token_limit_usage %}</body>").render(Context()))


async def embedded_async(request: HttpRequest) -> HttpResponse:
    await scopes.current().atenant()  # type: ignore[union-attr]
    return HttpResponse("asked")


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing was asked of the tenant")


urlpatterns = [
    path("usage/", include("token_limit_django.urls")),
    path("embedded", embedded),
    path("embedded-async", embedded_async),
    path("plain", plain),
]
MIDDLEWARE = [
    "token_limit_django.middleware.TokenLimitMiddleware",
    "token_limit_django.usage.UsageHeadersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


@contextmanager
def django_site(store: str | None = None) -> Iterator[tuple[Get, Meter]]:
    project = {
        "ROOT_URLCONF": __name__,
        "MIDDLEWARE": MIDDLEWARE,
        "LOGIN_URL": "/login?from=usage",
        "TOKEN_LIMIT": {"STORE": store, "PATCHES": [], "TENANT_RESOLVER": f"{__name__}.by_username"},
    }
    with override_settings(**project):
        users = {name: User.objects.create_user(name) for name in (*TENANTS, "nobody")}
        meter = django_meter()
        fill(meter, TENANTS)

        def get(path: str, user: str | None = None, **more: Any) -> Answer:
            client = DjangoClient()
            if user is not None:
                client.force_login(users[user])
            found = client.generic(more.pop("method", "GET"), path, headers=more.pop("headers", {}))
            return Answer(found.status_code, {k.lower(): v for k, v in found.items()}, found.content.decode())

        yield get, meter


def by_username(request: Any) -> str | None:
    return TENANTS.get(request.user.username)


@pytest.fixture(params=["flask", "starlette", pytest.param("django", marks=DJANGO)])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[Get, Meter]]:
    makers: dict[str, Callable[[], Any]] = {"flask": flask_site, "starlette": starlette_site, "django": django_site}
    with makers[request.param]() as made:
        yield made


@pytest.fixture
def get(site: tuple[Get, Meter]) -> Get:
    return site[0]


# -- page and JSON ------------------------------------------------------------------------------


def test_a_tenant_sees_its_limits_its_month_and_its_models(get: Get) -> None:
    answer = get("/usage/", "alice")
    assert answer.status == 200
    for part in ("acme", "$1.00 spent", "of $4.00 per month", "of $2.50 per day", "$1.50 left", "model-of-acme"):
        assert part in answer.text
    assert "globex" not in answer.text
    assert 'class="column"' in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert " style=" not in answer.text
    assert "<script" not in answer.text


def test_the_json_says_the_same(get: Get) -> None:
    answer = get("/usage/usage.json", "alice")
    assert answer.headers["content-type"] == "application/json"
    found = json.loads(answer.text)
    assert found["tenant"] == "acme"
    assert found["month"] == {
        "calls": 1,
        "input_tokens": 0,
        "output_tokens": 0,
        "spent_usd": "1.000000000",
        "unpriced": 0,
    }
    assert {(row["frequency"], row["remaining_usd"]) for row in found["limits"]} == {
        ("per_month", "3.000000000"),
        ("per_day", "1.500000000"),
    }
    assert [(row["model"], row["day"]) for row in found["days"]] == [("model-of-acme", f"{datetime.now(UTC):%Y-%m-%d}")]


def test_a_tenant_without_a_limit_is_told_so(get: Get) -> None:
    text = get("/usage/", "bob").text
    assert "$2.00 spent this month; no limit applies" in text
    assert "acme" not in text


def test_a_hostile_name_is_only_text(get: Get) -> None:
    for where in ("/usage/", "/embedded"):
        assert "<script>alert" not in get(where, "eve").text
    assert "&lt;script&gt;" in get("/usage/", "eve").text


@pytest.mark.parametrize("name", PATHS)
def test_nobody_sees_anything_without_signing_in(get: Get, name: str) -> None:
    answer = get(f"/usage/{name}")
    if name:
        assert answer.status == 401
    else:
        assert answer.status in (302, 303)
        assert answer.headers["location"].startswith("/login?from=usage&next=/usage/")
    assert "acme" not in answer.text


@pytest.mark.parametrize("user", ["alice", "nobody"])
def test_a_sign_in_page_that_sends_people_back_at_once_ends_somewhere(get: Get, user: str) -> None:
    """Whom it knows it sends to `next`; only one of them has a tenant."""
    where, seen = "/usage/", []
    answer = get(where)
    while len(seen) < 4 and answer.status in (302, 303):
        seen.append(answer.headers["location"])
        target = urlsplit(seen[-1])
        where = parse_qs(target.query)["next"][0] if target.path == "/login" else seen[-1]
        answer = get(where, user)
    assert (answer.status, len(seen) < 4) == (200 if user == "alice" else 403, True)
    if user == "alice":
        assert where == "/usage/", "a page that is not another one for who signs in later"
        assert get(where).status in (302, 303)
    else:
        assert "no usage" in answer.text


@DJANGO
@pytest.mark.parametrize("name", PATHS)
def test_who_is_signed_in_and_has_no_tenant_is_not_sent_to_sign_in_again(name: str) -> None:
    """A sign-in page that sends such people back would never end."""
    with django_site() as (_get, _meter):
        client = DjangoClient()
        client.force_login(User.objects.get(username="nobody"))
        answer = client.get(f"/usage/{name}")
    assert answer.status_code == 403
    assert b"no usage" in answer.content


def test_nothing_a_client_sends_chooses_the_tenant(get: Get) -> None:
    forged = {"X-Tenant": "globex", "X-Tenant-Id": "globex", "Tenant": "globex"}
    chosen = "?tenant=globex&id=globex&tenant_id=globex"
    assert json.loads(get(f"/usage/usage.json{chosen}", "alice", headers=forged).text)["tenant"] == "acme"
    assert get(f"/usage/usage.json{chosen}", headers={**forged, "Cookie": "tenant=globex"}).status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_there_is_nothing_to_change(get: Get, method: str) -> None:
    assert get("/usage/", "alice", method=method).status == 405


def test_there_are_no_other_pages(get: Get) -> None:
    for name in ("acme", "../staff", "holds", "tenants.json", "console.js"):
        assert get(f"/usage/{name}", "alice").status == 404


def test_the_stylesheet_is_served_where_the_policy_allows_it(get: Get) -> None:
    assert get("/usage/console.css", "alice").headers["content-type"] == "text/css; charset=utf-8"
    assert get("/usage/icon.svg", "alice").headers["content-type"] == "image/svg+xml"


# -- fragment and headers -----------------------------------------------------------------------


def test_the_fragment_is_the_requests_tenant_or_nothing(get: Get) -> None:
    assert get("/embedded").text == "<body></body>"
    text = get("/embedded", "alice").text
    assert text.startswith('<body><section class="token-limit-usage"')
    assert "of $4.00 per month" in text
    assert "no limit applies" in get("/embedded", "bob").text


def test_headers_tell_what_is_left_of_the_fullest_limit(get: Get) -> None:
    headers = get("/embedded", "alice").headers
    assert (headers["x-token-limit-limit"], headers["x-token-limit-remaining"]) == ("2.5", "1.5")
    midnight = int(headers["x-token-limit-reset"])
    assert midnight % 86400 == 0
    for where, user in (("/embedded", "bob"), ("/embedded", None), ("/plain", "alice")):
        assert "x-token-limit-remaining" not in get(where, user).headers


def test_a_store_that_is_away_is_told_on_the_page(
    site: tuple[Get, Meter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    get, meter = site

    def away(*args: Any) -> None:
        raise StoreError("away")

    monkeypatch.setattr(meter.store, "rollup", away)
    answer = get("/usage/", "alice")
    assert answer.status == 503
    assert "away" not in answer.text
    assert problem_of(get("/usage/usage.json", "alice"))["status"] == 503
    assert get("/embedded", "alice").text == "<body></body>"


def problem_of(answer: Answer) -> Any:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.text)
    assert problem["status"] == answer.status
    return problem


def test_a_ledger_that_is_elsewhere_is_no_reason_to_try_again(
    site: tuple[Get, Meter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tenants are not told where: it may be a name that only the inside of a network knows."""
    get, meter = site

    def elsewhere(*args: Any) -> None:
        raise KeptElsewhere("https://limits.internal/events")

    monkeypatch.setattr(meter.store, "rollup", elsewhere)
    answer = get("/usage/", "alice")
    assert (answer.status, "moment" in answer.text, "internal" in answer.text) == (501, False, False)
    problem = problem_of(get("/usage/usage.json", "alice"))
    assert (problem["status"], "internal" in str(problem)) == (501, False)
    assert get("/embedded", "alice").text == "<body></body>"
    assert "https://limits.internal/events" in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


def test_who_is_not_signed_in_is_told_in_the_form_that_was_asked_for(get: Get) -> None:
    assert problem_of(get("/usage/usage.json"))["status"] == 401


@DJANGO
async def test_headers_of_an_async_django_view() -> None:
    from asgiref.sync import sync_to_async

    site = django_site("memory://")
    await sync_to_async(site.__enter__)()
    client = AsyncClient()
    await client.aforce_login(await User.objects.aget(username="alice"))
    assert (await client.get("/embedded-async"))["X-Token-Limit-Remaining"] == "1.5"
    assert "X-Token-Limit-Remaining" not in await client.get("/plain")
    await sync_to_async(site.__exit__)(None, None, None)


def test_what_a_limit_of_nothing_shows() -> None:
    meter = Meter(MeterConfig(store="memory://", patches=[], clock=lambda: NOW))
    meter.set_limit("acme", 0)
    [row] = own.context(own.usage_of(engine_of(meter), "acme"))["usage"]["limits"]
    assert (row["share"], row["level"], row["settled"]) == ("all", "reached", "100.00")
    meter.close()


def test_only_what_renders_pages_imports_jinja() -> None:
    modules = "token_limit_core.console.tenant_usage, token_limit_core.cli.main"
    code = f"import sys, {modules}; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
