"""The page of limits, with what each has spent in its current window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.models import DELETION, LogEntry
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString

from token_limit_core.errors import LimitChanged
from token_limit_core.management import edits
from token_limit_core.wording import FREQUENCY_LABELS, exact_usd

from .. import service
from ..forms import LimitForm
from ..meter import get_store
from ..models import Limit, Tenant
from .base import PageAdmin, name_tenants
from .display import NOTHING, bar, tenant_label, two_lines, when
from .filters import FrequencyFilter, LimitStateFilter, ModeFilter


class LimitAdmin(PageAdmin):
    """Set, change and remove limits through the store; counters stay, and every process applies it to its next call."""

    form: type[LimitForm] = LimitForm
    list_display: tuple[str, ...] = ("tenant", "amount_each", "this_window", "begins", "ends")
    list_filter: ClassVar[tuple[type[SimpleListFilter], ...]] = (LimitStateFilter, FrequencyFilter, ModeFilter)
    search_fields: ClassVar[tuple[str, ...]] = ("tenant_id",)
    search_help_text: ClassVar[str] = "Part of a tenant's id or name"
    ordering: ClassVar[tuple[str, ...]] = ("tenant_id", "frequency", "effective_from")

    _settings = ("limit_usd", "mode", "effective_date")
    _state = ("this_window", "begins", "ends")

    # -- columns --------------------------------------------------------------------------------

    def complete(self, rows: Sequence[Limit]) -> None:
        at = service.now()
        found = service.statuses(rows, at)
        name_tenants(rows)
        for row in rows:
            row.now, row.status = at, found.get(row.id)  # type: ignore[attr-defined]

    @admin.display(description="tenant", ordering="tenant_id")
    def tenant(self, row: Any) -> str:
        """Format the tenant."""
        return tenant_label(row.tenant_id, row.tenant_name)

    @admin.display(description="limit", ordering="amount")
    def amount_each(self, row: Limit) -> SafeString:
        """Format the amount per window and the mode."""
        return two_lines(f"{exact_usd(row.amount)} {FREQUENCY_LABELS[row.frequency]}", row.mode)

    @admin.display(description="window")
    def calendar_window(self, row: Limit) -> str:
        """Name the frequency."""
        return f"{FREQUENCY_LABELS[row.frequency]}, by the calendar in {row.timezone}"

    @admin.display(description="this window")
    def this_window(self, row: Any) -> str:
        """Draw the spend of the current window, and show when the window ends."""
        return NOTHING if row.status is None else bar(row.status, row.now)

    @admin.display(description="begins", ordering="effective_from")
    def begins(self, row: Limit) -> str:
        """Format the time from which the limit applies."""
        return when(row.effective_from, zone=row.timezone)

    @admin.display(description="ends", ordering="effective_until")
    def ends(self, row: Limit) -> str:
        """Format the time at which a later limit replaces it."""
        return when(row.effective_until, zone=row.timezone)

    # -- fields and permissions -----------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Limit]:
        """List the tenants' own limits; those of plans are changed by their plan."""
        return super().get_queryset(request).filter(plan="")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Limit], search_term: str
    ) -> tuple[QuerySet[Limit], bool]:
        term = search_term.strip()
        if term:
            named = Tenant.objects.filter(name__icontains=term).values("id")
            queryset = queryset.filter(Q(tenant_id__icontains=term) | Q(tenant_id__in=named))
        return queryset, False

    def get_fields(self, request: HttpRequest, obj: Limit | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("tenant_id", "frequency", *self._settings)
        if not self.has_change_permission(request, obj):
            return ("tenant", "amount_each", *self._state)
        return ("tenant", "calendar_window", *self._settings, *self._state, "shown")

    def get_readonly_fields(self, request: HttpRequest, obj: Limit | None = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return ("tenant_id", "frequency", "tenant", "amount_each", "calendar_window", *self._state)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        ended = obj is not None and obj.effective_until is not None and obj.effective_until <= service.now()
        return not ended and super().has_change_permission(request, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        # saving a limit that has not begun creates a new row, so the form cannot continue with this one
        context = {"show_save_and_continue": False, **(extra_context or {})}
        try:
            return super().changeform_view(request, object_id, form_url, context)
        except LimitChanged:  # changed between check and save: validate again, which shows the error
            return super().changeform_view(request, object_id, form_url, context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except LimitChanged:
            self.message_user(
                request, "Another user has changed this limit in the meantime. It was not removed.", messages.ERROR
            )
            return redirect("admin:token_limit_limit_changelist")

    # -- saving ---------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Limit, form: Any, change: bool) -> None:
        placed = edits.save(get_store(), form.draft, form.now, request.user.get_username())
        if change and not form.waiting and placed.id != obj.pk:  # the limit applies until the new one begins
            self.log_addition(request, Limit.objects.get(pk=placed.id), form.summary())
        else:
            obj.pk = placed.id
        obj.refresh_from_db()
        if form.draft.new_tenant:
            hint = "Tenant “%s” is new: it has no event and no limit yet. Check that the id is right."
            self.message_user(request, hint % obj.tenant_id, messages.WARNING)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        return form.summary()

    def delete_model(self, request: HttpRequest, obj: Limit) -> None:
        user: Any = request.user
        get_store().cancel_limit(service.limit_of(obj), service.now(), by=user.get_username())
        limit = f"{exact_usd(obj.amount)} {FREQUENCY_LABELS[obj.frequency]} ({obj.mode})"
        message = f"Removed {limit}, with the counters of its windows."
        LogEntry.objects.log_actions(user.pk, [obj], DELETION, message)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Limit]) -> None:
        for row in queryset:
            try:
                row.refresh_from_db()  # removing a future limit extends the one before it
                self.delete_model(request, row)
            except (LimitChanged, Limit.DoesNotExist):
                self.message_user(
                    request, f"Another user has changed “{row}” in the meantime. It was not removed.", messages.ERROR
                )

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Limit]) -> Any:
        """Log nothing here; `delete_model` writes the log entry after the limit is removed."""
        return []
