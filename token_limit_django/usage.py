"""The usage of the current tenant: a page, JSON, a fragment for templates, and headers, each opt-in.

The tenant is the one that the LLM calls of the request are metered for; a client cannot choose it. The templates are
core's; a project may override `token_limit/own/usage.html` and `token_limit/own/fragment.html`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, wraps
from importlib.resources import files
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings as project
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.views.decorators.http import require_safe

from token_limit_core import console, scope
from token_limit_core.console import tenant_usage
from token_limit_core.console.web import SECURITY, error_response
from token_limit_core.errors import StoreError
from token_limit_core.meter import engine_of
from token_limit_core.runtime.faults import internal_errors
from token_limit_core.runtime.language import language, speaking

from .conf import settings
from .core_templates import core_template
from .meter import get_meter

View = Callable[[HttpRequest], HttpResponse]


def _for_tenant(view: Callable[[HttpRequest, str], HttpResponse]) -> View:
    """Pass the request's tenant to a view; without one redirect people to the sign-in page and answer 401 to programs.

    A signed-in user without a tenant gets 403: a sign-in page may redirect such a user straight back.
    """

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        tenant_id = _tenant()
        if tenant_id is None:
            response = _without_tenant(request, is_page=view.__name__ == "page")
        else:
            try:
                response = view(request, tenant_id)
            except StoreError as error:
                response = _error_response(request, *tenant_usage.why_not(error))
        for name, value in SECURITY.items():
            response.headers.setdefault(name, value)
        return response

    return require_safe(guarded)


@_for_tenant
def page(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Show the limits of the tenant, and its spend of the month by day and model."""
    names = {"stylesheet": "usage_css", "icon": "usage_icon", "json_url": "usage_json"}
    urls = {key: reverse(f"token_limit:{name}") for key, name in names.items()}
    usage = tenant_usage.usage_of(engine_of(get_meter()), tenant_id, request.GET.get("month", ""))
    with speaking(get_language()):
        context = {**tenant_usage.context(usage, _links()), **urls, "lang": language()}
        return HttpResponse(_render(tenant_usage.PAGE, context, request))


@_for_tenant
def data(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Return the same data as JSON; money is US dollars as decimal strings."""
    return JsonResponse(tenant_usage.as_json(tenant_usage.usage_of(engine_of(get_meter()), tenant_id)))


@_for_tenant
def stylesheet(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Return the stylesheet of the page."""
    return HttpResponse(_static("console.css"), content_type="text/css; charset=utf-8")


@_for_tenant
def icon(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Return the icon of the page."""
    return HttpResponse(_static("icon.svg"), content_type="image/svg+xml")


def fragment() -> SafeString:
    """Render the usage of the current tenant as HTML to embed; empty without a tenant."""
    with internal_errors("rendering the usage fragment"):
        usage = tenant_usage.usage_if_known(engine_of(get_meter()), _tenant())
        if usage is not None:
            with speaking(get_language()):
                return mark_safe(_render(tenant_usage.FRAGMENT, tenant_usage.context(usage, _links())))
    return mark_safe("")


class UsageHeadersMiddleware:
    """Add headers with what is left of the limit (`tenant_usage.headers`), if the request has resolved its tenant.

    List it below `TokenLimitMiddleware`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async: bool = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        response = cast(HttpResponseBase, self.get_response(request))
        return _with_headers(response, tenant_usage.headers(engine_of(get_meter()), _known_tenant()))

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response = cast(HttpResponseBase, await self.get_response(request))
        tenant_id = _known_tenant()
        if tenant_id is None:
            return response
        return _with_headers(response, await sync_to_async(tenant_usage.headers)(engine_of(get_meter()), tenant_id))


def _with_headers(response: HttpResponseBase, headers: dict[str, str]) -> HttpResponseBase:
    for name, value in headers.items():
        response[name] = value
    return response


def _links() -> tenant_usage.Links:
    return tenant_usage.Links(settings.UPGRADE_URL, settings.SUPPORT_URL)


def _tenant() -> str | None:
    current = scope.current()
    return None if current is None else current.tenant()


def _known_tenant() -> str | None:
    """Return the tenant if the request has resolved it; resolving it only for a header would cost a query."""
    current = scope.current()
    return None if current is None else current.tenant_id


def _without_tenant(request: HttpRequest, *, is_page: bool) -> HttpResponse:
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return _error_response(request, 403, "There is no usage to show for this account.")
    if is_page:
        from django.contrib.auth.views import redirect_to_login  # needs the auth app, which a project may not have

        return redirect_to_login(request.get_full_path(), resolve_url(project.LOGIN_URL))
    return _error_response(request, 401, "Sign in to see your usage.")


def _error_response(request: HttpRequest, status: int, message: str) -> HttpResponse:
    with speaking(get_language()):
        answer = error_response(request.path, status, message)
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


def _render(name: str, context: dict[str, Any], request: HttpRequest | None = None) -> str:
    try:
        template = get_template(f"token_limit/{name}")
    except TemplateDoesNotExist:
        template = core_template(name)
    return template.render(context, request)


@cache
def _static(name: str) -> bytes:
    return files(console).joinpath("static", name).read_bytes()
