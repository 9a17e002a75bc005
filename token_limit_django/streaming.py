"""Streamed responses: their bodies keep the request's Scope, and may be peeked into before their status is sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from token_limit_core import bodies
from token_limit_core import scope as scopes
from token_limit_core.errors import LimitExceededException, refusal_in
from token_limit_core.scope import Scope

from .conf import settings
from .responses import upgrade_response


def keep_scope(response: StreamingHttpResponse) -> None:
    """Keep the Scope in force while the body is produced and closed, which is after the middleware has returned."""
    scope = scopes.current()
    closers = cast(Any, response)._resource_closers
    closers[:] = [partial(_close, scope, close) for close in closers]
    content = cast(Any, response.streaming_content)
    response.streaming_content = bodies.astream(content, scope) if response.is_async else bodies.stream(content, scope)


def _close(scope: Scope | None, close: Callable[[], object]) -> None:
    with scopes.use(scope):
        close()


def is_peeked(scope: Scope) -> bool:
    """Tell whether the response waits for the first chunk of its body: by the settings, or because the view asked."""
    scope.peeks = scope.peeks or settings.PEEK_STREAMS
    return scope.peeks


def peek(request: HttpRequest, response: StreamingHttpResponse) -> HttpResponse | StreamingHttpResponse:
    """Pull the first chunk in a synchronous stack; a refusal in it becomes the upgrade response."""
    content = cast(Any, response.streaming_content)
    try:
        if not response.is_async:
            response.streaming_content = bodies.peek(content)
        elif isinstance(request, ASGIRequest):
            response.streaming_content = async_to_sync(bodies.apeek)(content)
        else:  # WSGI reads such a body to its end, on a loop of its own: a second loop could not go on with it
            response.streaming_content = async_to_sync(_read)(content)
    except Exception as error:
        refused = refusal_in(error)
        if refused is None:
            raise
        return _in_place_of(response, request, refused)
    return response


async def apeek(request: HttpRequest, response: StreamingHttpResponse) -> HttpResponse | StreamingHttpResponse:
    """Do what `peek` does in an asynchronous stack."""
    content = cast(Any, response.streaming_content)
    try:
        if response.is_async:
            response.streaming_content = cast(Any, await bodies.apeek(content))
        else:
            response.streaming_content = await sync_to_async(bodies.peek)(content)
    except Exception as error:
        refused = refusal_in(error)
        if refused is None:
            raise
        return await sync_to_async(_in_place_of)(response, request, refused)
    return response


async def _read(content: Any) -> list[bytes]:
    return [chunk async for chunk in content]


def _in_place_of(
    response: StreamingHttpResponse, request: HttpRequest, refused: LimitExceededException
) -> HttpResponse | StreamingHttpResponse:
    """Answer the refusal; what the streamed response would have closed at its end is closed with the answer."""
    answer = upgrade_response(request, refused.decision)
    cast(Any, answer)._resource_closers.extend(cast(Any, response)._resource_closers)
    return answer
