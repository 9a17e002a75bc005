"""What a model is priced as, and why, for people."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from ..hosts import FREE, UNKNOWN
from ..money import MONEY, NANO
from .book import PriceBook
from .price_list import listed_name
from .rates import SCALE, Price

UNITS = {
    "input_tokens": "input",
    "cache_read_tokens": "cached input",
    "cache_write_tokens": "cache write",
    "cache_write_1h_tokens": "cache write for an hour",
    "output_tokens": "output",
    "input_audio_tokens": "audio input",
    "output_audio_tokens": "audio output",
    "input_image_tokens": "image input",
    "output_image_tokens": "image output",
    "web_searches": "web search",
    "storage_searches": "file search",
    "rerank_searches": "reranking search",
    "requests": "request",
    "containers": "container, by gigabyte",
    "audio_seconds": "second of sound",
    "input_characters": "character of speech",
    "images": "image",
    "input_document_pages": "page",
}
"""Words for the units of prices; others are shown by their names."""


class Explanation(NamedTuple):
    """The price of a model at a provider, None without one, and the reason in words."""

    provider: str
    model: str
    price: Price | None
    reason: str


def explain(book: PriceBook, provider: str, model: str, at: float) -> Explanation:
    """Say what a model is priced as at `at` (unix seconds)."""
    price = book.price_for(provider, model, at)
    if price is not None:
        return Explanation(provider, model, price, _reason(book, provider, model))
    assumption = book.assumption(provider, model, at)
    if assumption is None:
        policy = "a call is refused" if book.on_unpriced == "refuse" else "a call is recorded without a cost"
        return Explanation(provider, model, None, f"no price is known: {policy} (on_unpriced={book.on_unpriced!r})")
    return Explanation(provider, model, assumption.price, f"no price is known; it is assumed, by {assumption.basis}")


def _reason(book: PriceBook, provider: str, model: str) -> str:
    own = book.own(provider, model)
    if own == "free":
        return "your `prices` say that it is free"
    if isinstance(own, str):
        return f"your `prices` name {own}"
    if own is not None:
        return "your `prices` give its amounts"
    listed = listed_name(provider, model)
    if listed is None:
        return f"calls at {provider} cost nothing" if provider in FREE else "a fee that is known here"
    return "the price list has this model" if listed == model else f"the price list has it as {listed}"


def providers_of(book: PriceBook, model: str) -> list[str]:
    """List the providers that the price list has a model at, else the unknown one."""
    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot().providers
    return [one.id for one in providers if listed_name(one.id, model) is not None] or [UNKNOWN]


def amounts(price: Price) -> Iterator[tuple[str, Decimal]]:
    """Yield what each unit costs in US dollars: of tokens a million, of all else one."""
    for rate in price.rates:
        tokens = rate.unit.endswith("_tokens")
        label = UNITS.get(rate.unit, rate.unit) + (", a million tokens" if tokens else "")
        steps = [(0, rate.scaled), *reversed(rate.tiers)]
        for start, scaled in steps:
            usd = MONEY.divide(Decimal(scaled * (10**6 if tokens else 1)), Decimal(SCALE * NANO))
            yield (f"{label}, above {start:,}" if start else label), usd
