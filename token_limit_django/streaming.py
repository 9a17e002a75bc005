"""Streamed responses: their bodies keep the request's Scope, and may be peeked into before their status is sent.

Under ASGI a middleware that is only synchronous makes Django run a part of the stack inside `async_to_sync`. A body
must not be begun there: what it starts, such as a task, would look for a thread that is gone when the stack has
returned. The peek then waits until all middleware has returned.
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
    """Keep the Scope in force while the body is produced and closed, which is after the middleware has returned.

    The exchange ends with the response, or with an asynchronous body: Django closes no response whose body raises.
    """
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
    """Pull the first chunk in a synchronous stack; a refusal in it becomes the upgrade response."""
    content = cast(Any, response.streaming_content)
    try:
        if not response.is_async:
            response.streaming_content = bodies.peek(content)
        elif isinstance(request, ASGIRequest):
            _peek_late(request, response)
        else:  # WSGI reads such a body to its end, on a loop of its own: a second loop could not go on with it
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
    """Mark a response whose first chunk is pulled when the whole stack has returned."""
    peeked = bodies.AsyncPeeked(cast(Any, response.streaming_content))
    response.streaming_content = cast(Any, peeked)
    setattr(response, _LATE, (request, peeked, {*response.headers}, {*response.cookies}))


@cache
def peek_after_the_stack() -> None:
    """Hook the end of Django's asynchronous stack, for the responses that are marked."""
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
    """Give an answer what outer middleware has added to the response, but for what describes its body."""
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
    """Answer a refusal; what the other response would have closed at its end is closed with the answer."""
    answer = upgrade_response(request, decision)
    cast(Any, answer)._resource_closers.extend(cast(Any, response)._resource_closers)
    return answer
