"""The applications as Starlette's, as FastAPI's, and as Flask's inside Starlette; the orders of middleware vary."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from fastapi import Depends, FastAPI, Header, HTTPException
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from token_limit_starlette import TokenLimitMiddleware
from token_limit_starlette.dependencies import bind_tenant

from .work import ASYNC, HOSTS, PEOPLE, STORE, SYNC, aask, ask, astream, bounded, person, produced, pumped, stream

STREAMS = {"stream": stream, "astream": astream, "produced": produced, "bounded": bounded, "pumped": pumped}


class User(BaseUser):
    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.id = name
        self.organization = PEOPLE[name]


class Tokens(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = person(conn.headers.get("authorization"))
        return None if name is None else (AuthCredentials(), User(name))


async def do(request: Request) -> Response:
    kind, question = request.path_params["kind"], request.query_params["q"]
    if kind in ASYNC:
        return PlainTextResponse(await ASYNC[kind](question))
    if kind in STREAMS:
        return StreamingResponse(STREAMS[kind](question), media_type="text/plain")
    if kind == "background":
        return PlainTextResponse("later", background=BackgroundTask(aask, question))
    if kind == "background_in_thread":
        return PlainTextResponse("later", background=BackgroundTask(ask, question))
    return PlainTextResponse(await run_in_threadpool(SYNC[kind], question))


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for question in websocket.iter_text():
        await websocket.send_text(await aask(question))


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


def metered(**options: Any) -> Middleware:
    return Middleware(TokenLimitMiddleware, store=STORE, hosts=HOSTS, **options)


def starlette_app() -> Starlette:
    """Ours stands outside of authentication, below compression and a BaseHTTPMiddleware."""
    return Starlette(
        routes=[Route("/do/{kind}", do), WebSocketRoute("/socket", socket)],
        middleware=[
            Middleware(GZipMiddleware, minimum_size=1),
            Middleware(BaseHTTPMiddleware, dispatch=pass_on),
            metered(user_tenant_attributes=["organization"]),
            Middleware(AuthenticationMiddleware, backend=Tokens()),
        ],
    )


def directory() -> Iterator[sqlite3.Connection]:
    """Open the database in which people are looked up, and close it when the response is out."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("CREATE TABLE person (name TEXT, organization TEXT)")
    connection.executemany("INSERT INTO person VALUES (?, ?)", PEOPLE.items())
    yield connection
    connection.close()


def organization(
    connection: sqlite3.Connection = Depends(directory),  # noqa: B008
    authorization: str = Header(default=""),
) -> str:
    """Look the person up in the database."""
    query = "SELECT organization FROM person WHERE name = ?"
    row = connection.execute(query, (person(authorization),)).fetchone()
    if row is None:
        raise HTTPException(401)
    return str(row[0])


def fastapi_app() -> FastAPI:
    """Ours stands outside of sessions, compression and a BaseHTTPMiddleware; a dependency says who pays."""
    app = FastAPI(dependencies=[Depends(bind_tenant(organization))])
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    app.add_middleware(SessionMiddleware, secret_key="test")
    app.add_middleware(TokenLimitMiddleware, store=STORE, hosts=HOSTS)

    @app.get("/do/{kind}")
    async def endpoint(request: Request, kind: str) -> Response:
        return await do(request)

    app.websocket("/socket")(socket)
    return app


def flask_in_starlette() -> Starlette:
    """Flask's extension meters what Flask answers; Starlette knows nothing of it."""
    from a2wsgi import WSGIMiddleware

    from .flask_app import create_app

    return Starlette(routes=[Mount("/", WSGIMiddleware(create_app()))])
