"""Django REST framework: refusals answered in its own terms, before its error handling.

Without this a refusal is answered too, by the middleware. Use it where the answer must be made by the API's renderers,
or where the project's own handler would catch a refusal first:

    REST_FRAMEWORK = {"EXCEPTION_HANDLER": "token_limit_django.drf.exception_handler"}
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpResponseBase
from rest_framework import views  # type: ignore[import-untyped]
from rest_framework.response import Response  # type: ignore[import-untyped]

from token_limit_core.errors import refusal_in
from token_limit_core.upgrade import HTML_TYPES, JSON_TYPES, problem, render

from .conf import settings
from .responses import upgrade_response

Handler = Callable[[Exception, dict[str, Any]], HttpResponseBase | None]


def refusals_first(handler: Handler) -> Handler:
    """Let an exception handler of the project's see only what is no refusal: a decorator."""

    @wraps(handler)
    def composed(exc: Exception, context: dict[str, Any]) -> HttpResponseBase | None:
        response = refusal_response(exc, context)
        return handler(exc, context) if response is None else response

    return composed


def refusal_response(exc: Exception, context: dict[str, Any]) -> HttpResponseBase | None:
    """Answer a refusal, also wrapped in another exception; None for everything else.

    JSON and HTML renderers give the upgrade response, others (XML, MessagePack) the members of the problem document.
    An open transaction of the request is rolled back, as if the exception had left the view.
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
    headers = render(refused.decision, None, upgrade_url=settings.UPGRADE_URL).headers
    del headers["Content-Type"]
    members = problem(refused.decision, settings.UPGRADE_URL)
    response: HttpResponseBase = Response(members, status=refused.decision.status, headers=headers)
    return response


exception_handler = refusals_first(views.exception_handler)
"""For `REST_FRAMEWORK["EXCEPTION_HANDLER"]`: refusals first, then what the framework does."""
