"""The admin console as a blueprint: `app.register_blueprint(console(authorize=...), url_prefix="/token-limit")`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Request, current_app, request
from flask import Response as FlaskResponse
from flask.blueprints import BlueprintSetupState

from token_limit_core import Meter
from token_limit_core.console.app import Console
from token_limit_core.console.web import MOST_BODY, Response
from token_limit_core.console.web import Request as ConsoleRequest

from .extension import get_meter

NAME = "token_limit_console"


def console(
    authorize: Callable[[Request], Any] | None = None,
    *,
    meter: Meter | None = None,
    secret: str | bytes | None = None,
    name: str = NAME,
) -> Blueprint:
    """Make the blueprint of the admin console; without `authorize` every page answers 403.

    `authorize(request)`, sync or async, returns the name of an authorized person or True, and None for all others. It
    may also `abort()`. `meter` defaults to the Meter of the app, and `secret`, which signs forms, to SECRET_KEY.
    Registration raises `ConfigurationError` if the app has no secret.
    """
    blueprint = Blueprint(name, __name__)
    consoles: dict[int, Console] = {}

    @blueprint.record
    def set_up(state: BlueprintSetupState) -> None:
        consoles[id(state.app)] = Console(secret or state.app.secret_key, authorize is not None)

    @blueprint.route("/", defaults={"path": ""}, methods=["GET", "POST"], provide_automatic_options=False)
    @blueprint.route("/<path:path>", methods=["GET", "POST"], provide_automatic_options=False)
    def page(path: str) -> FlaskResponse:
        allowed = None if authorize is None else current_app.ensure_sync(authorize)(request)
        admin = consoles[id(current_app._get_current_object())]  # type: ignore[attr-defined]
        return to_response(admin.answer(to_request(path), allowed, lambda: meter or get_meter()))

    return blueprint


def to_request(path: str) -> ConsoleRequest:
    """Convert the current request into one of the console; the application may have parsed its form already."""
    full = request.script_root + request.path
    return ConsoleRequest(
        method=request.method,
        path=path,
        mount=full[: len(full) - len(path)].rstrip("/"),
        query=request.query_string.decode("latin-1"),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=request.stream.read(MOST_BODY + 1) or urlencode(list(request.form.items(multi=True))).encode(),
        secure=request.is_secure,
    )


def to_response(answer: Response) -> FlaskResponse:
    """Convert an answer of the console into a Flask response."""
    response = FlaskResponse(answer.body, answer.status)
    for key, value in answer.headers.items():
        response.headers[key] = value
    return response
