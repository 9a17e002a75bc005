"""The middleware: a Scope around each request and its streamed body, and the upgrade response.

Put it anywhere; the tenant is resolved at the first LLM call, so the order relative to authentication is free.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.signals import got_request_exception
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from token_limit_core import scope as scopes
from token_limit_core.errors import LimitExceededException, refusal_in
from token_limit_core.limits import Decision
from token_limit_core.refusal_log import calm_servers

from .conf import settings
from .meter import get_meter
from .resolvers import RequestScope
from .responses import upgrade_response
from .streaming import apeek, in_place_of, keep_scope, peek, peek_after_the_stack

_REFUSAL = "_token_limit_refusal"


class TokenLimitMiddleware:
    """Gives each request its Scope, in sync and async stacks, without a thread hop."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if not apps.is_installed("token_limit_django"):
            raise ImproperlyConfigured(
                "INSTALLED_APPS lacks 'token_limit_django', and MIDDLEWARE has its middleware; add it to INSTALLED_APPS"
            )
        if not settings.ENABLED:
            raise MiddlewareNotUsed("TOKEN_LIMIT['ENABLED'] is False")
        settings.check()  # settings that cannot work stop the server here, not at the first customer
        get_meter().patch_all()
        calm_servers()
        peek_after_the_stack()
        self.get_response = get_response
        self.is_async: bool = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        scope = RequestScope(request, get_meter())
        token = scopes.enter(scope)
        response: HttpResponseBase | None = None
        try:
            response = cast(HttpResponseBase, self.get_response(request))
            if (decision := _refusal_behind(response, request, scope)) is not None:
                response = in_place_of(response, request, decision)
            if response.streaming:
                response = cast(StreamingHttpResponse, response)
                keep_scope(response, scope)
                return peek(request, response) if scope.peeks else response
            return response
        finally:
            scopes.leave(token)
            if response is None or not response.streaming:
                scope.end()

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        scope = RequestScope(request, get_meter(), asyncio.get_running_loop())
        token = scopes.enter(scope)
        response: HttpResponseBase | None = None
        try:
            response = cast(HttpResponseBase, await self.get_response(request))
            if (decision := _refusal_behind(response, request, scope)) is not None:
                response = await sync_to_async(in_place_of)(response, request, decision)
            if response.streaming:
                response = cast(StreamingHttpResponse, response)
                keep_scope(response, scope)
                return await apeek(request, response) if scope.peeks else response
            return response
        finally:
            scopes.leave(token)
            if response is None or not response.streaming:
                scope.end()

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Answer a refusal that left the view, also wrapped in another exception or in a group."""
        refused = refusal_in(exception)
        return None if refused is None else upgrade_response(request, refused.decision)


def _refusal_behind(response: HttpResponseBase, request: HttpRequest, scope: RequestScope) -> Decision | None:
    """Return the refusal that Django has turned into a 500, or that the project has swallowed; None for no refusal."""
    refused: LimitExceededException | None = vars(request).get(_REFUSAL)
    if response.status_code == 500 and refused is not None:
        return refused.decision
    return scope.swallowed(response.status_code) if settings.RENDER_SWALLOWED_REFUSALS else None


def _remember_refusal(sender: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Note a refusal behind an error that Django turned into a 500 outside of any view."""
    if request is not None and (refused := refusal_in(sys.exc_info()[1])) is not None:
        setattr(request, _REFUSAL, refused)


got_request_exception.connect(_remember_refusal, dispatch_uid="token_limit_django.middleware")
