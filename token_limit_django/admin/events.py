"""The event log: model, time, tenant and cost of each call. It is read-only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from token_limit_core.wording import dollars

from ..models import LedgerEntry, Tenant
from .base import ReadOnlyAdmin, name_tenants
from .display import NOTHING, link, tenant_label, two_lines, when
from .filters import KindFilter, MarkFilter, ModelFilter, ProviderFilter, WhenFilter

if TYPE_CHECKING:
    _Paginator = Paginator[LedgerEntry]
else:
    _Paginator = Paginator


class BoundedPaginator(_Paginator):
    """Stops counting at `most` rows, as counting a large table is slow."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.most].count())


class EventAdmin(ReadOnlyAdmin):
    """List events, newest first, with filters and a search by tenant and id."""

    paginator = BoundedPaginator
    list_display: tuple[str, ...] = ("time", "tenant", "what", "served_by", "tokens", "cost", "marks")
    list_filter: ClassVar[tuple[type[SimpleListFilter], ...]] = (
        WhenFilter,
        KindFilter,
        MarkFilter,
        ProviderFilter,
        ModelFilter,
    )
    search_fields: ClassVar[tuple[str, ...]] = ("tenant_id", "event_id", "request_id")
    search_help_text: ClassVar[str] = "A tenant, an event id or a provider's request id, written out in full"
    ordering: ClassVar[tuple[str, ...]] = ("-timestamp", "-id")
    sortable_by: ClassVar[tuple[str, ...]] = ()  # no index supports another order
    fieldsets: ClassVar[tuple[tuple[str | None, Any], ...]] = (
        (None, {"fields": ("time", "tenant", "what", "event_id", "same_call", "cost", "marks")}),
        ("Call", {"fields": ("provider", "model", "endpoint", "streamed", "duration", "request_id", "error")}),
        (
            "Tokens",
            {
                "fields": (
                    "input_tokens",
                    "cached_tokens",
                    "cache_creation_tokens",
                    "output_tokens",
                    "reasoning_tokens",
                    "total_tokens",
                )
            },
        ),
        ("Price", {"fields": ("exact_cost", "price_version", "service_tier")}),
        ("Attribution", {"fields": ("user", "feature", "session_id")}),
        ("Details", {"fields": ("pretty_details",)}),
    )

    def complete(self, rows: Sequence[Any]) -> None:
        name_tenants(rows)

    @admin.display(description="time")
    def time(self, row: LedgerEntry) -> str:
        """Format the time of admission."""
        return when(row.timestamp, precise=True)

    @admin.display(description="tenant")
    def tenant(self, row: Any) -> str:
        """Format the tenant."""
        return tenant_label(row.tenant_id, row.tenant_name)

    @admin.display(description="kind")
    def what(self, row: LedgerEntry) -> str:
        """Name the kind, and the event that a correction refers to."""
        return row.kind if row.corrects is None else two_lines(row.kind, f"of {row.corrects}")

    @admin.display(description="model")
    def served_by(self, row: LedgerEntry) -> str:
        """Name the model over its provider; only calls have them."""
        return two_lines(row.model or NOTHING, row.provider or NOTHING) if row.kind == "call" else NOTHING

    @admin.display(description="tokens")
    def tokens(self, row: LedgerEntry) -> str:
        """Format the input and output tokens."""
        return two_lines(f"{row.input_tokens:,} in", f"{row.output_tokens:,} out") if row.kind == "call" else NOTHING

    @admin.display(description="cost")
    def cost(self, row: LedgerEntry) -> str:
        """Format the cost of the row; an unpriced row has a mark and never shows 0."""
        if row.cost_nano is None:
            return format_html('<span class="token-limit-mark unpriced">{}</span>', "unpriced")
        return dollars(row.cost_nano)

    @admin.display(description="marks")
    def marks(self, row: LedgerEntry) -> str:
        """Mark an estimated or failed call."""
        marks = []
        if row.details.get("tags", {}).get("estimated"):
            marks.append(("estimated", "estimated"))
        if row.error is not None:
            marks.append(("failed", row.error))
        return format_html_join(" ", '<span class="token-limit-mark {}">{}</span>', marks) or NOTHING

    @admin.display(description="streamed")
    def streamed(self, row: LedgerEntry) -> str:
        """Show whether the answer was streamed."""
        return "Yes" if row.stream else "No"

    @admin.display(description="duration")
    def duration(self, row: LedgerEntry) -> str:
        """Format the duration of the call."""
        return NOTHING if row.duration_ms is None else f"{row.duration_ms / 1000:,.3f} s"

    @admin.display(description="cost in US dollars")
    def exact_cost(self, row: LedgerEntry) -> str:
        """Format the cost with all digits."""
        return NOTHING if row.cost_usd is None else f"{row.cost_usd:f}"

    @admin.display(description="same call")
    def same_call(self, row: LedgerEntry) -> str:
        """Link the call, its expiry and its correction with each other."""
        ids = set(_rows_of_call(row.event_id.partition("/")[0])) - {row.event_id}
        others = LedgerEntry.objects.filter(tenant_id=row.tenant_id, event_id__in=ids).order_by("id")
        links = (
            (link(f"{other.kind} {dollars(other.cost_nano)}", "ledgerentry_change", other.pk),) for other in others
        )
        return format_html_join(", ", "{}", links) or NOTHING

    @admin.display(description="details")
    def pretty_details(self, row: LedgerEntry) -> SafeString:
        """Format the other fields as indented JSON."""
        text = json.dumps(row.details, indent=2, ensure_ascii=False, sort_keys=True)
        return format_html('<pre class="token-limit-json">{}</pre>', text)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LedgerEntry], search_term: str
    ) -> tuple[QuerySet[LedgerEntry], bool]:
        """Search by tenant, then event id, then request id; the last has no index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        tenants = list(Tenant.objects.filter(Q(id=term) | Q(name=term)).values_list("id", flat=True))
        if tenants:
            return queryset.filter(tenant_id__in=tenants), False
        by_id = Q(tenant_id__in=Tenant.objects.values("id"), event_id__in=_rows_of_call(term))
        if LedgerEntry.objects.filter(by_id).exists():
            return queryset.filter(by_id), False
        return queryset.filter(request_id=term), False


def _rows_of_call(call_id: str) -> list[str]:
    return [call_id, f"{call_id}/expired", f"{call_id}/correction"]
