"""Resolve the tenant of a request at its first LLM call, after authentication.

The order, for an authenticated `scope["user"]` only: `request.state.tenant`, the attributes of the user named in
`user_tenant_attributes`, then `user:<id>`. No value that a client sends is read.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, MutableMapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from token_limit_core.errors import ConfigurationError
from token_limit_core.runtime.executor import on_loop
from token_limit_core.scope import first_tenant, tenant_id

from .options import Options

logger: logging.Logger = logging.getLogger("token_limit")

RESOLVE_SECONDS = 10.0
"""How long a thread waits for the event loop to run an async resolver."""

IDENTITIES = ("pk", "id", "identity", "username")
"""The attributes that identify a user; never the display name, which users choose."""


def resolve(options: Options, scope: MutableMapping[str, Any], loop: asyncio.AbstractEventLoop | None) -> str | None:
    """Return the tenant of a request in synchronous code; an async resolver runs on the request's loop."""
    if options.resolver is None:
        return _tenant(scope, options.user_tenant_attributes)
    found = options.resolver(HTTPConnection(scope))
    return tenant_id(_wait_for(found, loop) if inspect.isawaitable(found) else found)


async def aresolve(
    options: Options, scope: MutableMapping[str, Any], loop: asyncio.AbstractEventLoop | None
) -> str | None:
    """Return the tenant of a request in asynchronous code; look-ups run off the event loop."""
    resolver = options.resolver
    if resolver is None:
        attributes = options.user_tenant_attributes
        if not attributes:
            return _tenant(scope, attributes)
        return await run_in_threadpool(_tenant, scope, attributes)  # attributes may be lazy-loading relations
    if is_async(resolver):
        found = resolver(HTTPConnection(scope))
    else:
        found = await run_in_threadpool(resolver, HTTPConnection(scope))
    if inspect.isawaitable(found):
        found = await (found if loop is asyncio.get_running_loop() else _on(loop, found))
    return tenant_id(found)


def is_async(function: Any) -> bool:
    """Return whether calling `function` returns a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _tenant(scope: MutableMapping[str, Any], attributes: Sequence[str]) -> str | None:
    user = scope.get("user")
    tenant = (scope.get("state") or {}).get("tenant")
    if getattr(user, "is_authenticated", False) is not True:
        if user is None and tenant is not None:
            _warn_of_unused_tenant()
        return None
    found = first_tenant(chain((tenant,), (getattr(user, name, None) for name in attributes)))
    if found is not None:
        return found
    identity = next((value for name in IDENTITIES if (value := _read(user, name)) is not None), None)
    return None if identity is None else f"user:{identity}"  # the prefix keeps user 7 apart from organisation 7


@cache
def _warn_of_unused_tenant() -> None:
    """Log once that `request.state.tenant` is ignored without a user."""
    logger.warning(
        "request.state.tenant is ignored because the scope has no user: it may come from a host name or a header, "
        "which a client chooses. Pass TokenLimitMiddleware resolver=lambda connection: connection.state.tenant, "
        "or use bind_tenant()"
    )


def _read(user: Any, name: str) -> Any:
    try:
        return getattr(user, name, None)
    except NotImplementedError:  # a property of Starlette's BaseUser that the subclass does not define
        return None


def _wait_for(found: Awaitable[Any], loop: asyncio.AbstractEventLoop | None) -> Any:
    """Run a resolver on the request's event loop, and wait for it in this thread."""
    if loop is None or on_loop():
        if inspect.iscoroutine(found):
            found.close()
        raise ConfigurationError(
            "resolver: a synchronous LLM call on the event loop cannot await an async resolver; use the async client, "
            "or make the call in a plain `def` endpoint"
        )
    future = asyncio.run_coroutine_threadsafe(_await(found), loop)
    try:
        return future.result(RESOLVE_SECONDS)
    finally:
        future.cancel()


async def _on(loop: asyncio.AbstractEventLoop | None, found: Awaitable[Any]) -> Any:
    """Await a resolver on the request's event loop, as its connections belong to that loop."""
    if loop is None:
        return await found
    future = asyncio.run_coroutine_threadsafe(_await(found), loop)
    return await asyncio.wait_for(asyncio.wrap_future(future), RESOLVE_SECONDS)


async def _await(found: Awaitable[Any]) -> Any:
    return await found
