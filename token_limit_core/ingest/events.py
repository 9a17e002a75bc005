"""One event of a batch: read with suspicion, then priced where it has no cost of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from ..events import (
    EVENT_FIELDS,
    LONGEST_ID,
    PARSERS,
    Kind,
    LLMEvent,
    as_length,
    is_event_id,
    made_of,
    parse_text,
    safe_error,
)
from ..pricing import PriceBook, price_event
from ..runtime.faults import ConfigurationError
from ..scope import check_tenant
from ..stores.columns import plain, text
from ..stores.records import KEEP_SECONDS
from ..usage import BASE_COUNTS, CACHE_OUTSIDE_INPUT, USAGE_FIELDS, Usage, parse_number

AHEAD_SECONDS = 300.0
"""How far a sender's clock may be ahead."""

MOST_TAGS = 64
LONGEST_TAGS = 16 * 1024

LONGEST_TEXT = 255


class Rejected(Exception):
    """An event that is not taken; the text says why, and names the field."""


class Priced(NamedTuple):
    """An event that is taken, with its cost in nano-dollars; None is unpriced."""

    event: LLMEvent
    cost_nano: int | None


def read_event(row: Any, now: float, prices: PriceBook) -> Priced:
    """Read one event of a batch, and price it unless it has a cost; unknown fields are left out. Raises `Rejected`."""
    if not isinstance(row, dict):
        raise Rejected("event: is no object")
    values: dict[str, Any] = {
        "event_id": _id(row.get("event_id")),
        "tenant_id": _tenant(row.get("tenant_id")),
        "timestamp": _time(row.get("timestamp"), now),
        "tags": {},
    }
    for name, value in row.items():
        if value is not None and (read := _READERS.get(name)) is not None:
            values[name] = _read(read, value, name)
    event = made_of(LLMEvent, values)
    return Priced(event, _price(event, prices))


def _read(read: Callable[[Any, str], Any], value: Any, name: str) -> Any:
    try:
        return read(value, name)
    except ConfigurationError as error:
        raise Rejected(str(error)) from None


def _id(value: Any) -> str:
    if not isinstance(value, str) or not is_event_id(value):
        raise Rejected(f"event_id: give a text of 1 to {LONGEST_ID} printable characters, such as a UUID")
    return value


def _tenant(value: Any) -> str:
    if value is None or value == "":
        return ""  # nobody was signed in: the event shows as unattributed
    try:
        if not isinstance(value, str):
            raise ValueError
        return check_tenant(value)
    except ValueError:
        raise Rejected("tenant_id: give a text of 1 to 255 characters") from None


def _time(value: Any, now: float) -> float:
    seconds: float = _read(parse_number, value, "timestamp")
    if seconds > now + AHEAD_SECONDS:
        raise Rejected("timestamp: lies more than 5 minutes ahead")
    if seconds < now - KEEP_SECONDS:
        raise Rejected("timestamp: is more than 35 days old")
    return seconds


def _text(value: Any, name: str) -> str:
    """Read a text, cut to its column; of one that may be a prompt, or quote one or a key, what is safe is kept."""
    given, rule = parse_text(value, name), EVENT_FIELDS[name]
    kept = {"content": as_length, "error": safe_error}.get(rule.kind, str)(given)
    return text(kept)[: rule.width or LONGEST_TEXT]


def _flag(value: Any, name: str) -> bool:
    return value is True


def _tags(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MOST_TAGS:
        raise Rejected(f"{name}: give an object of at most {MOST_TAGS} members")
    try:
        tags: dict[str, Any] = plain(value)
    except RecursionError:
        raise Rejected(f"{name}: lie too deep in each other") from None
    if len(json.dumps(tags)) > LONGEST_TAGS:
        raise Rejected(f"{name}: give no more than {LONGEST_TAGS} characters of JSON")
    return tags


_PARSERS: dict[Kind, Callable[[Any, str], Any]] = {
    **PARSERS,
    "text": _text,
    "name": _text,
    "content": _text,
    "error": _text,
    "flag": _flag,
    "tags": _tags,
}
_READERS = {name: _PARSERS[rule.kind] for name, rule in EVENT_FIELDS.items() if rule.kind in _PARSERS}
"""What reads a field, beside those that every event must have."""


def _price(event: LLMEvent, prices: PriceBook) -> int | None:
    """Set the cost of an event; return nano-dollars, None when no price is known."""
    counts = vars(event).items()  # a base count of 0 may be one that was not reported
    usage = made_of(
        Usage, {name: count for name, count in counts if name in USAGE_FIELDS and (count or name not in BASE_COUNTS)}
    )
    if event.provider in CACHE_OUTSIDE_INPUT:
        usage.cache_outside_input = True
    asked = event.tags.get("requested_model")
    return price_event(event, usage, prices, (event.model, asked if isinstance(asked, str) else None))
