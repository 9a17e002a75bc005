"""API keys of the services that report here: create one (its token is shown once) or revoke it; none can be edited."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from .. import service
from ..forms import ApiKeyForm
from ..meter import get_store
from ..models import ApiKey
from .base import ReadOnlyAdmin
from .display import NOTHING, when


class ApiKeyAdmin(ReadOnlyAdmin):
    """Create and revoke API keys."""

    form: type[ApiKeyForm] = ApiKeyForm
    list_display: tuple[str, ...] = ("key", "account", "name", "may", "for_tenants", "made", "revoked")
    search_fields: ClassVar[tuple[str, ...]] = ("public_id", "account", "name")
    search_help_text: ClassVar[str] = "Part of a key's first letters, of its account or of its name"
    ordering: ClassVar[tuple[str, ...]] = ("account", "created_at")
    actions: tuple[str, ...] = ("revoke",)
    shown: tuple[str, ...] = ("key", "account", "name", "may", "for_tenants", "made", "revoked")

    @admin.display(description="key", ordering="public_id")
    def key(self, row: ApiKey) -> str:
        """Format the public part of the token."""
        return str(row)

    @admin.display(description="may")
    def may(self, row: ApiKey) -> str:
        """List the permissions."""
        return ", ".join(row.permissions)

    @admin.display(description="tenants")
    def for_tenants(self, row: ApiKey) -> str:
        """List the tenants."""
        return ", ".join(row.tenants)

    @admin.display(description="made", ordering="created_at")
    def made(self, row: ApiKey) -> str:
        """Format the time of creation."""
        return when(row.created_at)

    @admin.display(description="revoked", ordering="revoked_at")
    def revoked(self, row: ApiKey) -> str:
        """Format the time of revocation."""
        return NOTHING if row.revoked_at is None else when(row.revoked_at)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("account", "name", "tenant_names", "chosen") if obj is None else self.shown

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else self.shown

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("token_limit.add_apikey"))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may revoke keys: the permission to change keys."""
        return bool(request.user.has_perm("token_limit.change_apikey"))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_revoke_permission(request)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        token, key = form.made
        get_store().add_api_key(key, request.user.get_username())
        obj.pk = key.public_id
        obj.refresh_from_db()
        self.message_user(request, f"The token of this key, which is shown only now: {token}", messages.WARNING)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        key = form.made.key
        return f"Made for “{key.account}”: {', '.join(key.permissions)} for {', '.join(key.tenants)}."

    @admin.action(description="Revoke selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revoke keys from now on."""
        revoked = 0
        for row in queryset:
            if get_store().revoke_api_key(row.public_id, service.now(), request.user.get_username()):
                revoked += 1
                self.log_change(request, row, "Revoked.")
        self.message_user(request, f"{revoked} revoked.", messages.SUCCESS)
        if late := len(queryset) - revoked:
            self.message_user(request, f"{late} were revoked already.", messages.WARNING)
