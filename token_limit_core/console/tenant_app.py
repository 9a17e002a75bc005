"""The usage page of a tenant, for frameworks with Jinja2 templates."""

from __future__ import annotations

import json
from urllib.parse import quote

from markupsafe import Markup

from .. import scope
from ..calls.engine import Engine
from ..runtime.faults import StoreError
from ..runtime.language import language, preferred, speaking
from .rendering import TYPES, render, static, version
from .tenant_usage import FRAGMENT, NO_LINKS, PAGE, Links, as_json, context, usage_if_known, usage_of, why_not
from .web import Request, Response, error_response, not_allowed, redirect, text

FILES = ("console.css", "icon.svg")
PATHS = ("", "usage.json", *FILES)
"""Every path below the mount point. Each needs a tenant."""
RETURNED = "signed-in"
"""The query parameter that marks a return from `login_url`."""


def answer(
    request: Request,
    engine: Engine,
    tenant_id: str | None,
    login_url: str | None = None,
    links: Links = NO_LINKS,
) -> Response:
    """Answer a tenant's request for its own usage; without a tenant 401, or the way to `login_url`.

    A user who returns from there without a tenant gets 403.
    """
    with speaking(preferred(request.headers.get("accept-language"))):
        return _answer(request, engine, tenant_id, login_url, links)


def _answer(request: Request, engine: Engine, tenant_id: str | None, login_url: str | None, links: Links) -> Response:
    if request.method not in ("GET", "HEAD"):
        return not_allowed("GET")
    if request.path not in PATHS:
        return text(404, "There is no such page.")
    if tenant_id is None:
        return _without_tenant(request, login_url)
    if RETURNED in request.params and not request.path:
        return redirect(request.url(""))  # a bookmark must also work after signing out
    if request.path in FILES:
        kind = TYPES[request.path[request.path.rfind(".") :]]
        return Response(
            200, {"Content-Type": kind, "Cache-Control": "private, max-age=3600"}, static(request.path) or b""
        )
    try:
        usage = usage_of(engine, tenant_id, request.params.get("month", ""))
    except StoreError as error:
        return error_response(request.path, *why_not(error))
    if request.path:
        return Response(200, {"Content-Type": "application/json"}, json.dumps(as_json(usage)).encode())
    urls = {name: request.url(file, v=version(file)) for name, file in (("stylesheet", FILES[0]), ("icon", FILES[1]))}
    page = render(PAGE, **context(usage, links), **urls, json_url=request.url("usage.json"), lang=language())
    return Response(200, {"Content-Type": "text/html; charset=utf-8"}, page.encode("utf-8", "replace"))


def _without_tenant(request: Request, login_url: str | None) -> Response:
    """Redirect to the sign-in page once. It may redirect back a signed-in user who has no tenant."""
    if login_url is None or request.path:
        return error_response(request.path, 401, "Sign in to see your usage.")
    if RETURNED in request.params:
        return text(403, "There is no usage to show for this account.")
    mark = "&" if "?" in login_url else "?"
    return redirect(f"{login_url}{mark}next={quote(request.url('', **{RETURNED: 1}))}")


def fragment(engine: Engine, tenant_id: str | None, links: Links = NO_LINKS) -> Markup:
    """Return a tenant's usage as HTML to embed in a page, in the language of the request; empty without a tenant."""
    usage, current = usage_if_known(engine, tenant_id), scope.current()
    with speaking(None if current is None else current.language):
        return Markup("" if usage is None else render(FRAGMENT, **context(usage, links)))
