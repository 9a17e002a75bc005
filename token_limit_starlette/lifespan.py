"""The lifespan of an application: patch the SDKs at the start, flush and close the Meter at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool

from token_limit_core import Meter

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(meter: Meter, inner: Lifespan | None = None) -> Lifespan:
    """Make a lifespan that patches the SDKs at the start and closes the Meter at the end, around an inner lifespan.

    `FastAPI(lifespan=lifespan(meter))`, or `lifespan(meter, inner)`, whose state is passed on. The middleware already
    flushes at the end; this also removes the patches and closes the connections of the store.
    """

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[Any]:
        meter.patch_all()
        try:
            if inner is None:
                yield
            else:
                async with inner(app) as state:
                    yield state
        finally:
            await run_in_threadpool(meter.close)

    return around
