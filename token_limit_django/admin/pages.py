"""The pages of the console, as views of the admin: in its templates and theme, with its sign-in and permissions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import mark_safe
from django.utils.translation import get_language
from django.views.decorators.debug import sensitive_post_parameters

from token_limit_core.runtime.language import speaking

from ..meter import get_meter

if TYPE_CHECKING:
    from token_limit_core.console.context import Right
    from token_limit_core.console.web import Request, Response

    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

INDEX = "admin:token_limit_overview_changelist"
STATIC = "static/"
FIELD = "csrfmiddlewaretoken"

PERMISSIONS: Mapping[Right, tuple[str, ...]] = {
    "tenants": (
        "view_tenant", "change_tenant", "view_overview", "view_limit", "add_limit", "change_limit", "delete_limit",
    ),
    "edit tenants": ("change_tenant",),
    "add limits": ("add_limit",),
    "edit limits": ("change_limit",),
    "remove limits": ("delete_limit",),
    "plans": ("view_plan", "change_plan", "view_limit"),
    "edit plans": ("change_plan",),
    "refusals": ("view_refusal", "view_tenant"),
    "holds": ("view_hold", "change_hold"),
    "release holds": ("change_hold",),
    "events": ("view_ledgerentry",),
    "history": ("view_limitchange", "view_limit"),
    "keys": ("view_apikey", "add_apikey", "change_apikey"),
    "make keys": ("add_apikey",),
    "revoke keys": ("change_apikey",),
}  # fmt: skip
"""The permissions of which a user needs one for each right of the pages."""


class PagesAdmin(_ModelAdmin):
    """Serves every page of the console below the entry "overview"."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.page)
        return [
            path("", view, {"place": ""}, name="token_limit_overview_changelist"),
            path("<path:place>", view, name="token_limit_page"),
        ]

    @method_decorator(sensitive_post_parameters())
    def page(self, request: HttpRequest, place: str) -> HttpResponseBase:
        """Answer with a page of the console."""
        from token_limit_core.console.app import static_file  # needs Jinja2, which other pages of the admin do not
        from token_limit_core.console.context import Context, Frame
        from token_limit_core.console.routes import respond

        if place.startswith(STATIC):
            return _plain(static_file(place.removeprefix(STATIC)))
        user: Any = request.user
        frame = Frame("inside.html", (FIELD, get_token(request)), may=partial(may, request))
        with speaking(get_language()):
            answer = respond(Context(_request(request, place), get_meter(), user.get_username(), frame))
        if not answer.headers.get("Content-Type", "").startswith("text/html"):
            return _plain(answer)
        title, _, content = bytes(answer.body).decode().partition("\0")  # type: ignore[arg-type]
        context = {**self.admin_site.each_context(request), "section": self.opts.app_config.verbose_name}
        context |= {"title": mark_safe(title.strip()), "content": mark_safe(content)}  # Jinja has escaped both
        context |= {"stylesheet": _static("console.css"), "script": _static("console.js")}
        return TemplateResponse(request, "admin/token_limit/page.html", context, status=answer.status)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "tenants")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, "tenants")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def may(request: HttpRequest, right: Right) -> bool:
    """Return whether the user has a right on the pages."""
    return any(request.user.has_perm(f"token_limit.{name}") for name in PERMISSIONS[right])


def _request(request: HttpRequest, place: str) -> Request:
    from token_limit_core.console.web import Request

    return Request(
        method=str(request.method),
        path=place,
        mount=unquote(reverse(INDEX)).rstrip("/"),
        query=request.META.get("QUERY_STRING", ""),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.body,
        secure=request.is_secure(),
    )


def _static(name: str) -> str:
    from token_limit_core.console.rendering import version

    return f"{reverse(INDEX)}{STATIC}{name}?v={version(name)}"


def _plain(answer: Response) -> HttpResponseBase:
    """Convert an answer that is not a page of the admin: a file, JSON, a redirect."""
    made = HttpResponse if isinstance(answer.body, bytes) else StreamingHttpResponse
    return made(answer.body, status=answer.status, headers=answer.headers)
