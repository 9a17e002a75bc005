"""The fields of forms: what they are called, what they hold, and those of a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ..limits import COST, ENFORCE, USD, Limit
from ..management.edits import keywords_of
from ..windows import PER_MONTH
from ..wording import FREQUENCY_LABELS, MODE_LABELS, UNIT_LABELS

MOST_TEXT = 300
"""Characters of a field that are read."""


class Field(NamedTuple):
    """A field of a form. With `options` it is a choice among their values, which have labels.

    The kind "names" is a choice whose labels are not translated.
    """

    label: str
    hint: str = ""
    value: str = ""
    options: Mapping[str, str] | None = None
    kind: Literal["text", "amount", "time", "names"] = "text"


COMMON = {
    "amount": Field(
        "Amount",
        "What may be spent in each window: US dollars unless you choose another unit. 0 refuses every call.",
        kind="amount",
    ),
    "frequency": Field("Window", value=PER_MONTH, options=FREQUENCY_LABELS),
    "mode": Field("Mode", value=ENFORCE, options=MODE_LABELS),
}
"""The fields of a limit that most limits need, by keyword of `set_limit`."""

FILTERS = {
    "user": Field("User", "One user of the tenant. * gives each user a limit of its own. Empty: all users together."),
    "model": Field("Model", "Such as gpt-5, or gpt-5* for all models that begin so."),
    "provider": Field("Provider", "Such as openai."),
    "feature": Field("Feature", "As your application names it."),
}
"""The fields that say which calls a limit is for."""

MORE = {
    "unit": Field("Unit", value=USD, options=UNIT_LABELS),
    **FILTERS,
    "timezone": Field("Time zone", "In which days begin, such as Europe/Berlin. Empty: UTC."),
    "anchor": Field(
        "Start of the window", "A day of the month such as 15, or a date such as 2027-02-15. Empty: as in the calendar."
    ),
    "basis": Field("Counts", options={"": "What the tenant is billed", COST: "What the provider charges"}),
    "name": Field("Name", "What people call this limit."),
    "effective_date": Field(
        "Effective date (UTC)",
        "Empty: from the next call on. In the future: what applies now goes on until then.",
        kind="time",
    ),
}
"""The fields of a limit that few limits need."""

LIMIT_FIELDS = {**COMMON, **MORE}


def texts_of(limit: Limit, now: float) -> dict[str, str]:
    """Return a limit as the texts of its fields."""
    known = keywords_of(limit, now)
    return {name: known[name] for name in LIMIT_FIELDS}


def filled(fields: Mapping[str, Field], texts: Mapping[str, str]) -> dict[str, Field]:
    """Return the fields with what was typed."""
    return {name: field._replace(value=texts.get(name, field.value)) for name, field in fields.items()}


def blank() -> dict[str, str]:
    """Return the texts of a new limit."""
    return {name: field.value for name, field in LIMIT_FIELDS.items()}


def is_used(fields: Mapping[str, Field], errors: Mapping[str, str]) -> bool:
    """Tell whether one of these fields of a limit has an error or another value than a new limit."""
    return any(name in errors or field.value != LIMIT_FIELDS[name].value for name, field in fields.items())
