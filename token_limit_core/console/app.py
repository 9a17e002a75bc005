"""The console of one mount: who may enter, its static files, and the frame around the pages of `routes.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from ..meter import Meter
from ..runtime.language import preferred, speaking
from .access import FIELD, HOW_TO_OPEN, Csrf, actor_of
from .context import Context, Frame
from .rendering import TYPES, static
from .routes import respond
from .web import MOST_BODY, Request, Response, error_response, not_allowed, text

logger: logging.Logger = logging.getLogger("token_limit")

STATIC = "static/"


class Console:
    """The admin console of one mount.

    `is_open` tells whether the mount was given an `authorize`; without one every page answers 403. Raises
    `ConfigurationError` for a secret that cannot protect forms.
    """

    def __init__(self, secret: str | bytes | None, is_open: bool) -> None:
        self._csrf = Csrf(secret or b"") if is_open else None
        self._logged = False

    def answer(self, request: Request, allowed: object, get_meter: Callable[[], Meter]) -> Response:
        """Answer a request. `allowed` is the answer of `authorize`. Does I/O, so never call it on an event loop."""
        with speaking(preferred(request.headers.get("accept-language"))):
            return self._answer(request, allowed, get_meter)

    def _answer(self, request: Request, allowed: object, get_meter: Callable[[], Meter]) -> Response:
        csrf = self._csrf
        if csrf is None:
            self._tell_how_to_open()
            return error_response(request.path, 403, "This console is closed. Its log says how to open it.")
        actor = actor_of(allowed)
        if actor is None:
            return error_response(request.path, 403, "You may not see this page.")
        if len(request.body) > MOST_BODY:
            return text(413, "This form is too large.")
        if request.path.startswith(STATIC):
            name = request.path.removeprefix(STATIC)
            return static_file(name) if request.method in ("GET", "HEAD") else not_allowed("GET")
        return respond(Context(request, get_meter(), actor, _frame(csrf, request, actor)))

    def _tell_how_to_open(self) -> None:
        if not self._logged:
            self._logged = True
            logger.warning(HOW_TO_OPEN)


def _frame(csrf: Csrf, request: Request, actor: str) -> Frame:
    """Make the console's own frame: its header, and the tokens of its forms, half of which is in a cookie."""
    nonce, is_new = csrf.nonce(request)
    return Frame(
        "base.html",
        (FIELD, csrf.token(nonce, actor)),
        partial(csrf.accepts, request, actor),
        headers={"Set-Cookie": csrf.cookie(request, nonce)} if is_new else {},
    )


def static_file(name: str) -> Response:
    """Return a static file of the pages."""
    content = static(name)
    kind = TYPES.get(name[name.rfind(".") :])
    if content is None or kind is None:
        return text(404, "There is no such file.")
    return Response(200, {"Content-Type": kind, "Cache-Control": "private, max-age=31536000, immutable"}, content)
