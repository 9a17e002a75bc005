"""The other entries of the admin's index. Each leads to the page below the overview that shows the same rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse

from ..models import ApiKey, Hold, LedgerEntry, Limit, LimitChange, Tenant
from .pages import INDEX, may

if TYPE_CHECKING:
    from token_limit_core.console.context import Right

    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class Lead(NamedTuple):
    """Where an entry leads: a page and the right that it needs, the page and query of a row, the form of a new row."""

    place: str
    right: Right
    row: Callable[[Any], tuple[str, dict[str, str]]]
    form: str = ""


def _limit(row: Limit) -> tuple[str, dict[str, str]]:
    return ("plans", {}) if row.plan else ("tenant", {"id": row.tenant_id})


def _event(row: LedgerEntry) -> tuple[str, dict[str, str]]:
    day = datetime.fromtimestamp(row.timestamp, UTC).date().isoformat()
    return "events", {"call": row.event_id.partition("/")[0], "from": day}


LEADS: dict[type[Model], Lead] = {
    Limit: Lead("tenants", "tenants", _limit, form="limit"),
    LimitChange: Lead("history", "history", lambda row: ("history", {"tenant": row.tenant_id})),
    Tenant: Lead("tenants", "tenants", lambda row: ("tenant", {"id": row.id})),
    Hold: Lead("holds", "holds", lambda row: ("holds", {"tenant": row.tenant_id})),
    LedgerEntry: Lead("events", "events", _event),
    ApiKey: Lead("keys", "keys", lambda row: ("keys", {}), form="keys"),
}


class EntryAdmin(_ModelAdmin):
    """Redirects from the list of a table, from one row and from the form of a new one, those who may see the page."""

    @property
    def lead(self) -> Lead:
        """Where the entry of this table leads."""
        return LEADS[self.model]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, self.lead.right)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(self.lead.form) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the page of this table, with what was searched for."""
        query = {"q": request.GET["q"]} if "q" in request.GET else {}
        return _redirect(request, self.has_view_permission(request), self.lead.place, query)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the form of a new row."""
        return _redirect(request, self.has_add_permission(request), self.lead.form, {})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Redirect to the page that shows a row; to that of all rows if it is gone."""
        allowed = self.has_view_permission(request)
        row = self.get_object(request, unquote(object_id)) if allowed else None
        place, query = (self.lead.place, {}) if row is None else self.lead.row(row)
        return _redirect(request, allowed, place, query)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the page that shows a row."""
        return self.change_view(request, object_id)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the page that shows a row."""
        return self.change_view(request, object_id)


def _redirect(request: HttpRequest, allowed: bool, place: str, query: dict[str, str]) -> HttpResponse:
    if not allowed:
        raise PermissionDenied
    if request.method not in ("GET", "HEAD"):  # a form of an old page, which nothing saves any more
        return HttpResponseNotAllowed(["GET", "HEAD"])
    return HttpResponseRedirect(f"{reverse(INDEX)}{place}{'?' if query else ''}{urlencode(query)}")
