"""READ FIRST: every page by its path below the mount point, what it needs, and how a request reaches it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from ..errors import KeptElsewhere
from ..runtime.faults import StoreError
from ..runtime.language import translate
from . import actions, bulk, forms, keys, overview, pages, plan_limits, plans, refusals, tables
from .context import Context, Right
from .web import Request, Response, not_allowed

logger: logging.Logger = logging.getLogger("token_limit")

Handler = Callable[[Context], Response]


class Route(NamedTuple):
    """The handlers of a path, and the right that it needs.

    Another may be needed to post its form, `edit`, or when the request names a row by its `id`, `change`.
    """

    right: Right
    get: Handler | None = None
    post: Handler | None = None
    edit: Right | None = None
    change: Right | None = None

    def needs(self, request: Request) -> Right:
        """Return the right that a request needs."""
        is_form = request.method == "POST"
        if self.change and (request.form if is_form else request.params).get("id"):
            return self.change
        return (is_form and self.edit) or self.right

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by method."""
        return {name: each for name, each in (("GET", self.get), ("POST", self.post)) if each is not None}


ROUTES: dict[str, Route] = {
    "": Route("tenants", overview.overview),
    "tenants": Route("tenants", pages.tenants),
    "tenants/change": Route("tenants", post=bulk.change),
    "tenant": Route("tenants", pages.tenant),
    "plans": Route("plans", plans.plans),
    "plan": Route("edit plans", plans.plan, plans.save_plan),
    "plan/remove": Route("edit plans", post=plans.remove_plan),
    "plan/limit": Route("edit plans", plan_limits.plan_limit, plan_limits.save_plan_limit),
    "plan/limit/remove": Route("edit plans", post=plan_limits.remove_plan_limit),
    "refusals": Route("refusals", refusals.refusals),
    "limit": Route("add limits", forms.limit, forms.save_limit, change="edit limits"),
    "limit/remove": Route("remove limits", forms.confirm_removal, forms.remove_limit),
    "holds": Route("holds", pages.holds),
    "holds/release": Route("release holds", post=pages.release),
    "events": Route("events", pages.events),
    "history": Route("history", pages.history),
    "keys": Route("keys", keys.keys, keys.create, edit="make keys"),
    "keys/revoke": Route("revoke keys", post=keys.revoke),
    "tenants.json": Route("tenants", tables.tenants_json),
    "tenants.csv": Route("tenants", tables.tenants_csv),
    "tenant.json": Route("tenants", tables.tenant_json),
    "tenant.csv": Route("tenants", tables.tenant_csv),
    "refusals.json": Route("refusals", refusals.refusals_json),
    "refusals.csv": Route("refusals", refusals.refusals_csv),
    "holds.json": Route("holds", tables.holds_json),
    "holds.csv": Route("holds", tables.holds_csv),
    "events.json": Route("events", tables.events_json),
    "events.csv": Route("events", tables.events_csv),
    "history.json": Route("history", tables.history_json),
    "history.csv": Route("history", tables.history_csv),
    **{
        f"tenant/{path}": Route(action.right, actions.shown(path), actions.done(path))
        for path, action in actions.ACTIONS.items()
    },
}


def respond(ctx: Context) -> Response:
    """Answer a request of a person who may see these pages. Does I/O, so never call it on an event loop."""
    try:
        return _respond(ctx)
    except KeptElsewhere as error:
        hint = translate("The backend {backend} keeps them; open its console.").format(backend=error.backend)
        return ctx.message(501, "Limits are kept elsewhere", hint)
    except StoreError:
        logger.exception("the console cannot read the store")
        return ctx.message(503, "The store does not answer", "Nothing was changed. Try again in a moment.")


def _respond(ctx: Context) -> Response:
    route, method = ROUTES.get(ctx.request.path), ctx.request.method
    if route is None:
        return ctx.message(404, "There is no such page", "Choose one from the menu.")
    if not ctx.may(route.needs(ctx.request)):
        return ctx.message(403, "You may not see this page", "Ask the person who gives out permissions.")
    handler = route.handlers.get("GET" if method == "HEAD" else method)
    if handler is None:
        return not_allowed(*route.handlers)
    if method == "POST" and not ctx.frame.accepts():
        hint = "The form has expired or was not sent from this console. Open its page again; nothing was changed."
        return ctx.message(403, "This form cannot be taken", hint)
    if any("\0" in value for value in (*ctx.params.values(), *ctx.request.form.values())):
        return ctx.message(400, "This request cannot be read", "It contains a NUL character.")
    return handler(ctx)
