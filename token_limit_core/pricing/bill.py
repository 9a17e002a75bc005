"""The cost of an event, wherever it came from: a metered call, the ingest endpoints, or tracking by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from ..events import LLMEvent
from ..hosts import UNKNOWN
from ..money import to_nano
from ..usage import Part, Usage

if TYPE_CHECKING:
    from .book import PriceBook
    from .rates import Price

logger = logging.getLogger("token_limit")

REPORTED = "reported"
"""The `price_source` of a cost that the provider or the application gave."""

BESIDE = {
    "web_searches": "web_searches",
    "file_searches": "storage_searches",
    "rerank_searches": "rerank_searches",
    "document_pages": "input_document_pages",
    "annotated_pages": "input_annotated_document_pages",
    "containers": "containers",
    "duration_seconds": "audio_seconds",
    "character_count": "input_characters",
    "image_count": "images",
}
"""What is billed beside the tokens, and its unit."""

INSTEAD = {
    "duration_seconds": ("audio_input_tokens", "audio_output_tokens"),
    "character_count": ("input_tokens", "output_tokens"),
    "image_count": ("output_tokens", "output_image_tokens"),
}
"""Counts that cost nothing of their own where the tokens of the same thing were counted."""


def price_event(
    event: LLMEvent, usage: Usage, book: PriceBook, names: Iterable[str | None], parts: Sequence[Part] = ()
) -> int | None:
    """Set the cost of an event, the version and the source of its price; return nano-dollars, None for no known price.

    A cost that the event has already was reported, and wins. `names` are the names of the model, the best one first.
    What was used and has no price is listed in the event's `tags["unpriced"]`.
    """
    row = vars(event)
    reported = row.pop("cost_usd", None)
    if reported is not None:
        event.cost_usd, event.price_source = reported, event.price_source or REPORTED
        return to_nano(reported)
    if event.error is not None and not any(usage.billable().values()):
        event.cost_usd = Decimal(0)  # nothing was used, whatever the model costs
        return 0
    price = first_price(event, book, names)
    cost = None if price is None else price.of_usage(usage)
    if not BESIDE.keys().isdisjoint(row):
        _mark_unpriced(event, usage, price)
    if price is None or cost is None:
        if event.error is None and any(usage.billable().values()):
            _warn_unpriced(event.provider, event.model)
        return None
    for part in parts:
        other = None if part.model is None else first_price(event, book, (part.model,))
        cost += (price if other is None else other).cost(part.usage.billable())
    row["cost_nano"], row["price_version"], row["price_source"] = cost, price.version, price.source
    return cost


def first_price(event: LLMEvent, book: PriceBook, names: Iterable[str | None]) -> Price | None:
    """Return the price of the first of the names that has one, for the provider, time and service tier of an event."""
    for name in names:
        if name is not None and (price := book.price_for(event.provider, name, event.timestamp, event.service_tier)):
            return price
    return None


def _mark_unpriced(event: LLMEvent, usage: Usage, price: Price | None) -> None:
    """List in the event's tags what was used beside the tokens and has no price."""
    if price is not None and price.free:
        return
    priced = set() if price is None else {rate.unit for rate in price.rates}
    for name, unit in BESIDE.items():
        used = getattr(usage, name) and not any(getattr(usage, other) for other in INSTEAD.get(name, ()))
        if used and unit not in priced:
            event.tags.setdefault("unpriced", []).append(name)
            _warn_part_unpriced(event.provider, event.model, name)


@lru_cache(maxsize=1024)
def _warn_unpriced(provider: str, model: str) -> None:
    consequence = "calls are recorded without a cost and count against no limit"
    if provider == UNKNOWN:
        logger.warning(
            "model %r is called at an unknown host: its %s; name the provider of that host in `hosts`",
            model,
            consequence,
        )
    else:
        logger.warning("no price is known for %s model %r: its %s", provider, model, consequence)


@lru_cache(maxsize=1024)
def _warn_part_unpriced(provider: str, model: str, part: str) -> None:
    logger.warning("%s of %s model %r have no price: they count against no limit", part, provider, model)
