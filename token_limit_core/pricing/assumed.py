"""What a call whose price is not known is assumed to cost (`on_unpriced="assume"`).

The price of a model that is not listed is that of the same model name at another provider, else that of its provider's
dearest text model, else the fallback price. What is not counted in tokens costs a number of the fallback's tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from ..money import Money, parse_amount, show_usd, to_usd
from .price_list import listed_price
from .rates import SCALE, Price, Rate

ASSUMED = "assumed"
"""The `price_source` of a cost that stands on an assumed price."""

FALLBACK = "fallback_price"

TOKENS_FOR = {
    "image_count": 1_056,
    "character_count": 2,
    "duration_seconds": 10,
    "document_pages": 500,
    "annotated_pages": 500,
    "web_searches": 400,
    "file_searches": 400,
    "rerank_searches": 400,
    "containers": 1_200,
}
"""Output tokens of the fallback price that one of each counts as. At the default price of $25 a million an image is
$0.026, a minute of sound $0.015, a search $0.01: each above what most providers charge (their price pages, 2026)."""

SAMPLE: Mapping[str, int] = {"input_tokens": 1000, "output_tokens": 1000}
"""What models are compared by."""


class Model(NamedTuple):
    """A model of the price list whose price is assumed, and why."""

    provider: str
    name: str
    reason: str


class Assumption(NamedTuple):
    """An assumed price and what it stands on, in words."""

    price: Price
    basis: str

    def shown(self) -> str:
        """Write the price for people."""
        received, generated = (show_usd(to_usd(self.price.of_tokens(*one))) for one in ((10**6, 0), (0, 10**6)))
        return f"{received} / {generated} a million tokens in / out"


def fallback(usd: tuple[Money, Money]) -> Assumption:
    """Return the fallback price: US dollars for a million tokens of input and of output."""
    units = zip(("input_tokens", "output_tokens"), usd, strict=True)
    rates = tuple(Rate(unit, parse_amount(amount, FALLBACK) * SCALE // 10**6, (), ()) for unit, amount in units)
    return Assumption(Price(rates, FALLBACK, ASSUMED), FALLBACK)


def listed_assumption(provider: str, model: str, at: float, tier: str | None) -> Assumption | None:
    """Return the assumed price of a model by the list; None where it has nothing alike."""
    found = alike(provider, model)
    price = None if found is None else listed_price(found.provider, found.name, at, tier)
    if found is None or price is None:
        return None
    return Assumption(Price(price.rates, price.version, ASSUMED), f"{found.provider} {found.name} ({found.reason})")


@lru_cache(maxsize=1024)  # an application may let people type model names
def alike(provider: str, model: str) -> Model | None:
    """Return the listed model whose price is assumed for a model that is not listed; None without any."""
    if not model:
        return None
    return max(_of_same_name(model), key=_cost, default=None) or _dearest(provider)


def _of_same_name(model: str) -> Iterator[Model]:
    from genai_prices.data_snapshot import get_snapshot

    whole = model.lower()
    for name in dict.fromkeys((whole, whole.rpartition("/")[2])):
        for provider in get_snapshot().providers:
            found = provider.find_model(name)
            if found is not None:
                yield Model(provider.id, found.id, "the same name")


@lru_cache(maxsize=64)
def _dearest(provider_id: str) -> Model | None:
    """Return the text model of a provider that costs most."""
    from genai_prices.data_snapshot import get_snapshot

    models = [
        Model(provider_id, model.id, f"the dearest text model of {provider_id}")
        for provider in get_snapshot().providers
        if provider.id == provider_id
        for model in provider.models
    ]
    return max((model for model in models if _is_for_text(model)), key=_cost, default=None)


def _is_for_text(model: Model) -> bool:
    price = listed_price(model.provider, model.name, time.time())
    return price is not None and {rate.unit for rate in price.rates} >= SAMPLE.keys()


def _cost(model: Model) -> int:
    price = listed_price(model.provider, model.name, time.time())
    return 0 if price is None else price.cost(SAMPLE)
