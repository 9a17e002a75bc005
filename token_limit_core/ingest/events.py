"""Validate one event of a batch, and price it if it has no cost. No value is quoted in an error: it may be a prompt."""

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
from ..pricing import PriceBook, price_recorded
from ..runtime.faults import ConfigurationError
from ..runtime.text import storable
from ..scope import check_tenant
from ..stores.columns import plain
from ..stores.records import KEEP_SECONDS
from ..usage import parse_number

AHEAD_SECONDS = 300.0
"""How far the clock of a client may be ahead, in seconds."""

MOST_TAGS = 64
LONGEST_TAGS = 16 * 1024

LONGEST_TEXT = 255


class Rejected(Exception):
    """An invalid event; the message names the field and the reason."""


class Priced(NamedTuple):
    """A valid event, with its cost in nano-dollars; None is unpriced."""

    event: LLMEvent
    cost_nano: int | None


def read_event(row: Any, now: float, prices: PriceBook) -> Priced:
    """Validate one event, and price it unless it has a cost; unknown fields are ignored. Raises `Rejected`."""
    if not isinstance(row, dict):
        raise Rejected("event: expected an object")
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
    return Priced(event, price_recorded(event, prices))


def _read(read: Callable[[Any, str], Any], value: Any, name: str) -> Any:
    try:
        return read(value, name)
    except ConfigurationError as error:
        raise Rejected(str(error)) from None


def _id(value: Any) -> str:
    if not isinstance(value, str) or not is_event_id(value):
        raise Rejected(f"event_id: expected a string of 1 to {LONGEST_ID} printable characters, for example a UUID")
    return value


def _tenant(value: Any) -> str:
    if value is None or value == "":
        return ""  # a call without a tenant: the event is unattributed
    try:
        if not isinstance(value, str):
            raise ValueError
        return check_tenant(value)
    except ValueError:
        raise Rejected("tenant_id: expected a string of 1 to 255 characters") from None


def _time(value: Any, now: float) -> float:
    seconds: float = _read(parse_number, value, "timestamp")
    if seconds > now + AHEAD_SECONDS:
        raise Rejected("timestamp: more than 5 minutes in the future")
    if seconds < now - KEEP_SECONDS:
        raise Rejected("timestamp: more than 35 days old")
    return seconds


def _text(value: Any, name: str) -> str:
    """Read a text and cut it to its column. A text that may contain a prompt or a key is reduced to its safe part."""
    given, rule = parse_text(value, name), EVENT_FIELDS[name]
    kept = {"content": as_length, "error": safe_error}.get(rule.kind, str)(given)
    return storable(kept)[: rule.width or LONGEST_TEXT]


def _flag(value: Any, name: str) -> bool:
    return value is True


def _tags(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MOST_TAGS:
        raise Rejected(f"{name}: expected an object of at most {MOST_TAGS} members")
    try:
        tags: dict[str, Any] = plain(value)
    except RecursionError:
        raise Rejected(f"{name}: nested too deeply") from None
    if len(json.dumps(tags)) > LONGEST_TAGS:
        raise Rejected(f"{name}: expected at most {LONGEST_TAGS} characters of JSON")
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
"""The parser of each optional field."""
