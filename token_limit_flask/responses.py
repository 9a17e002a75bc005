"""The upgrade response: the answer to a request whose LLM call was refused."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, make_response, render_template, request

from token_limit_core.limits import Decision
from token_limit_core.runtime.faults import report
from token_limit_core.runtime.language import preferred
from token_limit_core.upgrade import render

from .conf import Settings


def upgrade_response(settings: Settings, decision: Decision) -> Response:
    """Answer a refusal: UPGRADE_RESPONSE if configured, else problem+json or the upgrade page, by Accept.

    Needs a request context.
    """
    custom = settings.upgrade_response
    if custom is not None:
        try:
            answer = custom(request._get_current_object(), decision)  # type: ignore[attr-defined]
            response = make_response(answer)
            if isinstance(answer, (str, bytes, dict, list)):  # has no status: use the status of the refusal
                response.status_code = decision.status
            return response
        except Exception:
            report("calling UPGRADE_RESPONSE")

    def page(values: dict[str, Any]) -> str:
        return render_template(settings.upgrade_template, **values)

    rendered = render(
        decision,
        request.headers.get("Accept"),
        upgrade_url=settings.upgrade_url,
        support_url=settings.support_url,
        back_url=request.headers.get("Referer"),
        page=page,
        language=preferred(request.headers.get("Accept-Language")),
    )
    return current_app.response_class(rendered.body, rendered.status, rendered.headers)
