"""One event of a batch: read with suspicion, then priced where it has no cost of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from ..events import LONGEST_ID, LLMEvent, as_length, is_event_id, made_of, safe_error
from ..money import MAX_COST_USD, to_nano, to_usd
from ..pricing import PriceBook, price_event
from ..scope import check_tenant
from ..stores.columns import WIDTHS, plain, text
from ..stores.records import KEEP_SECONDS
from ..usage import BASE_COUNTS, CACHE_OUTSIDE_INPUT, LARGEST_NUMBER, USAGE_FIELDS, Usage

AHEAD_SECONDS = 300.0
"""How far a sender's clock may be ahead."""

MOST_TAGS = 64
LONGEST_TAGS = 16 * 1024

COUNTS = (USAGE_FIELDS - {"duration_seconds"}) | {"cache_miss_tokens"}
NUMBERS = ("duration_ms", "duration_seconds")
TEXTS = (*WIDTHS, "price_source", "upstream_provider", "fim_prefix", "fim_suffix")
LONGEST_TEXT = 255
REDUCED = {"fim_prefix": as_length, "fim_suffix": as_length, "error": safe_error}
"""Texts that may be prompts, or quote one or a key, whatever the sender was told to keep."""


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
            values[name] = read(name, value)
    event = made_of(LLMEvent, values)
    if (given := row.get("cost_usd")) is not None:
        event.cost_usd = to_usd(_cost(given))
    return Priced(event, _price(event, prices))


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
    seconds = _number("timestamp", value)
    if seconds > now + AHEAD_SECONDS:
        raise Rejected("timestamp: lies more than 5 minutes ahead")
    if seconds < now - KEEP_SECONDS:
        raise Rejected("timestamp: is more than 35 days old")
    return seconds


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        raise Rejected(f"{name}: give a whole number from 0 to 10^12")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= LARGEST_NUMBER:
        raise Rejected(f"{name}: give a number that is not negative")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Rejected(f"{name}: give a text")
    if name in REDUCED:
        value = REDUCED[name](value)
    return text(value)[: WIDTHS.get(name, LONGEST_TEXT)]


def _flag(name: str, value: Any) -> bool:
    return value is True


def _tags(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MOST_TAGS:
        raise Rejected(f"{name}: give an object of at most {MOST_TAGS} members")
    try:
        tags: dict[str, Any] = plain(value)
    except RecursionError:
        raise Rejected(f"{name}: lie too deep in each other") from None
    if len(json.dumps(tags)) > LONGEST_TAGS:
        raise Rejected(f"{name}: give no more than {LONGEST_TAGS} characters of JSON")
    return tags


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(COUNTS, _count),
    **dict.fromkeys(NUMBERS, _number),
    **dict.fromkeys(TEXTS, _text),
    "stream": _flag,
    "tags": _tags,
}
"""What reads a field, beside those that every event must have, and its cost."""


def _cost(value: Any) -> int:
    """Read US dollars: a decimal string, or a number as it prints."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise TypeError
        amount = Decimal(str(value))
    except (InvalidOperation, TypeError, ValueError):
        raise Rejected("cost_usd: give US dollars, such as '0.0123'") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_COST_USD:
        raise Rejected("cost_usd: must be between 0 and 10^6")
    return to_nano(amount)


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
