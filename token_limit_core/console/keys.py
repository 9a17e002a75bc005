"""API keys of the services that report here: listed, made with the token shown once, revoked."""

from __future__ import annotations

from ..ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS, make_key, new_public_id
from ..runtime.faults import ConfigurationError
from ..wording import PERMISSION_LABELS
from .context import Visit
from .web import Response, redirect

TYPED = ("account", "name", "tenants")
MOST_TEXT = 4000


def keys(visit: Visit) -> Response:
    """List the keys, over the form of a new one."""
    return _page(visit)


def create(visit: Visit) -> Response:
    """Make a key and show its token, which is nowhere afterwards; or say what the key cannot be.

    A form makes one key: the browser may send it again, when the page with the token is loaded anew.
    """
    form = visit.request.form
    typed = {name: form.get(name, "")[:MOST_TEXT] for name in TYPED}
    chosen = [name for name in PERMISSIONS if form.get(f"may-{name}")]
    try:
        made = make_key(
            typed["account"].strip(),
            typed["tenants"].splitlines(),
            name=typed["name"].strip(),
            permissions=chosen,
            now=visit.now,
            public_id=form.get("form", ""),
        )
    except ConfigurationError as error:
        field, _, problem = str(error).partition(": ")
        return _page(visit, 400, typed=typed, chosen=chosen, errors={field: problem})
    if not visit.store.add_api_key(made.key, visit.actor):
        return redirect(visit.url("keys", said="made-before"))
    return _page(visit, token=made.token)


def revoke(visit: Visit) -> Response:
    """Make a key useless from now on."""
    public_id = visit.request.form.get("key", "")
    done = visit.store.revoke_api_key(public_id, visit.now, visit.actor)
    return redirect(visit.url("keys", said="revoked" if done else "revoked-before"))


def _page(visit: Visit, status: int = 200, **context: object) -> Response:
    empty: dict[str, object] = {
        "typed": dict.fromkeys(TYPED, ""),
        "chosen": DEFAULT_PERMISSIONS,
        "errors": {},
        "token": None,
        "form": new_public_id(),
    }
    response = visit.page(
        "keys.html", status, rows=visit.store.api_keys(), permissions=PERMISSION_LABELS, **{**empty, **context}
    )
    response.headers["Cache-Control"] = "no-store"
    return response
