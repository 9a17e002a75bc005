"""FastAPI: tenants from dependencies, and the refusals in the OpenAPI document."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from tests.frameworks.llm import aask, ask, async_client, text_of
from tests.frameworks.llm import request as question
from token_limit_core import ConfigurationError, Meter
from token_limit_core.testing import FakeProvider
from token_limit_starlette import TokenLimitMiddleware
from token_limit_starlette.dependencies import bind_tenant, refusal_responses

from .conftest import Events, Signed

Token = Annotated[str, Header(alias="authorization")]


class Organization:
    """A row, as an ORM gives it."""

    def __init__(self, id: str) -> None:
        self.id = id


class Directory:
    """The table of tokens, in a database that a look-up really asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE token (token TEXT, organization TEXT)")
            rows = [("Bearer alice", "acme"), ("Bearer bob", "globex")]
            connection.executemany("INSERT INTO token VALUES (?, ?)", rows)
        connection.close()

    def organization(self, token: str) -> Organization:
        connection = sqlite3.connect(self.path)
        row = connection.execute("SELECT organization FROM token WHERE token = ?", (token,)).fetchone()
        connection.close()
        if row is None:
            raise HTTPException(401)
        return Organization(row[0])


def sync_tenant(directory: Directory) -> Callable[..., Any]:
    def organization(authorization: Token) -> Organization:
        return directory.organization(authorization)

    return organization


def async_tenant(directory: Directory) -> Callable[..., Any]:
    async def organization(authorization: Token) -> Organization:
        return await run_in_threadpool(directory.organization, authorization)

    return organization


def yielding_tenant(directory: Directory) -> Callable[..., Any]:
    def organization(authorization: Token) -> Iterator[Organization]:
        yield directory.organization(authorization)

    return organization


def async_yielding_tenant(directory: Directory) -> Callable[..., Any]:
    async def organization(authorization: Token) -> AsyncIterator[Organization]:
        yield await run_in_threadpool(directory.organization, authorization)

    return organization


def class_tenant(directory: Directory) -> Callable[..., Any]:
    class Current(Organization):
        def __init__(self, authorization: Token) -> None:
            super().__init__(directory.organization(authorization).id)

    # FastAPI 0.115 does not look up a class's annotations that are texts
    Current.__init__.__annotations__["authorization"] = Token
    return Current


KINDS = [sync_tenant, async_tenant, yielding_tenant, async_yielding_tenant, class_tenant]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "directory.db")


def application(get_tenant: Any, **options: Any) -> FastAPI:
    """Make an application that signs people in with a dependency."""
    app = FastAPI(responses=refusal_responses)
    app.add_middleware(TokenLimitMiddleware, **options)
    payer = Depends(bind_tenant(get_tenant))

    @app.get("/plain")
    async def plain(organization: Any = payer) -> str:
        return f"{organization.id}: {text_of(await aask())}"

    router = APIRouter(dependencies=[payer])

    @router.get("/threadpool")
    def threadpool() -> str:
        return text_of(ask())

    @router.get("/streamed")
    async def streamed() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            async with async_client() as own:
                async for chunk in await own.chat.completions.create(**question(), stream=True):
                    yield text_of(chunk)

        return StreamingResponse(body())

    @router.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(aask)
        tasks.add_task(ask)
        return "later"

    @router.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(text_of(await aask()))
        await websocket.close()

    app.include_router(router)
    return app


@pytest.mark.parametrize("kind", KINDS)
def test_a_dependency_with_a_look_up_says_who_pays_for_all_the_request_starts(
    stored: Meter, events: Events, signed: Signed, directory: Directory, kind: Any
) -> None:
    app = application(kind(directory), meter=stored)
    alice, bob = signed(app), signed(app, "bob")
    assert alice.get("/plain").json().startswith("acme: ")
    for client in (bob, alice):
        for endpoint in ("threadpool", "streamed", "background"):
            assert client.get(f"/{endpoint}").text
    with bob.websocket_connect("/socket") as socket:
        assert socket.receive_text()
    assert events.tenants() == ["acme"] + ["globex"] * 4 + ["acme"] * 4 + ["globex"]


@pytest.mark.parametrize("endpoint", ["plain", "threadpool"])
@pytest.mark.parametrize("kind", [sync_tenant, async_yielding_tenant])
def test_the_tenant_of_a_dependency_is_refused_before_any_traffic(
    meter: Meter, provider: FakeProvider, signed: Signed, directory: Directory, kind: Any, endpoint: str
) -> None:
    meter.set_limit("acme", 0)
    app = application(kind(directory), meter=meter)
    response = signed(app).get(f"/{endpoint}")
    assert (response.status_code, response.headers["content-type"]) == (402, "application/problem+json")
    assert provider.requests == []
    assert signed(app, "bob").get(f"/{endpoint}").status_code == 200


def test_who_is_not_let_in_by_the_dependency_costs_nobody(
    meter: Meter, provider: FakeProvider, signed: Signed, directory: Directory
) -> None:
    assert signed(application(sync_tenant(directory), meter=meter), "eve").get("/plain").status_code == 401
    assert provider.requests == []


def test_a_dependency_without_a_tenant_leaves_the_order_of_the_middleware(
    meter: Meter, events: Events, signed: Signed
) -> None:
    app = application(lambda: None, meter=meter, resolver=lambda connection: "resolved")
    signed(app).get("/threadpool")
    assert events.tenants() == ["resolved"]


def test_an_explicit_tenant_wins_over_the_dependency(meter: Meter, events: Events, signed: Signed) -> None:
    app = application(lambda: "acme", meter=meter)

    @app.get("/explicit", dependencies=[Depends(bind_tenant(lambda: "acme"))])
    async def explicit() -> str:
        with meter.for_tenant("explicit"):
            return text_of(await aask())

    signed(app).get("/explicit")
    assert events.tenants() == ["explicit"]


class Nameless:
    """Neither `pk` nor `id` nor a text of its own."""


def test_a_tenant_without_a_name_is_an_error_and_never_a_new_tenant_each_time(
    meter: Meter, provider: FakeProvider, signed: Signed
) -> None:
    with pytest.raises(ConfigurationError, match="Nameless has neither `pk` nor `id`"):
        signed(application(Nameless, meter=meter)).get("/plain")
    assert provider.requests == []


def test_a_dependency_without_the_middleware_says_what_is_missing(signed: Signed) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(bind_tenant(lambda: "acme"))])
    async def endpoint() -> str:
        return "done"

    with pytest.raises(ConfigurationError, match="add TokenLimitMiddleware"):
        signed(app).get("/")


def test_the_refusals_are_in_the_openapi_document(meter: Meter, directory: Directory, signed: Signed) -> None:
    app = application(sync_tenant(directory), meter=meter)
    responses = signed(app).get("/openapi.json").json()["paths"]["/plain"]["get"]["responses"]
    assert {"200", "402", "403", "429"} <= responses.keys()
    for status in ("402", "403", "429"):
        assert set(responses[status]["content"]) == {"application/problem+json", "text/html"}
    assert "Retry-After" in responses["429"]["headers"]


def test_a_refusal_has_the_members_the_document_promises(meter: Meter, directory: Directory, signed: Signed) -> None:
    meter.set_limit("acme", 0)
    client = signed(application(sync_tenant(directory), meter=meter, upgrade_url="/plans"))
    document = client.get("/openapi.json").json()["paths"]["/plain"]["get"]["responses"]["402"]
    schema = document["content"]["application/problem+json"]["schema"]
    problem = client.get("/plain").json()
    assert set(schema["required"]) <= problem.keys() <= schema["properties"].keys()
    types = {"string": str, "integer": int}
    assert all(isinstance(problem[name], types[schema["properties"][name]["type"]]) for name in problem)
