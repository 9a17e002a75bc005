"""One event of a batch: read with suspicion, then priced where it has no cost of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from ..events import FIELDS, LLMEvent, as_length, safe_error
from ..limits import MAX_LIMIT_USD, to_nano, to_usd
from ..pricing import price_of
from ..scope import check_tenant
from ..stores.records import KEEP_SECONDS
from ..stores.rows import WIDTHS, plain, text
from ..usage import BASE_COUNTS, Usage

AHEAD_SECONDS = 300.0
"""How far a sender's clock may be ahead."""

LONGEST_ID = 64
LARGEST_COUNT = 10**15
MOST_TAGS = 64

COUNTS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cached_audio_tokens",
    "input_video_tokens",
    "output_video_tokens",
    "character_count",
    "input_text_tokens",
    "cached_input_text_tokens",
    "input_image_tokens",
    "cached_input_image_tokens",
    "output_image_tokens",
    "image_count",
    "cache_creation_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "cache_miss_tokens",
    "reasoning_tokens",
    "web_searches",
    "file_searches",
)
NUMBERS = ("duration_ms", "duration_seconds")
TEXTS = (*WIDTHS, "upstream_provider", "fim_prefix", "fim_suffix")
LONGEST_TEXT = 255
REDUCED = {"fim_prefix": as_length, "fim_suffix": as_length, "error": safe_error}
"""Texts that may be prompts, or quote one or a key, whatever the sender was told to keep."""

CACHE_OUTSIDE_INPUT = frozenset({"anthropic", "aws"})
"""Providers whose input leaves cache reads and writes out (SPEC 1.3)."""


class Rejected(Exception):
    """An event that is not taken; the text says why, and names the field."""


class Priced(NamedTuple):
    """An event that is taken, with its cost in nano-dollars; None is unpriced."""

    event: LLMEvent
    cost_nano: int | None


def read_event(row: Any, now: float) -> Priced:
    """Read one event of a batch; fields that are not known are left out. Raises `Rejected`."""
    if not isinstance(row, Mapping):
        raise Rejected("event: is no object")
    given = {name: row[name] for name in FIELDS if row.get(name) is not None}
    values: dict[str, Any] = {"event_id": _id(given), "tenant_id": _tenant(given), "timestamp": _time(given, now)}
    values |= {name: _count(name, given[name]) for name in COUNTS if name in given}
    values |= {name: _number(name, given[name]) for name in NUMBERS if name in given}
    values |= {name: _text(name, given[name]) for name in TEXTS if name in given}
    values["stream"] = given.get("stream") is True
    values["tags"] = _tags(given.get("tags", {}))
    event = LLMEvent(**values)
    if "cost_usd" not in given:
        return Priced(event, _price(event))
    event.cost_usd = to_usd(cost := _cost(given["cost_usd"]))
    return Priced(event, cost)


def _id(given: Mapping[str, Any]) -> str:
    value = given.get("event_id")
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_ID or not value.isprintable():
        raise Rejected(f"event_id: give a text of 1 to {LONGEST_ID} printable characters, such as a UUID")
    return value


def _tenant(given: Mapping[str, Any]) -> str:
    value = given.get("tenant_id", "")
    if value == "":
        return ""  # nobody was signed in: the event shows as unattributed
    try:
        if not isinstance(value, str):
            raise ValueError
        return check_tenant(value)
    except ValueError:
        raise Rejected("tenant_id: give a text of 1 to 255 characters") from None


def _time(given: Mapping[str, Any], now: float) -> float:
    value = _number("timestamp", given.get("timestamp"))
    if value > now + AHEAD_SECONDS:
        raise Rejected("timestamp: lies more than 5 minutes ahead")
    if value < now - KEEP_SECONDS:
        raise Rejected("timestamp: is more than 35 days old")
    return value


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise Rejected(f"{name}: give a whole number from 0 to 10^15")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= LARGEST_COUNT:
        raise Rejected(f"{name}: give a number that is not negative")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Rejected(f"{name}: give a text")
    if name in REDUCED:
        value = REDUCED[name](value)
    return text(value)[: WIDTHS.get(name, LONGEST_TEXT)]


def _tags(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or len(value) > MOST_TAGS:
        raise Rejected(f"tags: give an object of at most {MOST_TAGS} members")
    try:
        tags: dict[str, Any] = plain(value)
    except RecursionError:
        raise Rejected("tags: lie too deep in each other") from None
    return tags


def _cost(value: Any) -> int:
    """Read US dollars: a decimal string, or a number as it prints."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise TypeError
        amount = Decimal(str(value))
    except (InvalidOperation, TypeError, ValueError):
        raise Rejected("cost_usd: give US dollars, such as '0.0123'") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_LIMIT_USD:
        raise Rejected("cost_usd: must be between 0 and 10^9")
    return to_nano(amount)


def _price(event: LLMEvent) -> int | None:
    """Price an event that came without a cost; nano-dollars, None when no price is known."""
    usage = Usage(cache_outside_input=event.provider in CACHE_OUTSIDE_INPUT)
    for name in _PRICED:
        count = getattr(event, name)
        if count or name not in BASE_COUNTS:  # an event has 0 for a base count that was not reported, too
            setattr(usage, name, count)
    if event.error is not None and not any(usage.billable().values()):
        event.cost_usd = Decimal(0)
        return 0
    price = price_of(event.provider, event.model, event.timestamp, event.service_tier)
    cost = None if price is None else price.of_usage(usage)
    if price is None or cost is None:
        return None
    event.cost_usd, event.price_version = to_usd(cost), price.version
    return cost


_PRICED = tuple(f.name for f in fields(Usage) if f.name in (*COUNTS, "duration_seconds"))
