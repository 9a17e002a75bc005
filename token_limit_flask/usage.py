"""The tenant's own usage: a page with JSON beside it, a fragment for the app's templates, and headers, each opt-in.

The tenant is the one that the request's LLM calls are metered for; nothing a client sends chooses it.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask
from flask import Response as FlaskResponse
from markupsafe import Markup

from token_limit_core import scope
from token_limit_core.calls.engine import Engine
from token_limit_core.console import tenant_app as own_app
from token_limit_core.console import tenant_usage as own
from token_limit_core.errors import ConfigurationError
from token_limit_core.runtime.faults import internal_errors

from .console import asked, sent

NAME = "token_limit_usage"


def usage_page(*, login_url: str | None = None, name: str = NAME) -> Blueprint:
    """Make the blueprint of the tenant's own page; it also gives templates `token_limit_usage()`, the fragment.

    Without a tenant the page answers 401, or sends people to `login_url`.
    """
    blueprint = Blueprint(name, __name__)

    @blueprint.route("/", defaults={"path": ""})
    @blueprint.route("/<path:path>")
    def page(path: str) -> FlaskResponse:
        meter, tenant_id = _current()
        return sent(own_app.answer(asked(path), meter, tenant_id, login_url))

    @blueprint.app_context_processor
    def helpers() -> dict[str, Any]:
        return {"token_limit_usage": usage_fragment}

    return blueprint


def usage_fragment() -> Markup:
    """Make the current tenant's usage as HTML to embed; empty without a tenant."""
    found = Markup("")
    with internal_errors("making the usage fragment"):
        found = own_app.fragment(*_current())
    return found


def send_usage_headers(app: Flask) -> None:
    """Have responses to requests that asked for their tenant tell what is left of its limit (`own.headers`)."""

    @app.after_request
    def tell(response: FlaskResponse) -> FlaskResponse:
        current = scope.current()
        if current is not None and current.engine is not None and current.tenant_id is not None:
            response.headers.update(own.headers(current.engine, current.tenant_id))
        return response


def _current() -> tuple[Engine, str | None]:
    current = scope.current()
    if current is None or current.engine is None:
        raise ConfigurationError("usage: TokenLimit is not on this app; call TokenLimit(app), or init_app(app)")
    return current.engine, current.tenant()
