from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import reverse_lazy

from tests.waiting import PATIENCE
from token_limit_core import Decision, LLMEvent, Meter
from token_limit_core.testing import FakeProvider
from token_limit_django.meter import get_meter

from . import views

HERE = "tests.frameworks.django"
SYNC_VIEWS = ["plain", "streamed", "in_thread", "own_loop"]
ASYNC_VIEWS = ["aplain", "astreamed", "sync_call_in_async_view"]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


class Events(list[LLMEvent]):
    """What was captured, in order."""

    def tenants(self) -> list[str]:
        get_meter().flush(PATIENCE)
        return [event.tenant_id for event in self]


events = Events()


@pytest.fixture(params=[None, "memory://"], ids=["orm", "memory"])
def project(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A project over each store; calling it changes settings of the suite."""
    events.clear()
    with FakeProvider() as provider, views.connect(provider.base_url):
        base = {"STORE": request.param, "HOSTS": {provider.host: "openai"}, "ON_EVENT": events.append}
        overrides: list[Any] = []

        def use(**settings: Any) -> FakeProvider:
            override = override_settings(ROOT_URLCONF=f"{HERE}.views", TOKEN_LIMIT={**base, **settings})
            override.enable()
            overrides.append(override)
            return provider

        use()
        yield use
        for override in reversed(overrides):
            override.disable()


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="x")


@pytest.fixture
def client(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
async def aclient(async_client: AsyncClient, alice: User) -> AsyncClient:
    await async_client.aforce_login(alice)
    return async_client


def spent(tenant: str) -> int:
    return get_meter().store.spend(tenant, 0, 4e9).cost_nano


async def body_of(response: Any) -> bytes:
    if not response.streaming:
        return bytes(response.content)
    if response.is_async:
        return b"".join([chunk async for chunk in response])
    return b"".join(response)


@pytest.mark.parametrize("view", SYNC_VIEWS)
def test_a_call_of_a_sync_request_is_billed_to_its_user(project: Any, client: Client, alice: User, view: str) -> None:
    response = client.get(f"/{view}/")
    assert b"".join(response) if response.streaming else response.content
    assert events.tenants() == [f"user:{alice.pk}"]
    assert spent(f"user:{alice.pk}") > 0
    assert get_meter().store.holds() == []


@pytest.mark.parametrize("view", ASYNC_VIEWS + ["plain", "streamed", "own_loop"])
async def test_a_call_under_asgi_is_billed_to_its_user(
    project: Any, aclient: AsyncClient, alice: User, view: str
) -> None:
    response = await aclient.get(f"/{view}/")
    if view == "streamed":
        with pytest.warns(Warning, match="must consume synchronous iterators"):
            assert b"".join([chunk async for chunk in response])
    else:
        assert await body_of(response)
    assert events.tenants() == [f"user:{alice.pk}"]


@pytest.mark.parametrize("view", ["aplain", "astreamed"])
def test_async_views_under_wsgi_are_billed_too(project: Any, client: Client, alice: User, view: str) -> None:
    response = client.get(f"/{view}/")
    if response.streaming:
        with pytest.warns(Warning, match="must consume asynchronous iterators"):
            assert b"".join(response)
    assert events.tenants() == [f"user:{alice.pk}"]


def test_two_requests_on_one_thread_do_not_share_a_tenant(project: Any, client: Client, alice: User) -> None:
    client.get("/set_tenant/")
    client.get("/plain/")
    Client().get("/plain/")
    assert events.tenants() == ["explicit", f"user:{alice.pk}", ""]


@pytest.mark.parametrize("made", ["by a request", "before any"])
def test_a_loop_that_is_kept_bills_each_request_to_its_own_user(
    project: Any, client: Client, alice: User, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    with asyncio.Runner() as runner:
        monkeypatch.setattr(views, "runner", runner)
        if made == "before any":
            runner.get_loop()
        bob = Client()
        bob.force_login(User.objects.create_user("bob"))
        for asker in (client, bob, Client(), client):
            asker.get("/kept_runner/")
        bob.get("/kept_runner/?tenant=outside")
        bob.get("/kept_runner/?tenant=within&inside=1")
        bob.get("/kept_runner/")
    users = f"user:{alice.pk}", f"user:{alice.pk + 1}"
    assert events.tenants() == [*users, "", users[0], "outside", "within", users[1]]


async def test_two_tasks_of_a_request_with_tenants_of_their_own_are_billed_apart(
    project: Any, aclient: AsyncClient
) -> None:
    assert (await aclient.get("/two_tasks/")).status_code == 200
    assert sorted(events.tenants()) == ["left", "right"]
    assert spent("left") == spent("right") > 0


def test_a_bare_thread_is_the_askers(project: Any, client: Client, alice: User) -> None:
    Client().get("/bare_thread/")
    client.get("/bare_thread/")
    assert events.tenants() == ["", f"user:{alice.pk}"]


def test_a_look_up_in_a_bare_thread_leaves_no_connection(project: Any, client: Client, alice: User) -> None:
    """Django closes the connections of threads that serve requests, and of no other."""
    closed: list[str] = []
    close = DatabaseWrapper.close

    def counted(self: DatabaseWrapper) -> None:
        if threading.current_thread().name == "bare" and self.alias == "default":
            closed.append("while open" if self.connection is not None else "closed already")
        close(self)

    with mock.patch.object(DatabaseWrapper, "close", counted):
        client.get("/bare_thread/")
    assert closed == ["while open"]
    assert events.tenants() == [f"user:{alice.pk}"]


def test_forged_headers_and_parameters_change_nothing(project: Any, client: Client, alice: User) -> None:
    forged = {
        f"HTTP_{name}": "globex" for name in ("X_TENANT_ID", "X_TENANT", "X_USER_ID", "TENANT", "X_FORWARDED_HOST")
    }
    client.get("/plain/?tenant_id=globex&tenant=globex", **forged)
    assert events.tenants() == [f"user:{alice.pk}"]


def test_the_tenant_of_the_request_counts_for_an_authenticated_user_only(project: Any, client: Client) -> None:
    with override_settings(MIDDLEWARE=[*_middleware(), f"{HERE}.test_middleware.tenant_by_host"]):
        client.get("/plain/")
        Client().get("/plain/")
    assert events.tenants() == ["acme", ""]


def test_attributes_of_the_user_come_before_the_user_itself(project: Any, client: Client, alice: User) -> None:
    project(USER_TENANT_ATTRIBUTES=["organization", "username"])
    client.get("/plain/")
    assert events.tenants() == ["alice"]


@pytest.mark.parametrize("view", ["plain", "aplain"])
async def test_a_blank_attribute_is_no_tenant(project: Any, aclient: AsyncClient, alice: User, view: str) -> None:
    project(USER_TENANT_ATTRIBUTES=["last_name"])
    await aclient.get(f"/{view}/")
    assert events.tenants() == [f"user:{alice.pk}"]


def test_a_relation_to_many_is_nobodys_name(
    project: Any, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in production
    project(USER_TENANT_ATTRIBUTES=["groups"])
    assert client.get("/plain/").status_code == 200
    assert get_meter().status()["tenants_unresolved"] == 1  # billed when the resolver works, else as unresolved
    assert "has neither `pk` nor `id`; give its name, as text or a number" in caplog.text


@pytest.mark.parametrize("resolver", ["resolve_fixed", "aresolve_fixed"])
@pytest.mark.parametrize("view", ["plain", "aplain", "own_loop"])
async def test_a_resolver_of_the_project_sync_or_async_replaces_the_default(
    project: Any, client: Client, aclient: AsyncClient, resolver: str, view: str
) -> None:
    project(TENANT_RESOLVER=f"{HERE}.test_middleware.{resolver}")
    await aclient.get(f"/{view}/")
    assert events.tenants() == ["fixed"]


def test_the_tenant_is_frozen_at_the_first_call(project: Any, client: Client) -> None:
    calls: list[int] = []

    def resolver(request: HttpRequest) -> str:
        calls.append(1)
        return f"tenant-{len(calls)}"

    project(TENANT_RESOLVER=resolver)
    client.get("/plain/")
    client.get("/no_call/")
    assert (events.tenants(), len(calls)) == (["tenant-1"], 1)


@pytest.mark.parametrize("view", ["plain", "aplain", "wrapped", "grouped"])
async def test_a_refusal_becomes_the_upgrade_response_before_any_traffic(
    project: Any, aclient: AsyncClient, alice: User, view: str
) -> None:
    provider = project(UPGRADE_URL="/plans/")
    get_meter().set_limit(f"user:{alice.pk}", 0)
    response = await aclient.get(f"/{view}/", headers={"Accept": "application/json"})
    assert (response.status_code, response["Content-Type"]) == (402, "application/problem+json")
    assert response["Cache-Control"] == "no-store"
    assert "Accept" in response["Vary"]
    problem = json.loads(response.content)
    assert (problem["kind"], problem["limit_usd"], problem["upgrade_url"]) == ("exhausted", "0", "/plans/")
    assert provider.requests == []


@pytest.mark.parametrize("view", ["plain", "aplain", "wrapped", "grouped"])
def test_a_refusal_under_wsgi_shows_people_the_page(project: Any, client: Client, alice: User, view: str) -> None:
    project(UPGRADE_URL="/plans/")
    get_meter().set_limit(f"user:{alice.pk}", 0)
    response = client.get(f"/{view}/", headers={"Accept": BROWSER})
    assert response.status_code == 402
    assert "token_limit/upgrade.html" in [template.name for template in response.templates]
    assert b'href="/plans/"' in response.content


@pytest.mark.parametrize("extends", [True, False])
def test_the_page_can_be_overridden_and_extended(
    project: Any, client: Client, alice: User, tmp_path: Path, extends: bool
) -> None:
    """By a template of the project's own, or by one of the same name in one of its folders or apps."""
    project(UPGRADE_TEMPLATE="ours.html" if extends else "token_limit/upgrade.html")
    get_meter().set_limit(f"user:{alice.pk}", 0)
    if extends:
        ours = "{% extends 'token_limit/upgrade.html' %}{% block title %}Acme: {{ title }}{% endblock %}"
        (tmp_path / "ours.html").write_text(ours)
    else:
        (tmp_path / "token_limit").mkdir()
        (tmp_path / "token_limit/upgrade.html").write_text("ours: {{ spent }} of {{ limit }}")
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [tmp_path], "APP_DIRS": True}
    with override_settings(TEMPLATES=[engine]):
        page = client.get("/plain/", headers={"Accept": BROWSER}).content.decode()
    if extends:
        assert "<title>Acme: No AI allowance</title>" in page and "<h1>No AI allowance</h1>" in page
    else:
        assert page == "ours: $0.00 of $0.00"


def test_a_refusal_outside_of_any_view_becomes_the_upgrade_response(project: Any, client: Client, alice: User) -> None:
    get_meter().set_limit(f"user:{alice.pk}", 0)
    client.raise_request_exception = False
    with override_settings(MIDDLEWARE=[*_middleware(), f"{HERE}.views.middleware_that_asks"]):
        assert client.get("/no_call/").status_code == 402


def test_a_denial_the_app_handled_is_the_apps_business(project: Any, client: Client, alice: User) -> None:
    get_meter().set_limit(f"user:{alice.pk}", 0)
    client.raise_request_exception = False
    assert client.get("/handled/").content == b"no answer today"
    assert client.get("/handled_then_broken/").status_code == 500


def test_a_refusal_can_be_answered_by_the_project(project: Any, client: Client, alice: User) -> None:
    project(UPGRADE_RESPONSE=f"{HERE}.test_middleware.teapot")
    get_meter().set_limit(f"user:{alice.pk}", 0)
    assert (response := client.get("/plain/")).status_code == 418
    assert response.content == b"exhausted"


@pytest.mark.parametrize("broken", ["a template", "an answer", "no answer"])
def test_a_broken_template_or_answer_of_the_project_falls_back(
    project: Any, client: Client, alice: User, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in production
    (tmp_path / "broken.html").write_text("{% url 'nowhere' %}")
    settings = {
        "a template": {"UPGRADE_TEMPLATE": "broken.html"},
        "an answer": {"UPGRADE_RESPONSE": lambda request, decision: "Sorry"},
        "no answer": {"UPGRADE_RESPONSE": lambda request, decision: None},
    }
    project(**settings[broken])
    get_meter().set_limit(f"user:{alice.pk}", 0)
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [tmp_path], "APP_DIRS": True}
    with override_settings(TEMPLATES=[engine]):
        response = client.get("/plain/", headers={"Accept": BROWSER})
    assert response.status_code == 402
    assert "No AI allowance" in response.content.decode()


def test_the_way_to_an_upgrade_may_be_found_late(project: Any, client: Client, alice: User) -> None:
    project(UPGRADE_URL=reverse_lazy(views.no_call))
    get_meter().set_limit(f"user:{alice.pk}", 0)
    assert client.get("/plain/").json()["upgrade_url"] == "/no_call/"


def test_a_new_customer_starts_with_the_default_limit(project: Any, client: Client, alice: User) -> None:
    project(DEFAULT_LIMIT_USD="0.000001")
    assert client.get("/plain/").status_code == 200
    assert client.get("/plain/").status_code == 402
    get_meter().remove_limit(f"user:{alice.pk}")
    assert client.get("/plain/").status_code == 200


def test_calls_without_a_tenant_are_refused_where_the_project_wants_that(project: Any) -> None:
    provider = project(ON_NO_TENANT="refuse")
    assert Client().get("/plain/").status_code == 403
    assert provider.requests == []


def test_a_request_without_a_call_looks_nobody_up(project: Any, client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        client.get("/no_call/")


def test_disabled_meters_nothing(project: Any, client: Client) -> None:
    project(ENABLED=False)
    assert client.get("/plain/").status_code == 200
    assert events == []


@override_settings(TOKEN_LIMIT={})
def test_the_app_hooks_the_sdk_when_it_is_ready() -> None:
    get_meter().unpatch_all()
    apps.get_app_config("token_limit").ready()
    assert get_meter().status()["patches"]["openai"]["state"] == "installed"
    assert isinstance(get_meter(), Meter)
    call_command("check")


def _middleware() -> list[str]:
    from django.conf import settings

    return list(settings.MIDDLEWARE)


def tenant_by_host(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        request.tenant = "acme"  # type: ignore[attr-defined]
        return get_response(request)  # type: ignore[no-any-return]

    return middleware


def resolve_fixed(request: HttpRequest) -> str:
    assert not isinstance(request.user, AnonymousUser)
    return "fixed"


async def aresolve_fixed(request: HttpRequest) -> str:
    assert (await request.auser()).is_authenticated
    return "fixed"


def teapot(request: HttpRequest, decision: Decision) -> HttpResponse:
    return HttpResponse(decision.kind, status=418)
