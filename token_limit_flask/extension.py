"""The Flask extension: patch the SDKs, wrap the WSGI app, answer refusals, add the CLI commands.

Setting it up starts no thread and opens no database.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from flask import Flask, Response, after_this_request, current_app, got_request_exception, has_request_context
from jinja2 import ChoiceLoader, PackageLoader

from token_limit_core import Meter
from token_limit_core import scope as scopes
from token_limit_core.cli.main import group_for
from token_limit_core.errors import ConfigurationError, LimitExceededException, refusal_in
from token_limit_core.refusal_log import calm_application, calm_servers

from .conf import PREFIX, Settings, read
from .resolvers import payer_of, remember_contexts
from .responses import upgrade_response
from .wsgi import ScopedApp

NAME = "token_limit"


class State(NamedTuple):
    """The state of the extension for one app, in `app.extensions["token_limit"]`."""

    settings: Settings
    meter: Meter
    remember_refusal: Any


class TokenLimit:
    """Meters the LLM calls of an app by tenant. It keeps no reference to an app, so one object may serve several.

    Options are the settings in lower case (`TokenLimit(app, store="memory://")`); the app's config overrides them.
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up the extension on an app. Raises `ConfigurationError` for an invalid setting."""
        if NAME in app.extensions:
            raise ConfigurationError("TokenLimit is set up on this app already; call init_app once")
        for name, value in self._options.items():
            app.config.setdefault(PREFIX + name.upper(), value)
        settings, meter = read(app)
        app.extensions[NAME] = State(settings, meter, partial(_remember_refusal, settings))
        app.cli.add_command(group_for("token-limit", lambda: meter, partial(payer_of, app, meter, settings)))
        if settings.enabled:
            meter.patch_all()
            app.wsgi_app = ScopedApp(app, app.wsgi_app, settings, meter)  # type: ignore[method-assign]
            remember_contexts(app)
            _answer_refusals(app, app.extensions[NAME])
            calm_servers()
            calm_application(app.name)

    @property
    def meter(self) -> Meter:
        """The Meter of the current app."""
        return get_meter()


def get_meter(app: Flask | None = None) -> Meter:
    """Return the Meter of an app, by default of the current one. Raises `ConfigurationError` without TokenLimit."""
    state = (app or current_app).extensions.get(NAME)
    if state is None:
        raise ConfigurationError("TokenLimit is not set up on this app; call TokenLimit(app) or init_app(app)")
    meter: Meter = state.meter
    return meter


def _answer_refusals(app: Flask, state: State) -> None:
    def answer(refused: LimitExceededException) -> Response:
        return upgrade_response(state.settings, refused.decision)

    # keep an error handler that the app has registered
    app.error_handler_spec[None][None].setdefault(LimitExceededException, answer)
    got_request_exception.connect(state.remember_refusal, app)
    if state.settings.render_swallowed_refusals:
        app.after_request(partial(_replace_error, state.settings))
    app.jinja_loader = ChoiceLoader(
        [loader for loader in (app.jinja_loader, PackageLoader("token_limit_core")) if loader is not None]
    )


def _replace_error(settings: Settings, response: Response) -> Response:
    """Answer a refusal that the app has swallowed, with what others have added to the headers of its error."""
    scope = scopes.current()
    decision = None if scope is None else scope.swallowed(response.status_code)
    if decision is None:
        return response
    answer = upgrade_response(settings, decision)
    for name, value in response.headers:
        if name not in answer.headers and not name.lower().startswith("content-"):
            answer.headers.add(name, value)
    response.close()
    return answer


def _remember_refusal(settings: Settings, sender: Flask, exception: BaseException, **kwargs: Any) -> None:
    """Replace Flask's 500 for a wrapped refusal by the upgrade response."""
    refused = refusal_in(exception)
    if refused is not None and has_request_context():
        decision = refused.decision
        after_this_request(
            lambda response: upgrade_response(settings, decision) if response.status_code == 500 else response
        )
