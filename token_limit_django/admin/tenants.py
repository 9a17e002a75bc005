"""Tenants: names, spend of the month, and links to limits and events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from token_limit_core.console.charts import billed_in_words
from token_limit_core.wording import FREQUENCY_LABELS, dollars

from .. import service
from ..models import Limit, Tenant
from .base import PageAdmin
from .display import NOTHING, bar, link, tenant_label, when


class TenantAdmin(PageAdmin):
    """List tenants and edit their names; the store creates a row with the first event or limit."""

    list_display: tuple[str, ...] = ("label", "this_month", "calls", "limits", "events", "first_seen_at")
    search_fields: ClassVar[tuple[str, ...]] = ("id", "name")
    search_help_text: ClassVar[str] = "Part of a tenant's id or name"
    ordering: ClassVar[tuple[str, ...]] = ("id",)
    fields: ClassVar[tuple[str, ...]] = (
        "id",
        "name",
        "this_month",
        "calls",
        "windows",
        "limits",
        "events",
        "first_seen_at",
    )
    readonly_fields: ClassVar[tuple[str, ...]] = tuple(name for name in fields if name != "name")

    def complete(self, rows: Sequence[Any]) -> None:
        ids = [row.id for row in rows]
        spent = service.month_spend(ids, service.now())
        limits = dict(
            Limit.objects.filter(tenant_id__in=ids)
            .values("tenant_id")
            .annotate(number=Count("id"))
            .order_by()
            .values_list("tenant_id", "number")
        )
        for row in rows:
            row.spent, row.limit_count = spent.get(row.id), limits.get(row.id, 0)

    @admin.display(description="tenant", ordering="id")
    def label(self, row: Tenant) -> str:
        """Format the tenant."""
        return tenant_label(row.id, row.name)

    @admin.display(description="spent this month")
    def this_month(self, row: Any) -> str:
        """Format the cost of the current calendar month (UTC), and what is billed where that is another amount."""
        if row.spent is None:
            return dollars(0)
        unpriced = f" + {row.spent.unpriced:,} unpriced" if row.spent.unpriced else ""
        billed = billed_in_words(row.spent)
        return f"{dollars(row.spent.cost_nano)}{unpriced}" + (f", {billed}" if billed else "")

    @admin.display(description="calls this month")
    def calls(self, row: Any) -> str:
        """Format the number of calls in the current calendar month (UTC)."""
        return f"{0 if row.spent is None else row.spent.calls:,}"

    @admin.display(description="limits")
    def limits(self, row: Any) -> str:
        """Link to the limits of the tenant, or to the form that sets one."""
        if row.limit_count:
            return link(f"{row.limit_count} limit{'s'[: row.limit_count > 1]}", "limit_changelist", tenant_id=row.id)
        return link("Set a limit", "limit_add", tenant_id=row.id) if row.id else NOTHING

    @admin.display(description="events")
    def events(self, row: Tenant) -> SafeString:
        """Link to the tenant's events."""
        return link("Events", "ledgerentry_changelist", tenant_id=row.id, when="any")

    @admin.display(description="first seen", ordering="first_seen")
    def first_seen_at(self, row: Tenant) -> str:
        """Format the time of the first event or limit."""
        return when(row.first_seen)

    @admin.display(description="windows")
    def windows(self, row: Tenant) -> str:
        """Draw the window of each limit in force."""
        at = service.now()
        states = service.statuses(Limit.objects.filter(tenant_id=row.id), at).values()
        drawn = ((FREQUENCY_LABELS[status.limit.frequency], bar(status, at)) for status in states)
        return format_html_join("", '<div class="token-limit-each">{}{}</div>', drawn) or NOTHING

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        obj.save(update_fields=["name"])

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        before, after = form.initial["name"], form.cleaned_data["name"]
        return f"Name “{before}” → “{after}”." if before != after else "Saved as it was."
