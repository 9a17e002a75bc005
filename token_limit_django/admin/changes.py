"""The history: changed limits, released holds, created and revoked API keys, with actor, time, old and new value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

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
    """List changes, newest first, with a search by tenant or actor."""

    paginator = BoundedPaginator
    list_display: tuple[str, ...] = ("time", "tenant", "what", "before", "after", "begins", "who")
    list_display_links: None = None
    search_fields: ClassVar[tuple[str, ...]] = ("tenant_id", "actor")
    search_help_text: ClassVar[str] = "A tenant's id or a person's name, written out in full"
    ordering: ClassVar[tuple[str, ...]] = ("-at", "-id")
    sortable_by: ClassVar[tuple[str, ...]] = ()

    def complete(self, rows: Sequence[Any]) -> None:
        name_tenants(rows)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may view changes; the permission to view limits is enough."""
        return bool(request.user.has_perm("token_limit.view_limit")) or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LimitChange], search_term: str
    ) -> tuple[QuerySet[LimitChange], bool]:
        term = search_term.strip()  # not split into words, as names contain spaces
        return queryset.filter(Q(tenant_id=term) | Q(actor=term)) if term else queryset, False

    @admin.display(description="when")
    def time(self, row: LimitChange) -> str:
        """Format the time of the change."""
        return when(row.at, precise=True)

    @admin.display(description="tenant")
    def tenant(self, row: Any) -> str:
        """Format the tenant of the limit or hold."""
        return NOTHING if row.kind in KEY_KINDS else tenant_label(row.tenant_id, row.tenant_name)

    @admin.display(description="what")
    def what(self, row: LimitChange) -> str:
        """Name the object: the limit of one frequency, a hold, or an API key."""
        if row.kind in KEY_KINDS:
            return f"API key tl_{row.filter}"
        return "a hold" if row.kind == "release" else FREQUENCY_LABELS.get(row.frequency, row.frequency)

    @admin.display(description="from")
    def before(self, row: LimitChange) -> str:
        """Format the old value."""
        if row.kind in KEY_KINDS:
            return NOTHING
        if row.kind == "release":
            return "unpriced" if row.old_amount is None else exact_usd(row.old_amount)
        return _limit(row.old_amount, row.old_mode)

    @admin.display(description="to")
    def after(self, row: LimitChange) -> str:
        """Format the new value."""
        if row.kind in _BECAME:
            return _BECAME[row.kind]
        return _limit(row.new_amount, row.new_mode)

    @admin.display(description="begins")
    def begins(self, row: LimitChange) -> str:
        """Format the time from which a limit applies, if it is later than the change."""
        later = row.effective_from is not None and row.effective_from > row.at
        return when(row.effective_from) if later else NOTHING

    @admin.display(description="by")
    def who(self, row: LimitChange) -> str:
        """Name the actor."""
        return row.actor or "the application"


def _limit(amount: int | None, mode: str | None) -> str:
    return "no limit" if amount is None else f"{exact_usd(amount)} ({mode})"
