"""The cost of an event, wherever it came from: a metered call, the ingest endpoints, or tracking by hand."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from ..events import LLMEvent, made_of
from ..hosts import UNKNOWN
from ..money import to_nano
from ..usage import BASE_COUNTS, CACHE_OUTSIDE_INPUT, USAGE_FIELDS, Part, Usage
from .assumed import ASSUMED, FALLBACK
from .rates import LIST

if TYPE_CHECKING:
    from .assumed import Assumption
    from .book import PriceBook
    from .rates import Price

logger: logging.Logger = logging.getLogger("token_limit")

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


class Sent(Protocol):
    """What was sent, to a host that is looked up only where it is needed."""

    @property
    def host(self) -> str:
        """The host, or an empty text."""


def price_event(
    event: LLMEvent,
    usage: Usage,
    book: PriceBook,
    names: Collection[str | None],
    parts: Sequence[Part] = (),
    sent: Sent | None = None,
) -> int | None:
    """Set the cost of an event, the version and the source of its price; return nano-dollars, None for no known price.

    A cost that the event has already was reported, and wins. `names` are the names of the model, the best one first.
    What was used beside the tokens and has no price is listed in the event's `tags["unpriced"]`. Where the book assumes
    a price, `tags["price_assumed"]` says by what. `sent` knows the host, for the log.
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
    cost, basis = None if price is None else price.of_usage(usage), None
    if cost is None and any(usage.billable().values()):
        assumption = _assumption(event, book, price)
        if assumption is not None:
            price, basis = assumption
            cost = price.of_usage(usage)
        host, shown = "" if sent is None else sent.host, "" if assumption is None else assumption.shown()
        _warn_unpriced(event.provider, event.model, host, basis, shown)
    if not BESIDE.keys().isdisjoint(row) and (left_out := _left_out(event, usage, price)):
        event.tags["unpriced"] = left_out
        beside = book.beside(usage, left_out)
        for name in left_out:
            _warn_part_unpriced(event.provider, event.model, name, beside is not None)
        if beside is not None:
            cost, basis = beside if cost is None else cost + beside, basis or FALLBACK
            price = book.fallback.price if price is None else price
    if price is None or cost is None:
        return None
    for part in parts:
        other = None if part.model is None else first_price(event, book, (part.model,))
        cost += (price if other is None else other).cost(part.usage.billable())
    row["cost_nano"], row["price_version"], row["price_source"] = cost, price.version, price.source
    if basis is not None:
        event.tags["price_assumed"], event.price_source = basis, ASSUMED
    return cost


def price_recorded(event: LLMEvent, book: PriceBook) -> int | None:
    """Do what `price_event` does for an event of which nothing else is known, such as one that was sent here."""
    counts = vars(event).items()  # a base count of 0 may mean that it was not reported
    usage = made_of(
        Usage, {name: count for name, count in counts if name in USAGE_FIELDS and (count or name not in BASE_COUNTS)}
    )
    if event.provider in CACHE_OUTSIDE_INPUT:
        usage.cache_outside_input = True
    requested = event.tags.get("requested_model")
    return price_event(event, usage, book, (event.model, requested if isinstance(requested, str) else None))


def _assumption(event: LLMEvent, book: PriceBook, price: Price | None) -> Assumption | None:
    """Return what is assumed for an event: like another model, or by the fallback if its own model has other prices."""
    found = book.assumption(event.provider, event.model, event.timestamp, event.service_tier)
    return found if price is None or found is None else book.fallback


def first_price(event: LLMEvent, book: PriceBook, names: Collection[str | None]) -> Price | None:
    """Return the price of the first of the names that has one, for the provider, time and service tier of an event.

    The model that answered comes first. That another one, which was asked for, is free in the list says nothing of it,
    unless both have OpenRouter's mark of a free one.
    """
    is_first = True
    for name in names:
        if name is None:
            continue
        price = book.price_for(event.provider, name, event.timestamp, event.service_tier)
        if price is not None and (is_first or not price.free or price.source != LIST or _are_free(names)):
            return price
        is_first = False
    return None


def _are_free(names: Collection[str | None]) -> bool:
    return all(name is None or name.endswith(":free") for name in names)


def _left_out(event: LLMEvent, usage: Usage, price: Price | None) -> list[str]:
    """List what was used beside the tokens and has no price."""
    if price is not None and price.free:
        return []
    priced = set() if price is None else {rate.unit for rate in price.rates}
    return [
        name
        for name, unit in BESIDE.items()
        if unit not in priced
        and getattr(usage, name)
        and not any(getattr(usage, other) for other in INSTEAD.get(name, ()))
    ]


@lru_cache(maxsize=1024)
def _warn_unpriced(provider: str, model: str, host: str, basis: str | None, shown: str) -> None:
    if basis is None:
        consequence = "its calls are recorded without a cost and count against no limit"
    else:
        consequence = f"its calls are billed at {shown}, by {basis}"
    logger.warning(
        "no price is known for %s model %r%s: %s; %s, or choose another policy in `on_unpriced`",
        provider,
        model,
        f" at {host}" if host else "",
        consequence,
        "name the provider of that host in `hosts`" if provider == UNKNOWN else "set its price in `prices`",
    )


@lru_cache(maxsize=1024)
def _warn_part_unpriced(provider: str, model: str, part: str, assumed: bool) -> None:
    consequence = "they are billed by `fallback_price`" if assumed else "they count against no limit"
    logger.warning("%s of %s model %r have no price: %s", part, provider, model, consequence)
