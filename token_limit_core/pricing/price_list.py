"""Prices of genai-prices, whose data is inside that package (no network): found once, compiled, and cached.

`calc_price` of genai-prices costs 80 to 110 microseconds; the same arithmetic on a compiled price takes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..money import NANO
from .rates import SCALE, Price, Rate

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

CODE_INTERPRETER = "code_interpreter"
"""The name that containers are priced under: OpenAI's have no model."""


class Fee(NamedTuple):
    """A fee that the list does not have: US dollars for one unit, for the models of some providers."""

    providers: frozenset[str]
    models: re.Pattern[str]
    unit: str
    usd: Decimal


OPENAI = frozenset({"openai", "azure"})

FEES = (
    Fee(OPENAI, re.compile(r"gpt-4o(-mini)?-search-preview"), "web_searches", Decimal("0.025")),
    Fee(OPENAI, re.compile(r"gpt-5-search-api"), "web_searches", Decimal("0.01")),
    Fee(OPENAI, re.compile(r""), "containers", Decimal("0.03")),
)
"""Fees beside the list, and above it where it has another one. Source: "Built-in tools" of OpenAI's price page: a
container costs $0.03 for each of its gigabytes of memory, a search of a search model $25 or $10 a thousand."""

_compiled: dict[tuple[str, str, str | None], tuple[float, float, Price]] = {}


def listed_price(provider: str, model: str, at: float, tier: str | None = None) -> Price | None:
    """Return the list's price of a model at `at` (unix seconds), or None if it has none.

    Some prices begin on a date or hold for hours of the day, so a compiled price is good for its minute.
    """
    key = (provider, model, tier)
    cached = _compiled.get(key)
    if cached is not None and cached[0] <= at < cached[1]:
        return cached[2]
    info = _find(provider, model)
    if info is None:
        return _container_price() if model == CODE_INTERPRETER and provider in OPENAI else None
    rates = _compile(info.get_prices(datetime.fromtimestamp(at, UTC), _context(tier)))
    if provider == "google" and model.startswith("claude") and (theirs := listed_price("anthropic", model, at, tier)):
        # a search costs on Vertex, too; the list has its price only where Claude comes from
        rates += tuple(rate for rate in theirs.rates if rate.unit == "web_searches")
    price = Price(_with_fees(rates, provider, model), version(), free=not rates)
    if len(_compiled) > 1024:
        _compiled.clear()
    minute = at // 60 * 60
    _compiled[key] = (minute, minute + 60, price)
    return price


def listed_name(provider: str, model: str) -> str | None:
    """Return the name that the list has a model under; None for one that it does not have."""
    info = _find(provider, model)
    return None if info is None else info.id


def context_window(provider: str, model: str) -> int | None:
    """Return the tokens of input and output together that a model takes; None where the list does not say."""
    info = _find(provider, model)
    return None if info is None else info.context_window


def load() -> None:
    """Load the price list, which takes a third of a second once a process: an event loop leaves it to a thread."""
    _find("openai", "gpt-4o-mini")


def is_loaded() -> bool:
    """Return whether the price list was loaded, here or by the first call."""
    return _find.cache_info().currsize > 0


@lru_cache(maxsize=1024)  # an application may let people type model names
def _find(provider: str, model: str) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    for name in _names_of(provider, model):
        try:
            return get_snapshot().find_provider_model(name, None, provider, None)[1]
        except LookupError:
            continue
    return None


_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})$")


def _names_of(provider: str, model: str) -> Iterator[str]:
    """Give the names that the list may have a model under: its own, and those of the same model it is a version of."""
    name = model.removeprefix("models/")  # Gemini calls itself so in some answers
    yield name
    if provider == "aws" and name.startswith("openai."):
        yield f"{name}-1:0"  # Bedrock's OpenAI endpoint takes the id without its version
    undated = _DATE.sub("", name)
    if undated != name:
        yield undated


def _container_price() -> Price:
    return Price(_with_fees((), "openai", CODE_INTERPRETER), version())


def _with_fees(rates: tuple[Rate, ...], provider: str, model: str) -> tuple[Rate, ...]:
    fees = [fee for fee in FEES if provider in fee.providers and fee.models.match(model)]
    ours = {fee.unit: Rate(fee.unit, _scaled(fee.usd, 1), (), ()) for fee in fees}
    return (*(rate for rate in rates if rate.unit not in ours), *ours.values())


def _context(tier: str | None) -> dict[str, str] | None:
    if tier is None:
        return None
    if tier == "batch":
        return {"processing": "batch"}
    return {"service_tier": tier, "speed": tier} if tier == "fast" else {"service_tier": tier}


def _compile(price: ModelPrice) -> tuple[Rate, ...]:
    from genai_prices.types import TieredPrices
    from genai_prices.units import _get_registry

    registry = _get_registry()
    units = [
        (registry.unit_for_price_key(name), value)
        for name, value in vars(price).items()
        if value is not None and name in registry._all_price_keys
    ]
    units.sort(key=lambda pair: (-len(pair[0].dimensions), pair[0].usage_key))
    rates: list[Rate] = []
    for unit, value in units:
        base, tiers = (value.base, value.tiers) if isinstance(value, TieredPrices) else (value, [])
        inside = tuple(
            other.usage_key for other, _ in units[: len(rates)] if other.dimensions.items() > unit.dimensions.items()
        )
        steps = tuple((tier.start, _scaled(tier.price, unit.per)) for tier in reversed(tiers))
        rates.append(Rate(unit.usage_key, _scaled(base, unit.per), steps, inside))
    return tuple(rates)


def _scaled(usd: Decimal, per: int) -> int:
    """Turn US dollars per `per` units into the scaled rate of one unit."""
    return round(Fraction(usd) * NANO * SCALE / per)


@cache
def version() -> str:
    """Name the price list in use, as stored on each ledger row."""
    from importlib.metadata import version as version_of

    return f"genai-prices {version_of('genai-prices')}"
