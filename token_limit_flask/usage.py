"""The usage of the current tenant: a page, JSON, a fragment for the app's templates, and headers, each opt-in.

The tenant is the one that the LLM calls of the request are metered for; a client cannot choose it.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, current_app
from flask import Response as FlaskResponse
from markupsafe import Markup

from token_limit_core import scope
from token_limit_core.calls.engine import Engine
from token_limit_core.console import tenant_app, tenant_usage
from token_limit_core.console.tenant_usage import NO_LINKS, Links
from token_limit_core.errors import ConfigurationError
from token_limit_core.runtime.faults import internal_errors

from .console import to_request, to_response

NAME = "token_limit_usage"


def usage_page(*, login_url: str | None = None, name: str = NAME) -> Blueprint:
    """Make the blueprint of the usage page; it also adds `token_limit_usage()`, the fragment, to templates.

    Without a tenant the page answers 401, or redirects to `login_url`.
    """
    blueprint = Blueprint(name, __name__)

    @blueprint.route("/", defaults={"path": ""})
    @blueprint.route("/<path:path>")
    def page(path: str) -> FlaskResponse:
        meter, tenant_id = _current()
        return to_response(tenant_app.answer(to_request(path), meter, tenant_id, login_url, _links()))

    @blueprint.app_context_processor
    def helpers() -> dict[str, Any]:
        return {"token_limit_usage": usage_fragment}

    return blueprint


def usage_fragment() -> Markup:
    """Render the usage of the current tenant as HTML to embed; empty without a tenant."""
    found = Markup("")
    with internal_errors("rendering the usage fragment"):
        found = tenant_app.fragment(*_current(), _links())
    return found


def send_usage_headers(app: Flask) -> None:
    """Add headers with what is left of the limit (`tenant_usage.headers`), if the request has resolved its tenant."""

    @app.after_request
    def add_headers(response: FlaskResponse) -> FlaskResponse:
        current = scope.current()
        if current is not None and current.engine is not None and current.tenant_id is not None:
            response.headers.update(tenant_usage.headers(current.engine, current.tenant_id))
        return response


def _links() -> Links:
    state = current_app.extensions.get("token_limit")
    return NO_LINKS if state is None else Links(state.settings.upgrade_url, state.settings.support_url)


def _current() -> tuple[Engine, str | None]:
    current = scope.current()
    if current is None or current.engine is None:
        raise ConfigurationError("TokenLimit is not set up on this app; call TokenLimit(app) or init_app(app)")
    return current.engine, current.tenant()
