"""Whatever stands above or below the middleware, the bill and the refusal stay the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount

from token_limit_core import Meter
from token_limit_core.testing import FakeProvider
from token_limit_starlette import TokenLimitMiddleware

from . import site
from .conftest import Events, Signed
from .site import AUTH, metered, starlette_app

ENDPOINTS = ["plain", "threadpool", "streamed", "streamed_by_threads", "background", "tasks"]
REFUSED = ["plain", "threadpool", "tasks", "wrapped"]


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


OTHERS = {
    "base": Middleware(BaseHTTPMiddleware, dispatch=pass_on),
    "gzip": Middleware(GZipMiddleware, minimum_size=1),
    "session": Middleware(SessionMiddleware, secret_key="test"),
}


def orders() -> list[Any]:
    """Put ours and authentication into every order, with each of the others above, between and below."""
    found = []
    for name, place in itertools.product(OTHERS, range(3)):
        for ours_first in (True, False):
            order = ["ours", "auth"] if ours_first else ["auth", "ours"]
            order.insert(place, name)
            found.append(pytest.param(order, id="-".join(order)))
    return found


def stack(order: list[str], meter: Meter) -> Starlette:
    known = {**OTHERS, "auth": AUTH, "ours": Middleware(TokenLimitMiddleware, meter=meter)}
    return starlette_app(*(known[name] for name in order))


@pytest.mark.parametrize("order", orders())
def test_the_order_of_middleware_changes_neither_the_bill_nor_the_refusal(
    meter: Meter, events: Events, signed: Signed, provider: FakeProvider, order: list[str]
) -> None:
    client = signed(stack(order, meter))
    for endpoint in ENDPOINTS:
        assert client.get(f"/{endpoint}").status_code == 200
    assert events.tenants() == ["user:alice"] * len(ENDPOINTS)
    meter.set_limit("user:alice", 0)
    sent = len(provider.requests)
    assert {endpoint: client.get(f"/{endpoint}").status_code for endpoint in REFUSED} == dict.fromkeys(REFUSED, 402)
    assert len(provider.requests) == sent


def test_a_tenant_bound_below_a_base_http_middleware_reaches_the_stream(
    meter: Meter, events: Events, signed: Signed
) -> None:
    async def tenant(request: Request, call_next: Any) -> Response:
        request.state.tenant = "acme"
        response: Response = await call_next(request)
        return response

    app = metered(Middleware(BaseHTTPMiddleware, dispatch=pass_on), meter=meter)
    app.add_middleware(BaseHTTPMiddleware, dispatch=tenant)
    client = signed(app)
    client.get("/streamed")
    client.get("/background")
    assert events.tenants() == ["acme"] * 2


def test_a_session_can_name_the_tenant(meter: Meter, events: Events, signed: Signed) -> None:
    def by_session(connection: HTTPConnection) -> str | None:
        return connection.session.get("organization")

    async def sign_in(request: Request, call_next: Any) -> Response:
        request.session["organization"] = "acme"
        response: Response = await call_next(request)
        return response

    app = metered(meter=meter, resolver=by_session)
    app.add_middleware(BaseHTTPMiddleware, dispatch=sign_in)
    app.add_middleware(SessionMiddleware, secret_key="test")
    signed(app).get("/streamed")
    assert events.tenants() == ["acme"]


def test_cors_above_makes_the_refusal_readable_for_pages_elsewhere(meter: Meter, signed: Signed) -> None:
    meter.set_limit("user:alice", 0)
    app = metered(Middleware(CORSMiddleware, allow_origins=["https://app.example"]), meter=meter)
    response = signed(app).get("/plain", headers={"Origin": "https://app.example"})
    assert response.status_code == 402
    assert response.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("make", [site.starlette_app, site.fastapi_app])
@pytest.mark.parametrize("endpoint", REFUSED)
def test_an_application_mounted_below_has_its_refusals_answered(
    meter: Meter, events: Events, signed: Signed, make: Any, endpoint: str
) -> None:
    """An inner application answers 500 first and raises then."""
    inner = make()
    app = Starlette(routes=[Mount("/inner", inner)], middleware=[Middleware(TokenLimitMiddleware, meter=meter), AUTH])
    client = signed(app)
    client.get("/inner/plain")
    client.get("/inner/streamed")
    assert events.tenants() == ["user:alice"] * 2
    meter.set_limit("user:alice", 0)
    assert client.get(f"/inner/{endpoint}").status_code == 402
    quiet = signed(app, raise_server_exceptions=False)
    assert quiet.get("/inner/handled").text == "no answer today"
    assert quiet.get("/inner/handled_then_broken").text == "Internal Server Error"
    assert quiet.get("/inner/handled_with_500").text == "the application's own"


def test_a_whole_application_can_be_wrapped(meter: Meter, events: Events, signed: Signed) -> None:
    app = TokenLimitMiddleware(starlette_app(AUTH), meter=meter)
    client = signed(app)
    client.get("/plain")
    assert events.tenants() == ["user:alice"]
    meter.set_limit("user:alice", 0)
    assert client.get("/wrapped").status_code == 402


def test_an_application_with_a_handler_for_every_error_keeps_a_refusal_a_refusal(meter: Meter, signed: Signed) -> None:
    async def sorry(request: Request, error: Exception) -> Response:
        return Response("sorry", status_code=500)

    meter.set_limit("user:alice", 0)
    app = metered(meter=meter)
    app.add_exception_handler(Exception, sorry)
    assert signed(app).get("/plain").status_code == 402


def test_two_applications_in_a_process_have_meters_of_their_own(
    make_meter: Any, events: Events, signed: Signed, provider: FakeProvider
) -> None:
    meters = make_meter(), make_meter()
    for meter in meters:
        meter.set_limit("user:alice", 1)
    inner = metered(meter=meters[1])
    outer = metered(meter=meters[0], make=site.fastapi_app)
    outer.mount("/inner", inner)
    client = signed(outer)
    client.get("/plain")
    client.get("/inner/plain")
    client.get("/inner/streamed")
    assert [meter.store.spend("user:alice", 0, 4e9).calls for meter in meters] == [1, 2]
    meters[1].set_limit("user:alice", 0)
    assert [client.get(path).status_code for path in ("/plain", "/inner/plain", "/plain")] == [200, 402, 200]
