"""Streamed responses: keep the Scope of the request in the body, and read its first chunk before the status is sent.

Under ASGI a middleware that is only synchronous makes Django run a part of the stack inside `async_to_sync`. The body
must not be started there: a task that it creates would use the thread of `async_to_sync`, which ends when the stack
returns. Then the first chunk is read after all middleware has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, cast

import wrapt
from asgiref.sync import AsyncToSync, async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.translation import get_language

from token_limit_core import bodies
from token_limit_core import scope as scopes
from token_limit_core.errors import refusal_in
from token_limit_core.exchange import Exchange
from token_limit_core.limits import Decision
from token_limit_core.scope import Scope

from .responses import Response, upgrade_response

_LATE = "_token_limit_late_peek"
_OF_THE_BODY = ("content-disposition", "content-encoding", "content-length", "content-type", "etag", "last-modified")


def keep_scope(response: StreamingHttpResponse, exchange: Exchange) -> None:
    """Keep the Scope in force while the body is produced and closed, after the middleware has returned.

    The exchange ends with the response or with an asynchronous body: Django does not close one whose body raises.
    """
    exchange.accept_language = get_language()
    scope = scopes.current()
    closers = cast(Any, response)._resource_closers
    closers[:] = [partial(_close, scope, close) for close in closers]
    content = cast(Any, response.streaming_content)
    if response.is_async:
        response.streaming_content = bodies.astream(content, scope, exchange.end)
    else:
        response.streaming_content = bodies.stream(content, scope)
    closers.append(exchange.end)


def _close(scope: Scope | None, close: Callable[[], object]) -> None:
    with scopes.use(scope):
        close()


def peek(request: HttpRequest, response: StreamingHttpResponse) -> HttpResponse | StreamingHttpResponse:
    """Read the first chunk in a synchronous stack; a refusal in it becomes the upgrade response."""
    content = cast(Any, response.streaming_content)
    try:
        if not response.is_async:
            response.streaming_content = bodies.peek(content)
        elif isinstance(request, ASGIRequest):
            _peek_late(request, response)
        else:  # WSGI reads the body to its end on one event loop; it cannot continue on a second loop
            response.streaming_content = async_to_sync(_read)(content)
    except Exception as error:
        refused = refusal_in(error)
        if refused is None:
            raise
        return in_place_of(response, request, refused.decision)
    return response


async def apeek(request: HttpRequest, response: StreamingHttpResponse) -> HttpResponse | StreamingHttpResponse:
    """Do what `peek` does in an asynchronous stack."""
    content = cast(Any, response.streaming_content)
    try:
        if response.is_async and getattr(AsyncToSync.executors, "current", None) is not None:
            _peek_late(request, response)
        elif response.is_async:
            response.streaming_content = cast(Any, await bodies.apeek(content))
        else:
            response.streaming_content = await sync_to_async(bodies.peek)(content)
    except Exception as error:
        refused = refusal_in(error)
        if refused is None:
            raise
        return await sync_to_async(in_place_of)(response, request, refused.decision)
    return response


def _peek_late(request: HttpRequest, response: StreamingHttpResponse) -> None:
    """Mark a response, so that its first chunk is read after the whole stack has returned."""
    peeked = bodies.AsyncPeeked(cast(Any, response.streaming_content))
    response.streaming_content = cast(Any, peeked)
    setattr(response, _LATE, (request, peeked, {*response.headers}, {*response.cookies}))


@cache
def peek_after_the_stack() -> None:
    """Patch the end of Django's asynchronous stack, for the marked responses."""
    wrapt.wrap_function_wrapper(BaseHandler, "get_response_async", _get_response_async)


async def _get_response_async(wrapped: Callable[..., Any], handler: Any, args: Any, kwargs: Any) -> HttpResponseBase:
    response: Any = await wrapped(*args, **kwargs)
    if _LATE not in vars(response):
        return cast(HttpResponseBase, response)
    request, peeked, headers, cookies = vars(response)[_LATE]
    try:
        await peeked.pull()
    except Exception as error:
        refused = refusal_in(error)
        if refused is None:
            return cast(HttpResponseBase, await sync_to_async(response_for_exception)(request, error))
        answer = await sync_to_async(in_place_of)(response, request, refused.decision)
        _add(answer, response, headers, cookies)
        return answer
    return cast(HttpResponseBase, response)


def _add(answer: HttpResponseBase, response: HttpResponseBase, headers: set[str], cookies: set[str]) -> None:
    """Copy the headers and cookies that outer middleware has added, except headers that describe the body."""
    for name in {*response.headers} - headers:
        if name.lower() not in _OF_THE_BODY:
            answer.headers.setdefault(name, response.headers[name])
    if "Vary" in response.headers:
        patch_vary_headers(answer, response.headers["Vary"].split(", "))
    for name in {*response.cookies} - cookies:
        answer.cookies[name] = response.cookies[name]


async def _read(content: Any) -> list[bytes]:
    return [chunk async for chunk in content]


def in_place_of(response: HttpResponseBase, request: HttpRequest, decision: Decision) -> Response:
    """Answer a refusal; closing the answer also closes the resources of the other response."""
    answer = upgrade_response(request, decision)
    cast(Any, answer)._resource_closers.extend(cast(Any, response)._resource_closers)
    return answer
