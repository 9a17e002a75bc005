"""The upgrade response: the answer to a request whose LLM call was refused."""

from __future__ import annotations

from typing import Any, TypeAlias

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.utils.translation import get_language

from token_limit_core.limits import Decision
from token_limit_core.runtime.faults import report
from token_limit_core.upgrade import render

from .conf import settings
from .core_templates import core_template

Response: TypeAlias = HttpResponse | StreamingHttpResponse


def upgrade_response(request: HttpRequest, decision: Decision, accept: str | None = None) -> Response:
    """Answer a refusal: UPGRADE_RESPONSE if configured, else problem+json or the upgrade page.

    `accept` selects the form; it defaults to the `Accept` header of the request.
    """
    custom = settings.UPGRADE_RESPONSE
    if custom is not None:
        try:
            answer = custom(request, decision)
            if not isinstance(answer, Response):
                raise TypeError(f"UPGRADE_RESPONSE: invalid result {answer!r}; expected an HttpResponse")
            return answer
        except Exception:
            report("calling UPGRADE_RESPONSE")

    def page(context: dict[str, Any]) -> str:
        core_page = core_template("token_limit/upgrade.html")  # the app's template of the same name extends it
        return render_to_string(settings.UPGRADE_TEMPLATE, {**context, "core_page": core_page}, request=request)

    rendered = render(
        decision,
        request.headers.get("Accept") if accept is None else accept,
        upgrade_url=settings.UPGRADE_URL,
        support_url=settings.SUPPORT_URL,
        back_url=request.headers.get("Referer"),
        page=page,
        language=get_language(),
    )
    response = HttpResponse(rendered.body, status=rendered.status)
    for name, value in rendered.headers.items():
        response[name] = value
    return response
