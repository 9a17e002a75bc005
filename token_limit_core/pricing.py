"""Usage to money. Prices are genai-prices' (shipped inside that package: no network), resolved once and cached.

`calc_price` of genai-prices costs 80 to 110 microseconds; the same arithmetic on a compiled price takes one
(research: performance part 4).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .hosts import UNKNOWN
from .money import NANO
from .usage import SPECIAL_COUNTS, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

logger = logging.getLogger("token_limit")


SCALE = 10**12
"""Rates are whole numbers of 10^-12 nano-dollars a unit: Decimal's exactness at a fifth of its time."""


class Rate(NamedTuple):
    """The price of one unit, and which more specific rates already bill a part of its count."""

    unit: str
    scaled: int
    tiers: tuple[tuple[int, int], ...]
    inside: tuple[str, ...]


class Price:
    """What a model costs now, as rates with the most specific first."""

    __slots__ = ("plain", "rates", "version")

    def __init__(self, rates: tuple[Rate, ...], version: str) -> None:
        self.rates = rates
        self.version = version
        self.plain = _plain(rates)

    def covers(self, units: Mapping[str, int | Fraction]) -> bool:
        """Tell whether anything that was used has a price."""
        return any(units.get(rate.unit) for rate in self.rates)

    def cost(self, units: Mapping[str, int | Fraction]) -> int:
        """Return nano-dollars for counts of genai-prices' units, rounded once, half-even.

        Counts that overlap are billed once; a part above its whole (seen on recorded traffic) clamps at 0.
        """
        total: int | Fraction = 0
        billed: dict[str, int | Fraction] = {}
        for unit, scaled, tiers, inside in self.rates:
            count = units.get(unit) if unit != A_REQUEST else 1
            if count is None:
                continue
            for part in inside:
                if part in billed:
                    count -= billed[part]
            if count <= 0:
                continue
            billed[unit] = count
            if tiers:
                whole = units.get("input_tokens", 0)
                scaled = next((price for start, price in tiers if whole > start), scaled)
            total += scaled * count
        if isinstance(total, Fraction):  # seconds of audio are no whole numbers
            return round(total / SCALE)
        nano, rest = divmod(total, SCALE)
        return nano + (rest * 2 > SCALE or (rest * 2 == SCALE and nano % 2 == 1))

    def of_tokens(self, received: int, generated: int, cached: int = 0) -> int:
        """Return what `cost` returns for tokens, of whose input a part was cached, in a fraction of its time."""
        if self.plain is None or cached > received:
            return self.cost({"input_tokens": received, "output_tokens": generated, "cache_read_tokens": cached})
        fresh, read, made = self.plain
        return fresh * (received - cached) + read * cached + made * generated

    def of_usage(self, usage: Usage) -> int | None:
        """Return nano-dollars for what a call used; None when nothing was reported, or nothing of it has a price."""
        counts = vars(usage)
        if SPECIAL_COUNTS.isdisjoint(counts) or not any(map(counts.get, SPECIAL_COUNTS)):  # 0 costs nothing
            received, generated = counts.get("input_tokens"), counts.get("output_tokens")
            if received is not None and generated is not None:
                cost = self.of_tokens(received, generated, counts.get("cached_tokens") or 0)
                if cost:
                    return cost
        units = usage.billable()
        if not units:
            return None
        cost = self.cost(units)
        if not cost and any(units.values()) and not self.covers(units):
            return None  # such as the seconds of a model that is priced by tokens
        return cost

    def leaves_out(self, usage: Usage) -> list[str]:
        """Name what a call used beside its tokens that has no price here."""
        priced = {rate.unit for rate in self.rates}
        return [name for name, unit in BESIDE if getattr(usage, name) and unit not in priced]


BESIDE = (("web_searches", "web_searches"), ("file_searches", "storage_searches"))
"""What is billed beside the tokens, and its unit at genai-prices."""

A_REQUEST = "requests"
"""The unit of a fee for each call, whatever it uses (Perplexity's Sonar)."""


def _plain(rates: tuple[Rate, ...]) -> tuple[int, int, int] | None:
    """Return nano-dollars of a token of fresh input, of cached input, of output.

    None where they depend on how much is used, or are not whole, or there is a fee for the call: few do.
    """
    known = {rate.unit: rate.scaled for rate in rates}
    fresh = known.get("input_tokens", 0)
    scaled = fresh, known.get("cache_read_tokens", fresh), known.get("output_tokens", 0)
    if A_REQUEST in known or any(rate.tiers for rate in rates) or any(rate % SCALE for rate in scaled):
        return None
    return scaled[0] // SCALE, scaled[1] // SCALE, scaled[2] // SCALE


@lru_cache(maxsize=1024)  # an application may let people type model names
def _find(provider: str, model: str) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        name = model.removeprefix("models/")  # as Gemini calls itself in some answers
        return get_snapshot().find_provider_model(name, None, provider, None)[1]
    except LookupError:
        so = "calls are recorded without a cost and count against no limit"
        if provider == UNKNOWN:
            logger.warning(
                "model %r is called at an unknown host: its %s; name the provider of that host in `hosts`", model, so
            )
        else:
            logger.warning("no price is known for %s model %r: its %s", provider, model, so)
        return None


_compiled: dict[tuple[str, str, str | None], tuple[float, float, Price]] = {}


def price_of(provider: str, model: str, at: float, tier: str | None = None) -> Price | None:
    """Return the price of a model at `at` (unix seconds), or None if it has none; warned about once.

    Some prices begin on a date or hold for hours of the day, so a compiled price is good for its minute.
    """
    key = (provider, model, tier)
    cached = _compiled.get(key)
    if cached is not None and cached[0] <= at < cached[1]:
        return cached[2]
    info = _find(provider, model)
    if info is None:
        return None
    price = _compile(info.get_prices(datetime.fromtimestamp(at, UTC), _context(tier)))
    if provider == "google" and model.startswith("claude") and (theirs := price_of("anthropic", model, at, tier)):
        # a search costs on Vertex, too; the list has its price only where Claude comes from
        price = Price(price.rates + tuple(rate for rate in theirs.rates if rate.unit == "web_searches"), price.version)
    if len(_compiled) > 1024:
        _compiled.clear()
    minute = at // 60 * 60
    _compiled[key] = (minute, minute + 60, price)
    return price


def load() -> None:
    """Load the price list, which takes a third of a second once a process: an event loop leaves it to a thread."""
    _find("openai", "gpt-4o-mini")


def is_loaded() -> bool:
    """Tell whether the price list was loaded, here or by the first call."""
    return _find.cache_info().currsize > 0


@lru_cache(maxsize=1024)
def warn_of(provider: str, model: str, what: str) -> None:
    """Say once that something which was used is not priced."""
    logger.warning("%s of %s model %r have no price: they count against no limit", what, provider, model)


def _context(tier: str | None) -> dict[str, str] | None:
    if tier is None:
        return None
    if tier == "batch":
        return {"processing": "batch"}
    return {"service_tier": tier, "speed": tier} if tier == "fast" else {"service_tier": tier}


def _compile(price: ModelPrice) -> Price:
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
    return Price(tuple(rates), version())


def _scaled(usd: Decimal, per: int) -> int:
    """Turn US dollars per `per` units into the scaled rate of one unit."""
    return round(Fraction(usd) * NANO * SCALE / per)


@cache
def version() -> str:
    """Name the price list in use, as stored on each ledger row."""
    from importlib.metadata import version as version_of

    return f"genai-prices {version_of('genai-prices')}"
