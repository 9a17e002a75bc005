"""From a ledger entry to the columns every SQL store writes; whatever an event carries, its row can be stored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..events import EVENT_FIELDS, FIELDS, LLMEvent
from ..money import to_usd
from ..runtime.text import storable
from .entries import NO_SPEND, Entry, Spend, add_to_spend, day_of
from .records import Refusal

WIDTHS = {name: rule.width for name, rule in EVENT_FIELDS.items() if rule.width is not None}
"""Text columns of the ledger that are cut to fit, in characters. Identities are never cut."""

PLAN_WIDTH = 64
"""Characters of the name of a plan."""

COUNTS = tuple(name for name, rule in EVENT_FIELDS.items() if rule.column and rule.kind in ("count", "number", "flag"))
"""Columns of numbers."""

DETAILS = frozenset(name for name, rule in EVENT_FIELDS.items() if not rule.column)
"""Event fields without a column of their own; they share the JSON column `details`."""

_BLANK = {name: getattr(LLMEvent, name) for name in (*COUNTS, *WIDTHS)}
_COUNTS = frozenset(COUNTS)
_DEEPEST = 6


def refusal_row(refusal: Refusal) -> dict[str, Any]:
    """Return the columns of counted refusals; texts are cut to fit."""
    row = refusal._asdict()
    for name in ("model", "endpoint", "user", "feature"):
        if row[name] is not None:
            row[name] = storable(row[name])[: WIDTHS[name]]
    return row


def ledger_row(entry: Entry) -> dict[str, Any]:
    """Return the ledger columns of an entry; `details` is JSON text."""
    event = entry.event
    details: dict[str, Any] = {}
    row: dict[str, Any] = {
        **_BLANK,
        "tenant_id": event.tenant_id,
        "event_id": event.event_id,
        "kind": entry.kind,
        "corrects": entry.corrects,
        "timestamp": event.timestamp,
        "cost_nano": entry.cost_nano,
        "charge_nano": entry.charge_nano,
        "requested_model": None,
    }
    for name, value in vars(event).items():
        if name in _COUNTS:
            row[name] = value
        elif name in WIDTHS:
            row[name] = None if value is None else storable(value)[: WIDTHS[name]]
        elif value is not None and name in DETAILS and (name != "tags" or value):
            details[name] = plain(value)
    if event.tags and "requested_model" in event.tags:
        row["requested_model"] = storable(event.tags["requested_model"])[: WIDTHS["model"]]
    row["details"] = json.dumps(details)
    return row


def rollup_row(entry: Entry) -> dict[str, Any]:
    """Return what an entry adds to the total of its (tenant, day, provider, model)."""
    return _rollup_row(_rollup_key(entry), add_to_spend(NO_SPEND, entry))


def rollup_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return what many entries add, a row for each total, in one order for all who lock those rows."""
    totals: dict[tuple[str, int, str, str], Spend] = {}
    for entry in entries:
        key = _rollup_key(entry)
        totals[key] = add_to_spend(totals.get(key, NO_SPEND), entry)
    return [_rollup_row(key, total) for key, total in sorted(totals.items())]


def _rollup_key(entry: Entry) -> tuple[str, int, str, str]:
    event = entry.event
    provider, model = storable(event.provider)[: WIDTHS["provider"]], storable(event.model)[: WIDTHS["model"]]
    return event.tenant_id, day_of(event.timestamp), provider, model


def _rollup_row(key: tuple[str, int, str, str], total: Spend) -> dict[str, Any]:
    tenant_id, day, provider, model = key
    return {"tenant_id": tenant_id, "day": day, "provider": provider, "model": model, **total._asdict()}


def user_rollup_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return what entries with a user or a feature add to the totals by those, in one order."""
    totals: dict[tuple[str, str, int, str], Spend] = {}
    for entry in entries:
        event = entry.event
        if event.user or event.feature:
            user, feature = (
                storable(event.user or "")[: WIDTHS["user"]],
                storable(event.feature or "")[: WIDTHS["feature"]],
            )
            key = event.tenant_id, user, day_of(event.timestamp), feature
            totals[key] = add_to_spend(totals.get(key, NO_SPEND), entry)
    return [
        {"tenant_id": tenant_id, "user": user, "day": day, "feature": feature, **total._asdict()}
        for (tenant_id, user, day, feature), total in sorted(totals.items())
    ]


def batched(values: Sequence[str]) -> Iterator[list[str]]:
    """Give values in lists that every engine takes as parameters of one statement."""
    for start in range(0, len(values), 500):
        yield list(values[start : start + 500])


def plain(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a JSON value; tags are the application's and may hold anything."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth and isinstance(value, Mapping):
        return {storable(key): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth - 1) for item in value]
    return storable(value)


def read_entry(row: Mapping[str, Any]) -> Entry:
    """Return the ledger entry of a row; what an older or newer version kept that we do not know is left out."""
    columns = {name: value for name, value in row.items() if name in FIELDS and value is not None}
    details = {name: value for name, value in row["details"].items() if name in FIELDS}
    cost, charge = row["cost_nano"], row["charge_nano"]
    amounts = {"cost_usd": cost, "charge_usd": cost if charge is None else charge}
    amounts = {name: None if nano is None else to_usd(nano) for name, nano in amounts.items()}
    return Entry(LLMEvent(**{**details, **columns, **amounts}), cost, row["kind"], row["corrects"], charge)
