"""The ingest endpoints in a Starlette or FastAPI application: `Mount("/token-limit", routes=ingest_routes(meter))`."""

from __future__ import annotations

from functools import partial
from io import BytesIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from token_limit_core import Meter
from token_limit_core.ingest.body import MOST_BYTES
from token_limit_core.ingest.endpoints import CHECKS, EVENTS, THRESHOLDS, Incoming, Ingest


def ingest_routes(meter: Meter) -> list[Route]:
    """Make the routes that answer services which report to this application's store, off the event loop."""
    ingest = Ingest(meter.store, meter.config.clock)

    async def endpoint(name: str, request: Request) -> Response:
        body = await _body(request)
        headers = {key.lower(): value for key, value in request.headers.items()}
        incoming = Incoming(request.method, name, dict(request.query_params), headers, body.read)
        rendered = await run_in_threadpool(ingest.answer, incoming)
        return Response(rendered.body, rendered.status, rendered.headers)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]  # the endpoint says which it knows
    return [
        Route(f"/{name}", partial(endpoint, name), methods=methods, name=f"token_limit_{name}")
        for name in (EVENTS, THRESHOLDS, CHECKS)
    ]


async def _body(request: Request) -> BytesIO:
    """Take the body in, and no more of it than shows that it is too large."""
    parts: list[bytes] = []
    taken = 0
    async for part in request.stream():
        taken += len(part)
        parts.append(part)
        if taken > MOST_BYTES:
            break
    return BytesIO(b"".join(parts))
