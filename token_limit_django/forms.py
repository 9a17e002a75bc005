"""The admin's forms. They show US dollars and UTC; the store has nano-dollars and unix seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from token_limit_core import limits as core
from token_limit_core.errors import ConfigurationError
from token_limit_core.ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS, NewKey, make_key
from token_limit_core.management import edits
from token_limit_core.wording import (
    FREQUENCY_LABELS,
    MODE_LABELS,
    PERMISSION_LABELS,
    clock_time,
    exact,
    limit_line,
)

from . import service
from .meter import get_store
from .models import ApiKey, Limit

if TYPE_CHECKING:
    _LimitModelForm = forms.ModelForm[Limit]
    _KeyModelForm = forms.ModelForm[ApiKey]
else:
    _LimitModelForm = _KeyModelForm = forms.ModelForm


class UtcDateTimeField(forms.DateTimeField):
    """A date and time in UTC, independent of TIME_ZONE and USE_TZ."""

    widget: forms.DateTimeInput = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")

    def prepare_value(self, value: Any) -> Any:
        """Show a time in UTC."""
        with timezone.override(UTC):
            return super().prepare_value(value)

    def to_python(self, value: Any) -> datetime | None:
        """Parse a time without a zone as UTC."""
        with timezone.override(UTC):
            moment = super().to_python(value)
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


KEYWORDS = {"tenant_id": "tenant_id", "frequency": "frequency", "limit_usd": "amount", "mode": "mode",
            "effective_date": "effective_date"}  # fmt: skip
"""The keyword of `set_limit` that each field of the form is for."""


class LimitForm(_LimitModelForm):
    """Sets or changes a limit; tenant and frequency are its identity, so they are editable only in a new one."""

    tenant_id: forms.CharField = forms.CharField(
        label="Tenant",
        max_length=255,
        strip=False,  # spaces are part of an id
        help_text="Exactly as your application names the tenant, capitals included.",
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}),
    )
    frequency: forms.ChoiceField = forms.ChoiceField(
        label="Window", choices=FREQUENCY_LABELS, help_text="Calendar windows in UTC."
    )
    limit_usd: forms.DecimalField = forms.DecimalField(
        label="Amount in US dollars",
        decimal_places=9,
        help_text="What may be spent in each window, such as 25 or 9.99. 0 refuses every call.",
        widget=forms.NumberInput(attrs={"step": "any", "min": 0}),
    )
    mode: forms.ChoiceField = forms.ChoiceField(label="Mode", choices=MODE_LABELS)
    effective_date: UtcDateTimeField = UtcDateTimeField(
        label="Effective date (UTC)",
        required=False,
        help_text="Empty: from the next call on. In the future: what applies now goes on until then.",
    )

    shown: forms.CharField = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        """Amount and dates have other types in the table; the store writes them."""

        model = Limit
        fields: tuple[str, ...] = ("tenant_id", "frequency", "mode")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now: float = service.now()
        self.before: core.Limit | None = None
        self.draft: edits.Draft = edits.Draft(None, {})
        if self.instance.pk is not None:
            self.before = service.limit_of(self.instance)
            known = edits.keywords_of(self.before, self.now)
            self.initial.update({name: known[keyword] for name, keyword in KEYWORDS.items()})
            self.initial["shown"] = edits.version_of(edits.rows_of(get_store(), self.before))

    @property
    def waiting(self) -> bool:
        """Whether the limit being changed has not begun yet."""
        return self.before is not None and self.before.effective_from > self.now

    def clean(self) -> dict[str, Any]:
        """Reject what cannot be saved, and a change of a limit that has changed since it was shown."""
        data = super().clean() or self.cleaned_data
        given = {keyword: data[name] for name, keyword in KEYWORDS.items() if name in data}
        if "amount" in given:
            given["amount"] = str(given["amount"])
        self.draft = edits.draft(get_store(), given, self.now, self.before)
        names = {keyword: name for name, keyword in KEYWORDS.items()}
        for keyword, message in self.draft.errors.items():
            if names.get(keyword) not in self.errors:
                self.add_error(names.get(keyword), message)
        if self.before is not None and data.get("shown") != self.draft.version:
            self.data: Any = {name: self.data[name] for name in self.data} | {"shown": self.draft.version}
            raise ValidationError(edits.changed(self.draft.rows, self.now))
        return data

    def summary(self) -> str:
        """Return the text for the history: old → new."""
        before, after = self.before, self.draft.limit
        assert after is not None  # the form is valid
        since = f", from {clock_time(after.effective_from)}" if after.effective_from > self.now else ""
        if before is None:
            line = limit_line(after.amount, after.unit, after.frequency, after.filter)
            return f"Set to {line} ({after.mode}){since}."
        pairs = [(exact(before.amount, before.unit), exact(after.amount, after.unit)), (before.mode, after.mode)]
        if self.waiting and before.effective_from != after.effective_from:
            pairs.append((f"begins {clock_time(before.effective_from)}", clock_time(after.effective_from)))
        changes = ", ".join(f"{old} → {new}" for old, new in pairs if old != new)
        return f"{changes or 'Saved as it was'}{'' if self.waiting else since}."


class ApiKeyForm(_KeyModelForm):
    """Creates an API key; only its hash is stored."""

    made: NewKey

    tenant_names: forms.CharField = forms.CharField(
        label="Tenants",
        strip=False,
        help_text="One per line: ids, prefixes such as eu-*, or * for all.",
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField", "spellcheck": "false"}),
    )
    chosen: forms.MultipleChoiceField = forms.MultipleChoiceField(
        label="May",
        choices=[(name, PERMISSION_LABELS[name]) for name in PERMISSIONS],
        initial=DEFAULT_PERMISSIONS,
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        """Tenants and permissions have other types in the table; the store writes them."""

        model = ApiKey
        fields: tuple[str, ...] = ("account", "name")

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
