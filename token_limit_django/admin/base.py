"""Base classes of the admin pages."""

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
    """A list that loads related data for all its rows together, not row by row."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = list(self.result_list)
        cast(PageAdmin, self.model_admin).complete(rows)
        self.result_list = rows


class PageAdmin(_ModelAdmin):
    """Lists without extra COUNT queries, and views without a transaction around the store's commits."""

    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50

    class Media:
        """One stylesheet and no scripts."""

        css: dict[str, tuple[str, ...]] = {"all": ("token_limit/admin.css",)}

    def complete(self, rows: Sequence[Any]) -> None:
        """Load the related data that the columns show, in a fixed number of queries for all rows."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _Page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            self.complete([row])
        return row

    # Django wraps these two views in a transaction on our alias, and writes its history to another database inside it.
    # The store commits its own transactions; on SQLite the outer transaction would block every call in the meantime.

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
    """Read-only pages: only the store writes these tables."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def name_tenants(rows: Sequence[Any]) -> None:
    """Set `tenant_name` on each row; it is empty for a tenant without a name."""
    names = dict(Tenant.objects.filter(id__in={row.tenant_id for row in rows}).values_list("id", "name"))
    for row in rows:
        row.tenant_name = names.get(row.tenant_id, "")
