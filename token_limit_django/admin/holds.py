"""Holds of calls in flight, and the action that releases them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest

from token_limit_core.wording import dollars, span

from .. import service
from ..meter import get_store
from ..models import Hold
from .base import ReadOnlyAdmin, name_tenants
from .display import NOTHING, tenant_label, when
from .filters import HoldStateFilter


class HoldAdmin(ReadOnlyAdmin):
    """List holds, and release those of calls that have died before their hold expires."""

    list_display: tuple[str, ...] = (
        "tenant",
        "amount_held",
        "age",
        "expires_in",
        "process",
        "origin",
        "state",
        "call_id",
    )
    list_filter: ClassVar[tuple[type[SimpleListFilter], ...]] = (HoldStateFilter,)
    search_fields: ClassVar[tuple[str, ...]] = ("tenant_id", "call_id")
    search_help_text: ClassVar[str] = "Part of a tenant's id or of a call id"
    ordering: ClassVar[tuple[str, ...]] = ("created_at",)
    actions: tuple[str, ...] = ("release",)
    fields: ClassVar[tuple[str, ...]] = (
        "call_id",
        "tenant",
        "amount_held",
        "created",
        "expires",
        "expires_in",
        "process",
        "origin",
        "state",
    )
    readonly_fields: ClassVar[tuple[str, ...]] = fields

    def complete(self, rows: Sequence[Any]) -> None:
        name_tenants(rows)
        at = service.now()
        for row in rows:
            row.now = at

    @admin.display(description="tenant", ordering="tenant_id")
    def tenant(self, row: Any) -> str:
        """Format the tenant."""
        return tenant_label(row.tenant_id, row.tenant_name)

    @admin.display(description="held", ordering="amount")
    def amount_held(self, row: Hold) -> str:
        """Format the amount held on each limit."""
        return dollars(row.amount)

    @admin.display(description="age", ordering="created_at")
    def age(self, row: Any) -> str:
        """Format the time since admission."""
        return span(max(0, row.now - row.created_at))

    @admin.display(description="expires in", ordering="expires_at")
    def expires_in(self, row: Any) -> str:
        """Format the time until the hold expires; an expired hold is charged in full."""
        if row.state != "open":
            return NOTHING
        left = row.expires_at - row.now
        return span(left) if left > 0 else f"{span(-left)} overdue"

    @admin.display(description="created")
    def created(self, row: Hold) -> str:
        """Format the time of admission."""
        return when(row.created_at, precise=True)

    @admin.display(description="expires")
    def expires(self, row: Hold) -> str:
        """Format the time of expiry."""
        return when(row.expires_at, precise=True)

    def has_release_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may release holds: the permission to change holds."""
        return bool(request.user.has_perm("token_limit.change_hold"))

    @admin.action(description="Release selected holds", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Hold]) -> None:
        """Release holds without a charge; a call that still completes is charged its actual cost."""
        released = 0
        for row in queryset:
            if get_store().release(row.call_id, service.now(), request.user.get_username()):
                released += 1
                self.log_change(request, row, f"Released: {dollars(row.amount)} held for tenant “{row.tenant_id}”.")
        self.message_user(request, f"{released} released.", messages.SUCCESS)
        if late := len(queryset) - released:
            self.message_user(request, f"{late} were closed already.", messages.WARNING)
