"""Who pays for the calls of a request, and that nobody else ever does."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from a2wsgi import WSGIMiddleware
from flask import Flask, Request, g, request
from flask_login import current_user  # type: ignore[import-untyped]

from token_limit_core import scope
from token_limit_core.testing import FakeProvider
from token_limit_flask import TokenLimit, get_meter

from . import saas
from .conftest import Site

VIEWS = [
    "plain",
    "aplain",
    "own_loop",
    "streamed",
    "streamed_in_context",
    "astreamed",
    "after_the_answer",
]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_call_is_billed_to_the_signed_in_user(
    make: Callable[..., Site], view: str, store: str, tmp_path: Any
) -> None:
    site = make(store="memory://" if store == "memory" else f"sqlite:///{tmp_path}/spend.db")
    with site.client("7").get(f"/{view}") as response:
        assert response.status_code == 200
        assert response.data
    assert site.tenants() == ["user:7"]
    assert site.spent("user:7") > 0
    assert site.meter.store.holds() == []


def test_a_call_in_another_thread_of_the_request_is_billed_to_its_user(site: Site) -> None:
    site.client("7").get("/in_thread")
    assert site.tenants() == ["user:7"]


def test_a_tenant_found_in_the_view_stays_for_the_body(site: Site) -> None:
    assert site.client("7").get("/streamed_late").data
    assert site.tenants() == ["user:7", "user:7"]


def test_a_tenant_that_a_body_sets_stays_for_the_rest_of_it(site: Site) -> None:
    assert site.client("7").get("/two_tenants_in_a_body").data
    site.client("8").get("/plain")
    assert site.tenants() == ["user:7", "explicit", "user:8"]


def test_two_requests_on_one_thread_do_not_share_a_tenant(site: Site) -> None:
    signed_in, visitor = site.client("7"), site.client()
    signed_in.get("/set_tenant")
    assert scope.current() is None
    signed_in.get("/plain")
    visitor.get("/plain")
    visitor.get("/streamed")
    assert site.tenants() == ["explicit", "user:7", "", ""]


@pytest.mark.parametrize("made", ["by a request", "before any"])
def test_a_loop_that_is_kept_bills_each_request_to_its_own_user(
    site: Site, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    with asyncio.Runner() as runner:
        monkeypatch.setattr(saas, "runner", runner)
        if made == "before any":
            runner.get_loop()
        seven, eight = site.client("7"), site.client("8")
        for asker in (seven, eight, site.client(), seven):
            asker.get("/kept_runner")
        eight.get("/kept_runner?tenant=outside")
        eight.get("/kept_runner?tenant=within&inside=1")
        assert eight.get("/kept_runner_in_body").data
    assert site.tenants() == ["user:7", "user:8", "", "user:7", "outside", "within", "user:8"]


def test_two_tasks_of_a_request_with_tenants_of_their_own_are_billed_apart(site: Site) -> None:
    assert site.client("7").get("/two_tasks").data == b"done"
    assert sorted(site.tenants()) == ["left", "right"]


def test_a_bare_thread_is_the_askers(site: Site) -> None:
    site.client().get("/bare_thread")
    site.client("7").get("/bare_thread")
    assert site.tenants() == ["", "user:7"]


def test_a_bare_thread_that_outlives_its_request_is_the_askers(site: Site) -> None:
    assert site.client("7").get("/going_on").data == b"later"
    assert site.client("8").get("/plain").data
    saas.released.set()
    saas.left.pop().join(10)
    assert site.tenants() == ["user:8", "user:7"]


@pytest.mark.parametrize("view", ["plain", "streamed", "aplain", "bare_thread"])
def test_a_tenant_that_cannot_be_resolved_in_the_request_is_resolved_after_it(
    make: Callable[..., Site], view: str
) -> None:
    away, torn_down = [True], []

    def resolver(request: Request) -> str:
        if away:
            raise OSError("no database")
        return f"{g.plan} {request.headers['X-Name']}"

    site = make(tenant_resolver=resolver)
    site.app.before_request(lambda: setattr(g, "plan", "gold"))
    site.app.teardown_appcontext(lambda error: torn_down.append(error))
    response = site.client("7").get(f"/{view}", headers={"X-Name": "acme"})
    assert response.data
    response.close()
    assert site.meter.status()["tenants_unresolved"] == 1
    ended = len(torn_down)
    away.clear()
    assert site.tenants() == ["gold acme"]
    assert len(torn_down) == ended + 1  # sessions of the late look-up are closed


def test_forged_headers_and_parameters_change_nothing(site: Site) -> None:
    forged = dict.fromkeys(("X-Tenant-Id", "X-Tenant", "X-User-Id", "Tenant", "X-Forwarded-Host"), "globex")
    site.client("7").get("/plain?tenant_id=globex&tenant=globex", headers=forged)
    site.client().get("/plain?tenant_id=globex&tenant=globex", headers=forged)
    assert site.tenants() == ["user:7", ""]


@pytest.mark.parametrize("view", ["plain", "aplain", "streamed"])
def test_a_user_authenticated_in_before_request_pays(site: Site, view: str) -> None:
    response = site.client().get(f"/{view}", headers={"Authorization": "Bearer 9"})
    assert response.data
    assert site.tenants() == ["user:9"]


def test_the_tenant_on_g_counts_for_an_authenticated_user_only(site: Site) -> None:
    site.client("7").get("/tenant/acme")
    site.client().get("/tenant/acme")
    assert site.tenants() == ["acme", ""]


def test_without_flask_login_the_tenant_on_g_is_the_apps_own_word(site: Site) -> None:
    del site.app.login_manager  # type: ignore[attr-defined]
    site.client().get("/tenant/acme")
    site.client().get("/plain")
    assert site.tenants() == ["acme", ""]


def test_attributes_of_the_user_come_before_the_user_itself(make: Callable[..., Site]) -> None:
    site = make(user_tenant_attributes=["organization", "missing"])
    site.client("alice@acme").get("/plain")
    site.client("7").get("/plain")
    site.client().get("/plain")
    assert site.tenants() == ["acme", "user:7", ""]


def resolve(request: Request) -> str:
    assert current_user.is_authenticated
    return f"resolved{request.path}"


async def aresolve(request: Request) -> str:
    return resolve(request)


@pytest.mark.parametrize("resolver", [resolve, aresolve, f"{__name__}.resolve", f"{__name__}.aresolve"])
@pytest.mark.parametrize("view", ["plain", "aplain", "own_loop", "streamed", "astreamed"])
def test_a_resolver_of_the_app_sync_or_async_replaces_the_default(
    make: Callable[..., Site], resolver: Any, view: str
) -> None:
    site = make(tenant_resolver=resolver)
    assert site.client("7").get(f"/{view}").data
    assert site.tenants() == [f"resolved/{view}"]


def test_a_synchronous_call_in_an_async_view_is_billed_too(site: Site) -> None:
    site.client("7").get("/sync_call_in_async_view")
    assert site.tenants() == ["user:7"]


def test_but_it_cannot_wait_for_an_async_resolver(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in production
    site = make(tenant_resolver=aresolve)
    assert site.client("7").get("/sync_call_in_async_view").status_code == 200
    assert site.meter.status()["tenants_unresolved"] == 1
    assert "use the async client" in caplog.text


def test_the_tenant_is_frozen_at_the_first_call(make: Callable[..., Site]) -> None:
    asked: list[int] = []

    def resolver(request: Request) -> str:
        asked.append(1)
        return f"tenant-{len(asked)}"

    site = make(tenant_resolver=resolver)
    assert site.client("7").get("/streamed_late").data
    site.client("7").get("/no_call")
    assert (site.tenants(), len(asked)) == (["tenant-1", "tenant-1"], 1)


@pytest.mark.parametrize("view", ["plain", "aplain", "streamed"])
def test_a_call_whose_resolver_raises_waits_for_its_tenant(
    make: Callable[..., Site], view: str, caplog: pytest.LogCaptureFixture
) -> None:
    def resolver(request: Request) -> str:
        raise LookupError("no such customer")

    site = make(tenant_resolver=resolver)
    response = site.client("7").get(f"/{view}")
    assert response.status_code == 200 and response.data
    assert site.meter.status()["tenants_unresolved"] == 1  # billed when the resolver works, else as unresolved
    assert "the tenant cannot be resolved" in caplog.text


def test_calls_without_a_tenant_are_refused_where_the_app_wants_that(
    make: Callable[..., Site], fake_provider: FakeProvider
) -> None:
    assert make(on_no_tenant="refuse").client().get("/plain").status_code == 403
    assert fake_provider.requests == []


def test_two_apps_in_one_process_have_settings_and_ledgers_of_their_own(make: Callable[..., Site]) -> None:
    one, other = make(user_tenant_attributes=["organization"]), make(upgrade_url="/plans")
    one.meter.set_limit("acme", 5)
    other.meter.set_limit("user:alice@acme", 0)
    assert one.client("alice@acme").get("/plain").status_code == 200
    assert other.client("alice@acme").get("/plain").json["upgrade_url"] == "/plans"
    assert other.client("7").get("/streamed").data
    assert (one.tenants(), other.tenants()) == (["acme"], ["user:7"])
    assert one.meter is not other.meter
    with one.app.app_context():
        assert get_meter() is one.meter


def test_one_extension_object_serves_several_apps(fake_provider: FakeProvider) -> None:
    extension = TokenLimit(store="memory://")
    apps = [Flask(name) for name in ("one", "other")]
    apps[1].config["TOKEN_LIMIT_DEFAULT_LIMIT_USD"] = 5
    for app in apps:
        extension.init_app(app)
    with apps[0].app_context():
        assert extension.meter.config.default_limit_usd is None
    with apps[1].app_context():
        assert extension.meter.config.default_limit_usd == 5
    for app in apps:
        get_meter(app).close()


def test_teardown_functions_still_know_the_tenant(site: Site) -> None:
    seen: list[str | None] = []

    @site.app.teardown_request
    def request_ends(error: BaseException | None) -> None:
        seen.append(site.meter.current_tenant_id)

    @site.app.teardown_appcontext
    def context_ends(error: BaseException | None) -> None:
        current = scope.current()
        seen.append(None if current is None else current.tenant_id)

    site.client("7").get("/plain")
    assert seen[-2:] == ["user:7", "user:7"]
    assert scope.current() is None


def test_nothing_keeps_a_finished_request_alive(site: Site) -> None:
    kept: list[weakref.ref[Any]] = []

    @site.app.before_request
    def remember() -> None:
        kept.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]
        g.big = object()

    for view in ("plain", "streamed", "no_call"):
        site.client("7").get(f"/{view}").close()
    gc.collect()
    assert [reference() for reference in kept] == [None] * len(kept)


def test_disabled_meters_nothing(make: Callable[..., Site]) -> None:
    disabled, other = make(enabled=False), make()
    assert disabled.client("7").get("/plain").status_code == 200
    assert (disabled.tenants(), other.tenants()) == ([], [""])


def test_a_request_without_a_call_looks_nobody_up(make: Callable[..., Site]) -> None:
    asked: list[Any] = []
    make(tenant_resolver=lambda request: asked.append(request)).client("7").get("/no_call")
    assert asked == []


def test_two_tenants_interleaved_on_threads_are_never_mixed(make: Callable[..., Site]) -> None:
    """Each tenant makes its own number of calls, in views of every kind, on threads that serve both."""
    site = make(user_tenant_attributes=["organization"])
    views = ["plain", "streamed", "aplain", "streamed_late", "no_call"]
    local = threading.local()

    def visit(number: int) -> None:
        if not hasattr(local, "clients"):
            local.clients = {user: site.client(user) for user in ("alice@acme", "bob@globex")}
        user = "alice@acme" if number % 2 else "bob@globex"
        before = scope.current()
        response = local.clients[user].get(f"/{views[number % len(views)]}")
        assert response.status_code == 200 and response.data
        assert before is scope.current() is None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(200)))
    calls = [1, 1, 1, 2, 0]
    expected = {"acme": 0, "globex": 0}
    for number in range(200):
        expected["acme" if number % 2 else "globex"] += calls[number % len(views)]
    tenants = site.tenants()
    assert {tenant: tenants.count(tenant) for tenant in set(tenants)} == expected
    assert site.meter.store.holds() == []


@pytest.mark.parametrize("view", ["plain", "streamed", "aplain"])
async def test_inside_an_asgi_server_the_tenant_is_the_same(site: Site, view: str) -> None:
    transport = httpx.ASGITransport(app=WSGIMiddleware(site.app, workers=4))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://flask") as client:
        for user in ("7", "8"):
            assert (await client.get(f"/login/{user}")).status_code == 200
            assert (await client.get(f"/{view}")).content
    assert site.tenants() == ["user:7", "user:8"]


class NativeFile:
    """What a server gives as `wsgi.file_wrapper`, and takes only as it was given."""

    def __init__(self, file: Any, size: int = 8192) -> None:
        self.file = file

    def __iter__(self) -> Any:
        return iter(lambda: self.file.read(8192), b"")

    def close(self) -> None:
        self.file.close()


def start_response(*args: Any) -> Any:
    """Do what a server does with the status and the headers, but for sending them."""


def test_a_file_goes_to_the_server_as_the_file_it_knows(site: Site) -> None:
    environ = site.app.test_request_context("/file").request.environ
    body = site.app.wsgi_app({**environ, "wsgi.file_wrapper": NativeFile}, start_response)
    assert type(body) is NativeFile
    body.close()
    plain = site.app.wsgi_app({**environ, "PATH_INFO": "/no_call", "wsgi.file_wrapper": NativeFile}, start_response)
    assert b"".join(plain) == b"nothing asked"
    plain.close()  # type: ignore[attr-defined]
