"""Django REST framework: an exception handler that answers refusals before other error handling.

Without it the middleware answers refusals. Use it if the API's renderers must render the answer, or if the project's
exception handler would catch a refusal first:

    REST_FRAMEWORK = {"EXCEPTION_HANDLER": "token_limit_django.drf.exception_handler"}
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpResponseBase
from django.utils.translation import get_language
from rest_framework import views  # type: ignore[import-untyped]
from rest_framework.response import Response  # type: ignore[import-untyped]

from token_limit_core.errors import refusal_in
from token_limit_core.runtime.language import speaking
from token_limit_core.upgrade import HTML_TYPES, JSON_TYPES, problem, render

from .conf import settings
from .responses import upgrade_response

Handler = Callable[[Exception, dict[str, Any]], HttpResponseBase | None]


def refusals_first(handler: Handler) -> Handler:
    """Answer refusals before calling an exception handler of the project: a decorator."""

    @wraps(handler)
    def composed(exc: Exception, context: dict[str, Any]) -> HttpResponseBase | None:
        response = refusal_response(exc, context)
        return handler(exc, context) if response is None else response

    return composed


def refusal_response(exc: Exception, context: dict[str, Any]) -> HttpResponseBase | None:
    """Answer a refusal, also one wrapped in another exception; return None for other exceptions.

    JSON and HTML renderers get the upgrade response, others (XML, MessagePack) the members of the problem document.
    An open transaction of the request is rolled back, as for an exception that leaves the view.
    """
    refused = refusal_in(exc)
    if refused is None:
        return None
    views.set_rollback()
    request = context["request"]
    renderer = getattr(request, "accepted_renderer", None)
    media_type = JSON_TYPES[0] if renderer is None else renderer.media_type
    if media_type in (*JSON_TYPES, *HTML_TYPES):
        return upgrade_response(request._request, refused.decision, media_type)
    language = get_language()
    headers = render(refused.decision, None, upgrade_url=settings.UPGRADE_URL, language=language).headers
    del headers["Content-Type"]
    with speaking(language):
        members = problem(refused.decision, settings.UPGRADE_URL, settings.SUPPORT_URL)
    response: HttpResponseBase = Response(members, status=refused.decision.status, headers=headers)
    return response


exception_handler: Handler = refusals_first(views.exception_handler)
"""For `REST_FRAMEWORK["EXCEPTION_HANDLER"]`: answers refusals, and passes other exceptions to the framework."""
