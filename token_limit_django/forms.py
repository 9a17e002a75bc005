"""The admin's forms. They show US dollars and UTC; the store has nano-dollars and unix seconds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from token_limit_core import limits as core
from token_limit_core.errors import ConfigurationError
from token_limit_core.ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS, NewKey, make_key
from token_limit_core.money import parse_amount, to_nano
from token_limit_core.scope import check_tenant
from token_limit_core.wording import (
    FREQUENCY_LABELS,
    MODE_LABELS,
    PERMISSION_LABELS,
    editable_usd,
    exact_usd,
    moment,
    utc,
)

from . import service
from .models import ApiKey, Limit

if TYPE_CHECKING:
    _LimitModelForm = forms.ModelForm[Limit]
    _KeyModelForm = forms.ModelForm[ApiKey]
else:
    _LimitModelForm = _KeyModelForm = forms.ModelForm


def check_amount(value: Decimal) -> None:
    """Reject an amount that is invalid for a limit."""
    try:
        parse_amount(str(value), "Amount")
    except ConfigurationError as error:
        raise ValidationError(str(error)) from None


class UtcDateTimeField(forms.DateTimeField):
    """A date and time in UTC, independent of TIME_ZONE and USE_TZ."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")

    def prepare_value(self, value: Any) -> Any:
        """Show a time in UTC."""
        with timezone.override(UTC):
            return super().prepare_value(value)

    def to_python(self, value: Any) -> datetime | None:
        """Parse a time without a zone as UTC."""
        with timezone.override(UTC):
            moment = super().to_python(value)
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class LimitForm(_LimitModelForm):
    """Sets or changes a limit; tenant and frequency are its identity, so they are editable only in a new one."""

    tenant_id = forms.CharField(
        label="Tenant",
        max_length=255,
        strip=False,  # spaces are part of an id
        help_text="Exactly as your application names the tenant, capitals included.",
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}),
    )
    frequency = forms.ChoiceField(label="Window", choices=FREQUENCY_LABELS, help_text="Calendar windows in UTC.")
    limit_usd = forms.DecimalField(
        label="Amount in US dollars",
        decimal_places=9,
        validators=[check_amount],
        help_text="What may be spent in each window, such as 25 or 9.99. 0 refuses every call.",
        widget=forms.NumberInput(attrs={"step": "any", "min": 0}),
    )
    mode = forms.ChoiceField(label="Mode", choices=MODE_LABELS)
    effective_date = UtcDateTimeField(
        label="Effective date (UTC)",
        required=False,
        help_text="Empty: from the next call on. In the future: what applies now goes on until then.",
    )

    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        """Amount and dates have other types in the table; the store writes them."""

        model = Limit
        fields = ("tenant_id", "frequency", "mode")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = service.now()
        self.before: core.Limit | None = None
        self.expected: list[core.Limit] = []
        """The rows of this limit during validation; the store saves only if they are unchanged."""
        if self.instance.pk is not None:
            self.before = service.limit_of(self.instance)
            self.initial["shown"] = _state(self.before)
            self.initial["limit_usd"] = editable_usd(self.before.amount)
            if self.waiting:
                self.initial["effective_date"] = moment(self.before.effective_from)

    @property
    def waiting(self) -> bool:
        """Whether the limit being changed has not begun yet."""
        return self.before is not None and self.before.effective_from > self.now

    def clean_tenant_id(self) -> str:
        """Reject an invalid tenant id."""
        try:
            return check_tenant(self.cleaned_data["tenant_id"])
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def clean_effective_date(self) -> datetime | None:
        """Reject a date in the past, which would apply to spend that is already counted."""
        moment: datetime | None = self.cleaned_data["effective_date"]
        if moment is not None and moment.timestamp() <= self.now:
            raise ValidationError("This is in the past. Enter a time in the future, or leave it empty to begin now.")
        if moment is None and self.waiting:
            raise ValidationError(
                "This limit has not begun yet: enter its date. To change the current limit, open that one."
            )
        return moment

    def clean(self) -> dict[str, Any]:
        """Reject a second limit of the same identity, and a change of a limit that has changed since it was shown."""
        data = super().clean() or self.cleaned_data
        if self.before is not None and data.get("shown") != _state(self.before):
            self.data = {name: self.data[name] for name in self.data} | {"shown": _state(self.before)}
            now = f"{exact_usd(self.before.amount)} ({self.before.mode})"
            message = f"Another user has changed this limit in the meantime: it is {now} now. Save again to replace it."
            raise ValidationError(message)
        if self.before is not None:
            others = [row for row in _rows(self.before) if row.id != self.before.id]
            self.expected = [self.before, *others]
        elif "tenant_id" in data and "frequency" in data:
            self.expected = _rows(core.Limit(data["tenant_id"], 0, data["frequency"]))
            if not all(row.ended(self.now) for row in self.expected):
                every = FREQUENCY_LABELS[data["frequency"]]
                self.add_error("tenant_id", f"This tenant already has a limit {every}. Change that one.")
        return data

    def limit(self) -> core.Limit:
        """Make the limit to save."""
        data, begins = self.cleaned_data, self.cleaned_data["effective_date"]
        return replace(
            self.before or core.Limit(self.instance.tenant_id, 0, self.instance.frequency),
            amount=to_nano(data["limit_usd"]),
            mode=data["mode"],
            effective_from=self.now if begins is None else begins.timestamp(),
        )

    def summary(self) -> str:
        """Return the text for the history: old → new."""
        data, before = self.cleaned_data, self.before
        nano, mode, begins = to_nano(data["limit_usd"]), data["mode"], data["effective_date"]
        since = "" if begins is None else f", from {utc(begins.timestamp())}"
        if before is None:
            return f"Set to {exact_usd(nano)} {FREQUENCY_LABELS[data['frequency']]} ({mode}){since}."
        changes = []
        if before.amount != nano:
            changes.append(f"{exact_usd(before.amount)} → {exact_usd(nano)}")
        if before.mode != mode:
            changes.append(f"{before.mode} → {mode}")
        if self.waiting and before.effective_from != begins.timestamp():
            changes.append(f"begins {utc(before.effective_from)} → {utc(begins.timestamp())}")
            since = ""
        return f"{', '.join(changes) or 'Saved as it was'}{since}."


def _rows(limit: core.Limit) -> list[core.Limit]:
    """Read all rows of one limit: in force, future and ended."""
    same = {"tenant_id": limit.tenant_id, "plan": limit.plan, "frequency": limit.frequency, "filter": limit.filter}
    return [service.limit_of(row) for row in Limit.objects.filter(**same)]


def _state(limit: core.Limit) -> str:
    """Return a text of all values of a limit that the form shows, to detect a concurrent change."""
    return f"{limit.amount}/{limit.mode}/{limit.effective_from!r}/{limit.effective_until!r}"


class ApiKeyForm(_KeyModelForm):
    """Creates an API key; only its hash is stored."""

    made: NewKey

    tenant_names = forms.CharField(
        label="Tenants",
        strip=False,
        help_text="One per line: ids, prefixes such as eu-*, or * for all.",
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField", "spellcheck": "false"}),
    )
    chosen = forms.MultipleChoiceField(
        label="May",
        choices=[(name, PERMISSION_LABELS[name]) for name in PERMISSIONS],
        initial=DEFAULT_PERMISSIONS,
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        """Tenants and permissions have other types in the table; the store writes them."""

        model = ApiKey
        fields = ("account", "name")

    def clean(self) -> dict[str, Any]:
        """Create the key, so that its errors appear in the form."""
        data = super().clean() or self.cleaned_data
        if not self.errors:
            tenants = data["tenant_names"].splitlines()
            try:
                self.made = make_key(
                    data["account"], tenants, name=data["name"], permissions=data["chosen"], now=service.now()
                )
            except ConfigurationError as error:
                raise ValidationError(str(error)) from None
        return data
