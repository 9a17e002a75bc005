"""READ FIRST: access, routing, and the answer when the store cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import KeptElsewhere
from ..meter import Meter
from ..runtime.faults import StoreError
from . import forms, keys, pages, tables
from .access import HOW_TO_OPEN, Csrf, actor_of
from .context import Context
from .rendering import TYPES, static
from .web import MOST_BODY, Request, Response, error_response, not_allowed, text

logger = logging.getLogger("token_limit")

Handler = Callable[[Context], Response]

ROUTES: dict[str, dict[str, Handler]] = {
    "": {"GET": pages.tenants},
    "tenant": {"GET": pages.tenant},
    "limit": {"GET": forms.limit, "POST": forms.save_limit},
    "limit/remove": {"GET": forms.confirm_removal, "POST": forms.remove_limit},
    "holds": {"GET": pages.holds},
    "holds/release": {"POST": pages.release},
    "events": {"GET": pages.events},
    "history": {"GET": pages.history},
    "keys": {"GET": keys.keys, "POST": keys.create},
    "keys/revoke": {"POST": keys.revoke},
    "tenants.json": {"GET": tables.tenants_json},
    "tenants.csv": {"GET": tables.tenants_csv},
    "tenant.json": {"GET": tables.tenant_json},
    "tenant.csv": {"GET": tables.tenant_csv},
    "holds.json": {"GET": tables.holds_json},
    "holds.csv": {"GET": tables.holds_csv},
    "events.json": {"GET": tables.events_json},
    "events.csv": {"GET": tables.events_csv},
    "history.json": {"GET": tables.history_json},
    "history.csv": {"GET": tables.history_csv},
}
"""Every page by its path below the mount point. All of them need the same access."""

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
        csrf = self._csrf
        if csrf is None:
            self._tell_how_to_open()
            return error_response(request.path, 403, "This console is closed. Its log says how to open it.")
        actor = actor_of(allowed)
        if actor is None:
            return error_response(request.path, 403, "You may not see this page.")
        if len(request.body) > MOST_BODY:
            return text(413, "This form is too large.")
        method = "GET" if request.method == "HEAD" else request.method
        if request.path.startswith(STATIC):
            return _static(request.path.removeprefix(STATIC)) if method == "GET" else not_allowed("GET")
        ctx = Context(request, get_meter(), actor, csrf)
        handlers = ROUTES.get(request.path)
        try:
            return _handle(ctx, method, handlers, csrf)
        except KeptElsewhere as error:
            return ctx.message(
                501,
                "Limits are kept elsewhere",
                f"The backend {error.backend} keeps them; open its console.",
            )
        except StoreError:
            logger.exception("the console cannot read the store")
            return ctx.message(503, "The store does not answer", "Nothing was changed. Try again in a moment.")

    def _tell_how_to_open(self) -> None:
        if not self._logged:
            self._logged = True
            logger.warning(HOW_TO_OPEN)


def _handle(ctx: Context, method: str, handlers: dict[str, Handler] | None, csrf: Csrf) -> Response:
    if handlers is None:
        return ctx.message(404, "There is no such page", "Choose one from the menu.")
    handler = handlers.get(method)
    if handler is None:
        return not_allowed(*handlers)
    if method == "POST" and not csrf.accepts(ctx.request, ctx.actor):
        hint = "The form has expired or was not sent from this console. Open its page again; nothing was changed."
        return ctx.message(403, "This form cannot be taken", hint)
    if any("\0" in value for value in (*ctx.params.values(), *ctx.request.form.values())):
        return ctx.message(400, "This request cannot be read", "It contains a NUL character.")
    return handler(ctx)


def _static(name: str) -> Response:
    content = static(name)
    kind = TYPES.get(name[name.rfind(".") :])
    if content is None or kind is None:
        return text(404, "There is no such file.")
    return Response(200, {"Content-Type": kind, "Cache-Control": "private, max-age=31536000, immutable"}, content)
