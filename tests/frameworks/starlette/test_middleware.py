"""Whose bill a call goes on, and what a refusal looks like, on Starlette and on FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response

from tests.waiting import PATIENCE
from token_limit_core import Decision, LimitExceededException, Meter
from token_limit_core.errors import refusal_in
from token_limit_core.testing import FakeProvider
from token_limit_starlette import TokenLimitMiddleware, refusal_handler, upgrade_response

from . import site
from .conftest import Events, Signed
from .site import AUTH, metered, starlette_app

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
MAKERS = [site.starlette_app, site.fastapi_app]


def named(endpoints: list[Any]) -> list[str]:
    return [endpoint.__name__ for endpoint in endpoints]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("endpoint", named(site.BILLED) + ["Endpoint"])
def test_a_call_is_billed_to_the_user_of_the_request(
    stored: Meter, events: Events, signed: Signed, make: Any, endpoint: str
) -> None:
    client = signed(metered(make=make, meter=stored))
    assert client.get(f"/{endpoint}").text
    assert events.tenants() == ["user:alice"]
    assert stored.store.spend("user:alice", 0, 4e9).cost_nano > 0
    assert stored.store.holds() == []


def test_the_tasks_of_a_group_share_the_tenant_of_the_request(meter: Meter, events: Events, signed: Signed) -> None:
    signed(metered(meter=meter)).get("/anyio_tasks")
    assert events.tenants() == ["user:alice"] * 2


def test_requests_do_not_share_a_tenant(meter: Meter, events: Events, signed: Signed) -> None:
    app = metered(meter=meter)
    alice, bob, nobody = signed(app), signed(app, "bob"), signed(app, None)
    alice.get("/explicit")
    for client in (alice, bob, nobody, alice):
        client.get("/plain")
    assert events.tenants() == ["explicit", "user:alice", "user:bob", "", "user:alice"]


def test_two_tasks_of_a_request_with_tenants_of_their_own_are_billed_apart(
    meter: Meter, events: Events, signed: Signed
) -> None:
    signed(metered(meter=meter)).get("/two_tenants")
    assert sorted(events.tenants()) == ["left", "right"]


@pytest.mark.parametrize("endpoint", ["bare_thread", "bare_pool"])
def test_a_bare_thread_is_the_askers(meter: Meter, events: Events, signed: Signed, endpoint: str) -> None:
    app = metered(meter=meter)
    signed(app, None).get(f"/{endpoint}")
    signed(app).get(f"/{endpoint}")
    assert events.tenants() == ["", "user:alice"]


@pytest.mark.parametrize("endpoint", ["plain", "threadpool", "streamed", "bare_thread"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_tenant_that_cannot_be_resolved_in_the_request_is_resolved_after_it(
    meter: Meter, events: Events, signed: Signed, endpoint: str, kind: str
) -> None:
    away = [True]

    def resolver(connection: HTTPConnection) -> str:
        if away:
            raise OSError("no database")
        return connection.headers["X-Name"]

    async def aresolver(connection: HTTPConnection) -> str:
        return resolver(connection)

    client = signed(metered(meter=meter, resolver=resolver if kind == "sync" else aresolver))
    assert client.get(f"/{endpoint}", headers={"X-Name": "acme"}).text
    assert meter.status()["tenants_unresolved"] == 1
    away.clear()
    assert events.tenants() == ["acme"]


def test_forged_headers_and_parameters_change_nothing(meter: Meter, events: Events, signed: Signed) -> None:
    names = ("X-Tenant-ID", "X-Tenant", "X-User-ID", "Tenant", "X-Forwarded-Host", "X-Forwarded-User", "Host")
    forged = dict.fromkeys(names, "globex")
    client = signed(metered(meter=meter))
    headers = {**forged, "Cookie": "tenant=globex; user=globex"}
    client.get("/plain?tenant_id=globex&tenant=globex&state=globex", headers=headers)
    assert events.tenants() == ["user:alice"]


class TenantByHost:
    """What django-tenants does, for ASGI."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            HTTPConnection(scope).state.tenant = "acme"
        await self.app(scope, receive, send)


@pytest.mark.parametrize("authentication", [[AUTH], []])
def test_the_tenant_of_the_state_counts_for_an_authenticated_user_only(
    meter: Meter, events: Events, signed: Signed, authentication: list[Middleware]
) -> None:
    app = starlette_app(Middleware(TokenLimitMiddleware, meter=meter), Middleware(TenantByHost), *authentication)
    signed(app).get("/plain")
    signed(app, None).get("/plain")
    assert events.tenants() == (["acme", ""] if authentication else ["", ""])


@pytest.mark.parametrize("endpoint", ["plain", "threadpool"])
@pytest.mark.parametrize(("token", "tenant"), [("ann", "acme"), ("seven", "user:7"), ("alice", "user:alice")])
def test_attributes_of_the_user_come_before_the_user_itself(
    meter: Meter, events: Events, signed: Signed, endpoint: str, token: str, tenant: str
) -> None:
    app = metered(meter=meter, user_tenant_attributes=["team", "organization"])
    signed(app, token).get(f"/{endpoint}")
    assert events.tenants() == [tenant]


def resolve(connection: HTTPConnection) -> str | None:
    return f"by-{connection.user.username}" if connection.user.is_authenticated else None


async def aresolve(connection: HTTPConnection) -> str | None:
    return resolve(connection)


def give_awaitable(connection: HTTPConnection) -> Any:
    return aresolve(connection)


class Callable_:
    async def __call__(self, connection: HTTPConnection) -> str | None:
        return resolve(connection)


@pytest.mark.parametrize("resolver", [resolve, aresolve, give_awaitable, Callable_()])
@pytest.mark.parametrize("endpoint", ["plain", "threadpool", "to_thread", "streamed_by_threads", "own_loop"])
def test_a_resolver_of_the_application_sync_or_async_replaces_the_default(
    meter: Meter, events: Events, signed: Signed, resolver: Any, endpoint: str
) -> None:
    app = metered(meter=meter, resolver=resolver)
    signed(app).get(f"/{endpoint}")
    signed(app, None).get(f"/{endpoint}")
    assert events.tenants() == ["by-alice", ""]


def test_an_async_resolver_cannot_serve_a_sync_call_on_the_loop(
    meter: Meter, events: Events, signed: Signed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert signed(metered(meter=meter, resolver=aresolve)).get("/sync_call").status_code == 200
    assert events.tenants() == ["by-alice"]  # resolved when the call has ended
    assert "use the async client" in caplog.text


def test_the_tenant_is_frozen_at_the_first_call(meter: Meter, events: Events, signed: Signed) -> None:
    calls: list[int] = []

    def resolver(connection: HTTPConnection) -> str:
        calls.append(1)
        return f"tenant-{len(calls)}"

    client = signed(metered(meter=meter, resolver=resolver))
    client.get("/no_call")
    client.get("/twice")
    assert (events.tenants(), len(calls)) == (["tenant-1"] * 2, 1)


def test_a_call_whose_resolver_fails_waits_for_its_tenant(
    meter: Meter, events: Events, signed: Signed, caplog: pytest.LogCaptureFixture
) -> None:
    def resolver(connection: HTTPConnection) -> str:
        raise LookupError("the directory is away")

    assert signed(metered(meter=meter, resolver=resolver)).get("/plain").status_code == 200
    assert meter.status()["tenants_unresolved"] == 1  # billed when the resolver works, else as unresolved
    assert "the directory is away" in caplog.text


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("endpoint", named(site.REFUSED))
def test_a_refusal_becomes_the_upgrade_response_before_any_traffic(
    meter: Meter, provider: FakeProvider, signed: Signed, make: Any, endpoint: str
) -> None:
    meter.set_limit("user:alice", 0)
    client = signed(metered(make=make, meter=meter, upgrade_url="/plans"))
    response = client.get(f"/{endpoint}", headers={"Accept": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (402, "application/problem+json")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["vary"] == "Accept, Accept-Language"
    problem = response.json()
    assert (problem["kind"], problem["limit_usd"], problem["upgrade_url"]) == ("exhausted", "0", "/plans")
    assert provider.requests == []
    page = client.get(f"/{endpoint}", headers={"Accept": BROWSER})
    assert (page.status_code, page.headers["content-type"]) == (402, "text/html; charset=utf-8")
    assert 'href="/plans"' in page.text


def test_a_denial_the_application_handled_is_its_own_business(meter: Meter, signed: Signed) -> None:
    meter.set_limit("user:alice", 0)
    client = signed(metered(meter=meter), raise_server_exceptions=False)
    assert client.get("/handled").text == "no answer today"
    assert client.get("/handled_then_broken").status_code == 500
    assert client.get("/handled_with_500").text == "the application's own"


def test_a_handler_of_the_application_comes_first(meter: Meter, signed: Signed) -> None:
    async def teapot(request: Any, error: Exception) -> Response:
        return PlainTextResponse("mine", status_code=418)

    meter.set_limit("user:alice", 0)
    app = metered(meter=meter)
    app.add_exception_handler(LimitExceededException, teapot)
    assert signed(app).get("/plain").status_code == 418


@pytest.mark.parametrize("handler", [True, False])
def test_a_middleware_that_answers_every_exception_keeps_its_say(meter: Meter, signed: Signed, handler: bool) -> None:
    class CatchAll:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await self.app(scope, receive, send)
            except Exception:
                await PlainTextResponse("all is well")(scope, receive, send)

    meter.set_limit("user:alice", 0)
    app = starlette_app(Middleware(TokenLimitMiddleware, meter=meter), AUTH, Middleware(CatchAll))
    if handler:
        app.add_exception_handler(LimitExceededException, refusal_handler)  # type: ignore[arg-type]
    assert signed(app).get("/plain").status_code == (402 if handler else 200)


def answer(connection: HTTPConnection, decision: Decision) -> Response:
    return PlainTextResponse(f"{connection.url.path} {decision.kind}", status_code=418)


async def aanswer(connection: HTTPConnection, decision: Decision) -> Response:
    return answer(connection, decision)


@pytest.mark.parametrize("custom", [answer, aanswer])
def test_a_refusal_can_be_answered_by_the_application(meter: Meter, signed: Signed, custom: Any) -> None:
    meter.set_limit("user:alice", 0)
    response = signed(metered(meter=meter, upgrade_response=custom)).get("/plain")
    assert (response.status_code, response.text) == (418, "/plain exhausted")


def test_the_page_can_be_the_applications(meter: Meter, signed: Signed) -> None:
    meter.set_limit("user:alice", "12.5")
    meter.track_manually(
        provider="openai", model="m", input_tokens=1, output_tokens=1, cost_usd="12.5", tenant_id="user:alice"
    )
    app = metered(meter=meter, upgrade_page=lambda values: f"<h1>{values['limit']} {values['status']}</h1>")
    assert signed(app).get("/plain", headers={"Accept": BROWSER}).text == "<h1>$12.50 402</h1>"


def broken(*given: Any) -> Any:
    raise ZeroDivisionError


def no_response(*given: Any) -> Any:
    return "text"


@pytest.mark.parametrize("option", ["upgrade_response", "upgrade_page"])
@pytest.mark.parametrize("function", [broken, no_response])
def test_an_answer_of_the_application_that_fails_gives_way_to_the_built_in_one(
    meter: Meter, signed: Signed, monkeypatch: pytest.MonkeyPatch, option: str, function: Any
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    meter.set_limit("user:alice", 0)
    response = signed(metered(meter=meter, **{option: function})).get("/plain", headers={"Accept": BROWSER})
    assert response.status_code == 402
    assert ("No AI allowance" in response.text) == ((option, function) != ("upgrade_page", no_response))


def test_calls_without_a_tenant_are_refused_where_the_application_wants_that(
    make_meter: Callable[..., Meter], provider: FakeProvider, signed: Signed
) -> None:
    app = metered(meter=make_meter(on_no_tenant="refuse"))
    assert signed(app, None).get("/plain").status_code == 403
    assert signed(app).get("/plain").status_code == 200
    assert len(provider.requests) == 1


def test_calls_in_flight_that_hold_the_rest_are_a_429_with_retry_after(
    meter: Meter, provider: FakeProvider, signed: Signed
) -> None:
    meter.set_limit("user:alice", "0.000001")
    pause = provider.pause_after(chunks=0)
    app = metered(meter=meter)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(signed(app).get, "/plain")
        assert pause.reached.wait(PATIENCE)
        response = signed(app).get("/plain")
        pause.set()
    assert first.result().status_code == 200
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0


def test_a_streamed_body_that_is_refused_is_cut_and_not_repaired(meter: Meter, signed: Signed) -> None:
    meter.set_limit("user:alice", 0)
    client = signed(metered(meter=meter), raise_server_exceptions=False)
    assert client.get("/streamed").text == ""
    # Starlette 0.40 lets the group of anyio out, later ones what is in it
    with pytest.raises((LimitExceededException, ExceptionGroup)) as raised:
        signed(metered(meter=meter)).get("/streamed")
    assert refusal_in(raised.value) is not None


async def test_upgrade_response_is_there_for_handlers_of_ones_own(meter: Meter, signed: Signed) -> None:
    async def mine(request: HTTPConnection, error: LimitExceededException) -> Response:
        response = await upgrade_response(request, error.decision)
        response.headers["X-Mine"] = "yes"
        return response

    meter.set_limit("user:alice", 0)
    app = metered(meter=meter)
    app.add_exception_handler(LimitExceededException, mine)
    response = signed(app).get("/plain")
    assert (response.status_code, response.headers["x-mine"]) == (402, "yes")
