"""The usage fragment links to the pages that the middleware names, if it is given the request."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from token_limit_core import Meter, MeterConfig
from token_limit_starlette import TokenLimitMiddleware
from token_limit_starlette.usage import usage_fragment


async def with_request(request: Request) -> HTMLResponse:
    return HTMLResponse(await usage_fragment(request))


async def without_request(request: Request) -> HTMLResponse:
    return HTMLResponse(await usage_fragment())


@pytest.mark.parametrize(("path", "is_linked"), [("/with", True), ("/without", False)])
def test_the_fragment_has_the_links_of_the_middleware(path: str, is_linked: bool) -> None:
    app = Starlette(routes=[Route("/with", with_request), Route("/without", without_request)])
    with Meter(MeterConfig(store="memory://", patches=[])) as meter:
        meter.set_limit("acme", 0)
        app.add_middleware(
            TokenLimitMiddleware,
            meter=meter,
            resolver=lambda request: "acme",
            upgrade_url="/billing/",
            support_url="mailto:help@example.com",
        )
        with TestClient(app) as client:
            text = client.get(path).text
    assert "This account has no AI allowance." in text
    assert ('href="/billing/"' in text) == ('href="mailto:help@example.com"' in text) == is_linked
