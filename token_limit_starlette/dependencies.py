"""For FastAPI: a dependency that sets the tenant, and the refusals for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from token_limit_core import scope as scopes
from token_limit_core.errors import ConfigurationError
from token_limit_core.limits import REFUSALS

from .options import get_meter


def bind_tenant(get_tenant: Callable[..., Any]) -> Callable[..., Any]:
    """Make a dependency that returns the result of `get_tenant` and bills the request to it.

    `get_tenant` is a dependency, sync or async; it returns a str, a number, or an object with `pk` or `id`. The tenant
    applies to the endpoint, its streamed body and its background tasks. On None the middleware resolves the tenant.
    A request without `TokenLimitMiddleware` raises `ConfigurationError`.
    """
    dependency = Depends(get_tenant)

    async def bound(tenant: Any = dependency) -> Any:
        scope = scopes.current()
        if scope is None:
            raise ConfigurationError("bind_tenant: add TokenLimitMiddleware to the application with add_middleware()")
        name = scopes.tenant_id(tenant)
        if name is not None:
            scope.request.bind(name)
        return tenant

    return bound


async def check_limit(connection: HTTPConnection) -> None:
    """Refuse a request if a limit of its tenant is reached: `dependencies=[Depends(check_limit)]`.

    For endpoints that catch every exception, so that the refusal of a call would never reach the middleware. List it
    after the dependency that says who pays.
    """
    await get_meter(connection).async_check_limit()


_MEMBERS: dict[str, dict[str, Any]] = {
    "type": {"type": "string", "examples": ["urn:token-limit:exhausted"]},
    "title": {"type": "string"},
    "status": {"type": "integer"},
    "detail": {"type": "string"},
    "kind": {"type": "string", "enum": list(REFUSALS)},
    "limit_usd": {"type": "string", "description": "US dollars, a decimal"},
    "spent_usd": {"type": "string", "description": "US dollars, a decimal"},
    "remaining_usd": {"type": "string", "description": "US dollars, a decimal"},
    "frequency": {"type": "string", "enum": ["per_day", "per_month"]},
    "resets_at": {"type": "string", "format": "date-time"},
    "retry_after": {"type": "integer", "description": "seconds"},
    "upgrade_url": {"type": "string"},
    "support_url": {"type": "string"},
    "instance": {"type": "string", "description": "the reference that support finds the refusal by"},
}
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "SpendLimitProblem",
    "required": ["type", "title", "status", "detail", "kind"],
    "properties": _MEMBERS,
}
"""The JSON schema of a refusal (RFC 9457)."""


def _documented(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": PROBLEM_SCHEMA}, "text/html": {"schema": {"type": "string"}}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait before a retry", "schema": {"type": "integer"}}}

refusal_responses: dict[int | str, dict[str, Any]] = {
    402: _documented("The spend limit is reached, or what is left of it does not cover this call"),
    403: _documented("The call has no tenant to bill"),
    429: _documented("Calls in flight hold what is left of the spend limit", _RETRY_AFTER),
}
"""The refusals, for `responses=` of an application, a router or an endpoint."""
