"""The changes in the admin's index: the entry leads to the page that the console has, too."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from .base import ReadOnlyAdmin


class ChangeAdmin(ReadOnlyAdmin):
    """Leads to the shared page of changes, for those who may see it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may view changes; the permission to view limits is enough."""
        return bool(request.user.has_perm("token_limit.view_limit")) or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the shared page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return redirect("admin:token_limit_page", place="history")

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Redirect from an old link to a single change, too."""
        return self.changelist_view(request)
