"""Parse the query parameters of an address into store queries. Invalid values give an error or are ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from ..stores.queries import SORTS, STANDINGS, Cursor, EventQuery, Sort, TenantQuery
from ..windows import DAY

PAGE = 50
LAST_PAGE = 10**6
MOST_TEXT = 255
PERIODS = {"30": "30 days", "90": "90 days", "365": "12 months"}
MARKS = {
    "": "All",
    "failed": "Failed",
    "unpriced": "No price",
    "assumed": "Assumed price",
    "estimated": "Estimated",
    "unverified": "Not checked",
}
KINDS = {"expiry": "Expired hold", "correction": "Correction", "adjustment": "Adjustment", "reprice": "Priced again"}
"""Kinds of entries that are no calls, and what the filter calls them."""
FIELDS = ("tenant", "provider", "model", "call", "mark", "from", "to")
FILTERS = (*FIELDS, "unattributed")
"""The filter parameters of the event log, kept in the links to its next page and its files."""

EVENT_DAYS = 7
CALL_DAYS = 31
"""Days that the event log covers by default, so that every filter is fast on a large table; for one call, more."""


class Period(NamedTuple):
    """Whole days in UTC, as unix seconds: `start <= t < end`."""

    key: str
    start: int
    end: int

    @property
    def first(self) -> str:
        """The first day, as text for an address."""
        return datetime.fromtimestamp(self.start, UTC).date().isoformat()


class Dates(NamedTuple):
    """The form fields of a list as typed, their errors, and the days asked for: `start <= t < end` (unix seconds)."""

    fields: dict[str, str]
    errors: dict[str, str]
    start: float
    end: float | None


class Asked(NamedTuple):
    """A query of the event log, the form fields as typed, and their errors."""

    query: EventQuery
    fields: dict[str, str]
    errors: dict[str, str]


def tenant_query(params: Mapping[str, str]) -> TenantQuery:
    """Parse the page of tenants to show."""
    sort: Sort = next((name for name in SORTS if name == params.get("sort")), "id")
    search = params.get("q", "").strip()[:MOST_TEXT]
    standing = next((name for name in STANDINGS if name == params.get("show")), None)
    plan = params.get("plan") or None
    return TenantQuery(search, sort, (page_number(params) - 1) * PAGE, PAGE, standing=standing, plan=plan)


def page_number(params: Mapping[str, str]) -> int:
    """Parse the number of a page; the first page for anything invalid."""
    text = params.get("page", "")
    return min(max(1, int(text)), LAST_PAGE) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def count_of(text: str | None) -> int | None:
    """Parse a number of tenants that were changed; None for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 4 else None


def period(params: Mapping[str, str], now: float) -> Period:
    """Parse the number of days that a tenant's page covers. Today is the last day."""
    key = params.get("days", "")
    key = key if key in PERIODS else "30"
    end = (int(now // DAY) + 1) * DAY
    return Period(key, end - int(key) * DAY, end)


def cursor(text: str) -> Cursor | None:
    """Parse a cursor that `place` wrote; None for anything else."""
    moment, _, number = text.partition("~")
    try:
        found = Cursor(float(moment), int(number))
    except ValueError:
        return None
    return found if math.isfinite(found.time) and abs(found.id) < 2**63 else None


def place(found: Cursor) -> str:
    """Return a cursor as text for an address."""
    return f"{found.time!r}~{found.id}"


def event_query(params: Mapping[str, str], now: float) -> Asked:
    """Parse the filters of the event log: days in UTC, the last day included. The default is the past week."""
    asked = dates({name: params.get(name, "") for name in FIELDS}, now, CALL_DAYS if params.get("call") else EVENT_DAYS)
    fields = asked.fields
    query = EventQuery(
        tenant_id="" if params.get("unattributed") else fields["tenant"] or None,
        provider=fields["provider"] or None,
        model=fields["model"] or None,
        failed=fields["mark"] == "failed",
        unpriced=fields["mark"] == "unpriced",
        estimated=fields["mark"] == "estimated",
        start=asked.start,
        end=asked.end,
        after=cursor(params.get("after", "")),
        size=PAGE,
        call=fields["call"] or None,
        assumed=fields["mark"] == "assumed",
        unverified=fields["mark"] == "unverified",
        kind=fields["mark"] if fields["mark"] in KINDS else None,
    )
    return Asked(query, fields, asked.errors)


def dates(typed: Mapping[str, str], now: float, days: int = EVENT_DAYS) -> Dates:
    """Parse the days of a list in UTC, the last one included; by default the past `days`."""
    fields = {name: value[:MOST_TEXT] for name, value in typed.items()}
    fields |= {name: value.strip() for name, value in fields.items() if name != "tenant"}  # spaces may be part of an id
    errors: dict[str, str] = {}
    first, last = (_day(fields[name], name, errors) for name in ("from", "to"))
    if first is not None and last is not None and first > last:
        errors["to"] = "This is before the first day."
    if first is None:
        first = (last or datetime.fromtimestamp(now, UTC).date()) - timedelta(days=days - 1)
        fields["from"] = fields["from"] if "from" in errors else first.isoformat()
    return Dates(fields, errors, _midnight(first), None if last is None else _midnight(last) + DAY)


def _day(text: str, name: str, errors: dict[str, str]) -> date | None:
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        errors[name] = f"“{text}” is not a date such as 2027-01-31."
        return None
    if not 1970 <= found.year <= 9000:
        errors[name] = "Give a year from 1970 on."
        return None
    return found


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
