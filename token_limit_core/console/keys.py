"""API keys of the services that report here: list, create (the token is shown once), revoke."""

from __future__ import annotations

from ..ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS, make_key, new_public_id
from ..runtime.faults import ConfigurationError
from ..wording import PERMISSION_LABELS
from .context import Context
from .web import Response, redirect

TYPED = ("account", "name", "tenants")
MOST_TEXT = 4000


def keys(ctx: Context) -> Response:
    """List the keys, with the form of a new one."""
    return _page(ctx)


def create(ctx: Context) -> Response:
    """Create a key and show its token once, or show the form again with its errors.

    A form makes one key: the browser may send it again, when the page with the token is loaded anew.
    """
    form = ctx.request.form
    typed = {name: form.get(name, "")[:MOST_TEXT] for name in TYPED}
    chosen = [name for name in PERMISSIONS if form.get(f"may-{name}")]
    try:
        made = make_key(
            typed["account"].strip(),
            typed["tenants"].splitlines(),
            name=typed["name"].strip(),
            permissions=chosen,
            now=ctx.now,
            public_id=form.get("form", ""),
        )
    except ConfigurationError as error:
        field, _, problem = str(error).partition(": ")
        return _page(ctx, 400, typed=typed, chosen=chosen, errors={field: problem})
    if not ctx.store.add_api_key(made.key, ctx.actor):
        return redirect(ctx.url("keys", said="made-before"))
    return _page(ctx, token=made.token)


def revoke(ctx: Context) -> Response:
    """Revoke a key."""
    public_id = ctx.request.form.get("key", "")
    done = ctx.store.revoke_api_key(public_id, ctx.now, ctx.actor)
    return redirect(ctx.url("keys", said="revoked" if done else "revoked-before"))


def _page(ctx: Context, status: int = 200, **context: object) -> Response:
    empty: dict[str, object] = {
        "typed": dict.fromkeys(TYPED, ""),
        "chosen": DEFAULT_PERMISSIONS,
        "errors": {},
        "token": None,
        "form": new_public_id(),
    }
    response = ctx.page(
        "keys.html", status, rows=ctx.store.api_keys(), permissions=PERMISSION_LABELS, **{**empty, **context}
    )
    response.headers["Cache-Control"] = "no-store"
    return response
