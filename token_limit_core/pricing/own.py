"""Prices of the application's own: the setting `prices`.

    prices={
        "my-deployment": "gpt-4o",                  priced as another model of its provider
        "azure/gpt4-eu": "openai/gpt-4o",           only at azure, priced as a model of another provider
        "ft:gpt-4o-mini:acme": {"input": 0.3, "cached_input": 0.15, "output": 1.2},
        "in-house": "free",
    }

A key is a model's name, or a provider and a name, which goes first. Its amounts are US dollars for a million tokens,
and for one of what is not a token.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..money import Money, parse_amount
from ..runtime.faults import ConfigurationError, shown
from .price_list import listed_price
from .rates import SCALE, Price, Rate

logger: logging.Logger = logging.getLogger("token_limit")

OwnPrice = str | Mapping[str, Money]
"""The name of another model, "free", or US dollars by unit."""

SETTINGS = "settings"
"""The `price_source` and the version of a price of the application's own."""


class Unit(NamedTuple):
    """A unit of the list, how many of it an amount is for, and the units inside it that may have amounts too."""

    name: str
    per: int
    inside: tuple[str, ...] = ()


MILLION = 10**6
UNITS = {
    "cache_write_1h": Unit("cache_write_1h_tokens", MILLION),
    "cache_write": Unit("cache_write_tokens", MILLION, ("cache_write_1h_tokens",)),
    "cached_input": Unit("cache_read_tokens", MILLION),
    "audio_input": Unit("input_audio_tokens", MILLION),
    "image_input": Unit("input_image_tokens", MILLION),
    "audio_output": Unit("output_audio_tokens", MILLION),
    "image_output": Unit("output_image_tokens", MILLION),
    "input": Unit(
        "input_tokens",
        MILLION,
        (
            "cache_write_1h_tokens", "cache_write_tokens", "cache_read_tokens", "input_audio_tokens",
            "input_image_tokens",
        ),
    ),
    "output": Unit("output_tokens", MILLION, ("output_audio_tokens", "output_image_tokens")),
    "character": Unit("input_characters", 1),
    "second": Unit("audio_seconds", 1),
    "image": Unit("images", 1),
    "web_search": Unit("web_searches", 1),
    "request": Unit("requests", 1),
}  # fmt: skip
"""What a price of one's own may have, the most specific first."""


def parse_prices(prices: Any, name: str = "prices") -> dict[str, str | Price]:
    """Return own prices by model: a `Price`, or the name that is looked up. Raises `ConfigurationError`."""
    if not isinstance(prices, Mapping):
        raise ConfigurationError(f"{name}: invalid value {shown(prices)}; expected {EXPECTED}")
    return {str(model): _parse(price, f"{name}: {str(model)!r}") for model, price in prices.items()}


EXPECTED = (
    "a dict from model to another model's name, 'free', or amounts in US dollars, for example "
    "{'my-deployment': 'gpt-4o', 'my-model': {'input': 0.3, 'output': 1.2}}"
)


def _parse(price: Any, name: str) -> str | Price:
    if isinstance(price, str) and price:
        return price
    if not isinstance(price, Mapping) or not price:
        raise ConfigurationError(f"{name}: invalid value {shown(price)}; expected a model's name, 'free', or a dict")
    unknown = [unit for unit in price if unit not in UNITS]
    if unknown:
        raise ConfigurationError(f"{name}: unknown unit {shown(unknown[0])}; expected some of {', '.join(UNITS)}")
    rates = tuple(
        Rate(unit.name, parse_amount(price[given], f"{name}: {given!r}") * SCALE // unit.per, (), unit.inside)
        for given, unit in UNITS.items()
        if given in price
    )
    return Price(rates, SETTINGS, SETTINGS)


def named_price(provider: str, name: str, at: float, tier: str | None) -> Price | None:
    """Return the list's price of the model that a setting names: the provider's own, `provider/model`, or any."""
    price = listed_price(provider, name, at, tier)
    head, _, tail = name.partition("/")
    if price is None and tail:
        price = listed_price(head, tail, at, tier)
    if price is None and (elsewhere := _provider_of_model(name)) is not None:
        price = listed_price(elsewhere, name, at, tier)
    if price is None:
        _warn_unlisted(name)
        return None
    return Price(price.rates, price.version, SETTINGS, free=price.free)


@lru_cache(maxsize=1024)
def _provider_of_model(name: str) -> str | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(name, None, None, None)[0].id
    except LookupError:
        return None


@lru_cache(maxsize=1024)
def _warn_unlisted(name: str) -> None:
    logger.warning("prices: the price list has no model %r; give a model of the list, or amounts in US dollars", name)
