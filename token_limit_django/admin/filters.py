"""Filters of the lists. Their queries use an index or read a bounded number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from token_limit_core.wording import FREQUENCY_LABELS

from .. import service
from ..models import LedgerEntry

NEWEST_EVENTS = 2000
"""The number of events whose values become choices; SELECT DISTINCT on a large table is too slow."""


class ChoiceFilter(SimpleListFilter):
    """A filter with named choices; with a `default` it has no "All" link."""

    options: ClassVar[dict[str, str]] = {}
    default: ClassVar[str | None] = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.options.items())

    def value(self) -> str | None:
        value = super().value()
        return self.default if value is None else value

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        choices = super().choices(changelist)
        if self.default is not None:
            next(choices)  # "All"
        return choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else queryset.filter(self.condition(value))

    def condition(self, value: str) -> Q:
        """Return the condition of a choice; by default equality with the field."""
        return Q(**{str(self.parameter_name): value})


class LimitStateFilter(ChoiceFilter):
    """Filters limits by state; by default hides those that have ended."""

    title: str = "state"
    parameter_name: str = "state"
    options: ClassVar[dict[str, str]] = {
        "live": "In force or to come",
        "now": "In force",
        "coming": "To come",
        "ended": "Ended",
    }
    default: ClassVar[str | None] = "live"

    def condition(self, value: str) -> Q:
        now = service.now()
        live = Q(effective_until=None) | Q(effective_until__gt=now)
        begun = Q(effective_from__lte=now)
        return {"now": live & begun, "coming": ~begun, "ended": ~live}.get(value, live)


class FrequencyFilter(ChoiceFilter):
    """Filters limits by frequency."""

    title: str = "window"
    parameter_name: str = "frequency"
    options: ClassVar[dict[str, str]] = FREQUENCY_LABELS


class ModeFilter(ChoiceFilter):
    """Filters limits by mode."""

    title: str = "mode"
    parameter_name: str = "mode"
    options: ClassVar[dict[str, str]] = {"enforce": "enforce", "observe": "observe"}


class HoldStateFilter(ChoiceFilter):
    """Filters holds by state; by default shows open ones."""

    title: str = "state"
    parameter_name: str = "state"
    options: ClassVar[dict[str, str]] = {
        "open": "Open",
        "settled": "Settled",
        "expired": "Expired",
        "released": "Released",
    }
    default: ClassVar[str | None] = "open"


class KindFilter(ChoiceFilter):
    """Filters events by kind."""

    title: str = "kind"
    parameter_name: str = "kind"
    options: ClassVar[dict[str, str]] = {"call": "Calls", "expiry": "Expired holds", "correction": "Corrections"}


class MarkFilter(ChoiceFilter):
    """Filters estimated, unpriced or failed events."""

    title: str = "mark"
    parameter_name: str = "mark"
    options: ClassVar[dict[str, str]] = {"estimated": "Estimated", "unpriced": "Unpriced", "failed": "Failed"}

    def condition(self, value: str) -> Q:
        if value == "estimated":
            return Q(details__tags__estimated=True)
        return Q(cost_nano=None) if value == "unpriced" else Q(error__isnull=False)


class _RecentValueFilter(ChoiceFilter):
    """Filters by a field; the choices are its values in the newest events."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = LedgerEntry.objects.order_by("-id").values_list(str(self.parameter_name), flat=True)[:NEWEST_EVENTS]
        values = {value for value in (*newest, self.value()) if value}
        return [(value, value) for value in sorted(values)]


class ProviderFilter(_RecentValueFilter):
    """Filters events by provider."""

    title: str = "provider"
    parameter_name: str = "provider"


class ModelFilter(_RecentValueFilter):
    """Filters events by model."""

    title: str = "model"
    parameter_name: str = "model"


class WhenFilter(ChoiceFilter):
    """Filters events by days in UTC, by name or date; the default keeps queries on a large table fast."""

    title: str = "day (UTC)"
    parameter_name: str = "when"
    template = "admin/token_limit/day_filter.html"
    options: ClassVar[dict[str, str]] = {
        "today": "Today",
        "yesterday": "Yesterday",
        "week": "Past 7 days",
        "month": "This month",
        "any": "Any time",
    }
    default: ClassVar[str | None] = "week"

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        value = self.value()
        self.day: str | None = "" if value in self.options else value
        self.others: list[tuple[str, Any]] = [
            (name, value) for name, value in changelist.params.items() if name not in ("when", "p")
        ]
        return super().choices(changelist)

    def condition(self, value: str) -> Q:
        today = datetime.fromtimestamp(service.now(), UTC).date()
        first, days = today, 1
        if value == "any":
            return Q()
        if value == "yesterday":
            first = today - timedelta(days=1)
        elif value == "week":
            first, days = today - timedelta(days=6), 7
        elif value == "month":
            first, days = today.replace(day=1), 31
        elif value != "today":
            try:
                first = date.fromisoformat(value)
            except ValueError as error:
                raise IncorrectLookupParameters(error) from error
        start = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
        return Q(timestamp__gte=start, timestamp__lt=start + days * 86400)
