"""The ingest endpoints in a Starlette or FastAPI application: `Mount("/token-limit", routes=ingest_routes(meter))`."""

from __future__ import annotations

from functools import partial

from anyio import from_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from token_limit_core import Meter
from token_limit_core.ingest.body import Read
from token_limit_core.ingest.endpoints import ENDPOINTS, Incoming, Ingest


def ingest_routes(meter: Meter) -> list[Route]:
    """Make the routes of the ingest endpoints, over the store of a Meter; they run in threads."""
    ingest = Ingest.of(meter)

    async def endpoint(name: str, request: Request) -> Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        incoming = Incoming(request.method, name, dict(request.query_params), headers, _reader(request))
        rendered = await run_in_threadpool(ingest.answer, incoming)
        return Response(rendered.body, rendered.status, rendered.headers)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]  # the endpoint answers an unsupported one with 405
    return [
        Route(f"/{name}", partial(endpoint, name), methods=methods, name=f"token_limit_{name}") for name in ENDPOINTS
    ]


def _reader(request: Request) -> Read:
    """Return a function that reads the body in chunks from a thread, after the key was checked."""
    parts = request.stream()

    async def next_part() -> bytes:
        try:
            return await anext(parts, b"")
        except ClientDisconnect as error:
            raise ConnectionError("the client has disconnected") from error

    return lambda size: from_thread.run(next_part)
