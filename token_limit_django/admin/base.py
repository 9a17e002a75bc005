"""What all pages have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.contrib.admin import ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse

from ..models import Tenant

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class _Page(ChangeList):
    """A list whose rows are completed together, not one by one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = list(self.result_list)
        cast(PageAdmin, self.model_admin).complete(rows)
        self.result_list = rows


class PageAdmin(_ModelAdmin):
    """Lists that count nothing needlessly, and views that keep no transaction open while they write elsewhere."""

    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50

    class Media:
        """One small stylesheet; there are no scripts."""

        css = {"all": ("token_limit/admin.css",)}

    def complete(self, rows: Sequence[Any]) -> None:
        """Give rows what their columns show beyond their own fields, in a few queries for all of them."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _Page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            self.complete([row])
        return row

    # Django wraps these two in a transaction on our alias, and writes its history to another database inside it. The
    # store commits by itself; on SQLite a transaction around it would lock every call out while that other one waits.

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        parent: Any = super()
        return cast(HttpResponse, parent._changeform_view(request, object_id, form_url, extra_context))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        parent: Any = super()
        return cast(HttpResponse, parent._delete_view(request, object_id, extra_context))


class ReadOnlyAdmin(PageAdmin):
    """Pages to look at; the store writes these tables."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def name_tenants(rows: Sequence[Any]) -> None:
    """Put the tenant's name, which may be empty, on each row as `tenant_name`."""
    names = dict(Tenant.objects.filter(id__in={row.tenant_id for row in rows}).values_list("id", "name"))
    for row in rows:
        row.tenant_name = names.get(row.tenant_id, "")
