"""The history: limits changed, holds released, keys made and revoked; by whom, when, and from what to what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from token_limit_core.stores.reports import KEY_KINDS
from token_limit_core.wording import FREQUENCY_LABELS, exact_usd

from ..models import LimitChange
from .base import ReadOnlyAdmin, name_tenants
from .display import NOTHING, tenant_label, when
from .events import BoundedPaginator

_BECAME = {"release": "released", "make-key": "made", "revoke-key": "revoked"}


class ChangeAdmin(ReadOnlyAdmin):
    """Find changes by tenant or person, newest first."""

    paginator = BoundedPaginator
    list_display = ("time", "tenant", "what", "before", "after", "begins", "who")
    list_display_links = None
    search_fields = ("tenant_id", "actor")
    search_help_text = "A tenant's id or a person's name, written out in full"
    ordering = ("-at", "-id")
    sortable_by = ()

    def complete(self, rows: Sequence[Any]) -> None:
        name_tenants(rows)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether a person may see changes: whoever may see limits."""
        return bool(request.user.has_perm("token_limit.view_limit")) or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LimitChange], search_term: str
    ) -> tuple[QuerySet[LimitChange], bool]:
        term = search_term.strip()  # whole, as names have spaces
        return queryset.filter(Q(tenant_id=term) | Q(actor=term)) if term else queryset, False

    @admin.display(description="when")
    def time(self, row: LimitChange) -> str:
        """Write when it was made."""
        return when(row.at, precise=True)

    @admin.display(description="tenant")
    def tenant(self, row: Any) -> str:
        """Name whose limit or hold it was."""
        return NOTHING if row.kind in KEY_KINDS else tenant_label(row.tenant_id, row.tenant_name)

    @admin.display(description="what")
    def what(self, row: LimitChange) -> str:
        """Name what was changed: the limit of a kind of window, a hold, or a key."""
        if row.kind in KEY_KINDS:
            return f"API key tl_{row.filter}"
        return "a hold" if row.kind == "release" else FREQUENCY_LABELS.get(row.frequency, row.frequency)

    @admin.display(description="from")
    def before(self, row: LimitChange) -> str:
        """Write what the limit was, or the hold."""
        if row.kind in KEY_KINDS:
            return NOTHING
        if row.kind == "release":
            return "unpriced" if row.old_amount is None else exact_usd(row.old_amount)
        return _limit(row.old_amount, row.old_mode)

    @admin.display(description="to")
    def after(self, row: LimitChange) -> str:
        """Write what it became."""
        if row.kind in _BECAME:
            return _BECAME[row.kind]
        return _limit(row.new_amount, row.new_mode)

    @admin.display(description="begins")
    def begins(self, row: LimitChange) -> str:
        """Say since when it applies, if not at once."""
        later = row.effective_from is not None and row.effective_from > row.at
        return when(row.effective_from) if later else NOTHING

    @admin.display(description="by")
    def who(self, row: LimitChange) -> str:
        """Name who made it."""
        return row.actor or "the application"


def _limit(amount: int | None, mode: str | None) -> str:
    return "no limit" if amount is None else f"{exact_usd(amount)} ({mode})"
