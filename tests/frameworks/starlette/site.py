"""An application that calls an LLM in every way a request can, as Starlette's and as FastAPI's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from tests.frameworks.llm import aask, ask, async_client, text_of
from tests.frameworks.llm import request as question
from token_limit_core import LimitExceededException
from token_limit_starlette import TokenLimitMiddleware, get_meter


async def plain(request: Request) -> Response:
    return PlainTextResponse(text_of(await aask()))


def threadpool(request: Request) -> Response:
    """Run in a thread of the pool, as synchronous endpoints do."""
    return PlainTextResponse(text_of(ask()))


async def sync_call(request: Request) -> Response:
    """Call synchronously on the event loop, as nobody should."""
    return PlainTextResponse(text_of(ask()))


async def streamed(request: Request) -> Response:
    async def body() -> AsyncIterator[str]:
        async with async_client() as own:
            async for chunk in await own.chat.completions.create(**question(), stream=True):
                yield text_of(chunk)

    return StreamingResponse(body(), media_type="text/plain")


async def streamed_by_threads(request: Request) -> Response:
    def body() -> Iterator[str]:
        for chunk in ask(stream=True):
            yield text_of(chunk)

    return StreamingResponse(body(), media_type="text/plain")


async def background(request: Request) -> Response:
    return PlainTextResponse("later", background=BackgroundTask(aask))


async def background_by_threads(request: Request) -> Response:
    return PlainTextResponse("later", background=BackgroundTask(ask))


async def tasks(request: Request) -> Response:
    async with asyncio.TaskGroup() as group:
        group.create_task(aask())
    return PlainTextResponse("done")


async def anyio_tasks(request: Request) -> Response:
    async with anyio.create_task_group() as group:
        group.start_soon(aask)
        group.start_soon(run_in_threadpool, ask)
    return PlainTextResponse("done")


async def twice(request: Request) -> Response:
    await aask()
    return await run_in_threadpool(threadpool, request)


async def to_thread(request: Request) -> Response:
    return PlainTextResponse(text_of(await asyncio.to_thread(ask)))


def own_loop(request: Request) -> Response:
    """Run an event loop of one's own in a thread of the pool."""
    return PlainTextResponse(text_of(asyncio.run(aask())))


async def two_tenants(request: Request) -> Response:
    """Bill two tenants from two tasks of one request, interleaved."""
    both = asyncio.Barrier(2)

    async def work(tenant: str) -> None:
        with get_meter(request).for_tenant(tenant):
            await both.wait()
            await aask()

    await asyncio.gather(work("left"), work("right"))
    return PlainTextResponse("done")


async def explicit(request: Request) -> Response:
    get_meter(request).set_tenant("explicit")
    return await plain(request)


async def wrapped(request: Request) -> Response:
    try:
        return await plain(request)
    except LimitExceededException as error:
        raise RuntimeError("the answer could not be made") from error


async def handled(request: Request) -> Response:
    try:
        return await plain(request)
    except LimitExceededException:
        return PlainTextResponse("no answer today")


async def handled_then_broken(request: Request) -> Response:
    await handled(request)
    raise ZeroDivisionError


async def handled_with_500(request: Request) -> Response:
    await handled(request)
    return PlainTextResponse("the application's own", status_code=500)


def bare_thread(request: Request) -> Response:
    """Lose the context, as a thread of one's own does."""
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return PlainTextResponse("done")


def bare_pool(request: Request) -> Response:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask).result()
    return PlainTextResponse("done")


async def no_call(request: Request) -> Response:
    return PlainTextResponse("nothing asked")


class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return await plain(request)


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    while (await websocket.receive_text()) != "bye":
        await websocket.send_text(text_of(await aask()))
    await websocket.close()


async def early_socket(websocket: WebSocket) -> None:
    """Call before the handshake is done."""
    answer = text_of(await aask())
    await websocket.accept()
    await websocket.send_text(answer)
    await websocket.close()


BILLED = [
    plain, threadpool, sync_call, streamed, streamed_by_threads, background, background_by_threads, tasks,
    to_thread, own_loop,
]  # fmt: skip
"""Endpoints that make one call for whoever asks."""

REFUSED = [plain, threadpool, sync_call, tasks, anyio_tasks, to_thread, own_loop, wrapped]
"""Endpoints that let a refusal out before they answer."""

OTHERS = [
    two_tenants, twice, explicit, handled, handled_then_broken, handled_with_500, bare_thread, bare_pool, no_call,
    Endpoint,
]  # fmt: skip
SOCKETS = [socket, early_socket]


class User(BaseUser):
    """A user with an organization, of the kind applications define."""

    def __init__(self, id: int, organization: Any = None) -> None:
        self.id = id
        self.organization = organization

    @property
    def is_authenticated(self) -> bool:
        return True


class Tokens(AuthenticationBackend):
    """Sign in whoever names a known token."""

    users: dict[str, Any] = {
        "alice": SimpleUser("alice"),
        "bob": SimpleUser("bob"),
        "seven": User(7),
        "ann": User(8, organization="acme"),
    }

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        token = conn.headers.get("authorization", "").removeprefix("Bearer ")
        return (AuthCredentials(["authenticated"]), self.users[token]) if token in self.users else None


AUTH = Middleware(AuthenticationMiddleware, backend=Tokens())


def starlette_app(*middleware: Middleware, **options: Any) -> Starlette:
    """Make a Starlette application below the given middleware, outermost first."""
    app = Starlette(middleware=list(middleware), **options)
    _add_routes(app)
    return app


def fastapi_app(*middleware: Middleware, **options: Any) -> FastAPI:
    """Make the same with FastAPI."""
    app = FastAPI(middleware=list(middleware), **options)
    _add_routes(app)
    return app


def metered(*around: Middleware, make: Callable[..., Any] = starlette_app, **options: Any) -> Any:
    """Make an application with our middleware outside of authentication, below the given ones."""
    return make(*around, Middleware(TokenLimitMiddleware, **options), AUTH)


def _add_routes(app: Starlette) -> None:
    for endpoint in dict.fromkeys([*BILLED, *REFUSED, *OTHERS]):
        app.add_route(f"/{endpoint.__name__}", endpoint)
    for endpoint in SOCKETS:
        app.router.add_websocket_route(f"/{endpoint.__name__}", endpoint)
