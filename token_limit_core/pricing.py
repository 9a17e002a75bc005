"""Usage to money. Prices are genai-prices' (shipped inside that package: no network), resolved once and cached.

`calc_price` of genai-prices costs 80 to 110 microseconds; the same arithmetic on a compiled price takes one
(research: performance part 4).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

logger = logging.getLogger("token_limit")


SCALE = 10**12
HALF = SCALE // 2
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

    def cost(self, units: Mapping[str, int | Decimal]) -> int:
        """Return nano-dollars for counts of genai-prices' units, rounded once, half-even.

        Counts that overlap are billed once; a part above its whole (seen on recorded traffic) clamps at 0.
        """
        if self.plain is not None and units.keys() <= PLAIN:
            fresh, read, made = self.plain
            received, cached = units.get("input_tokens", 0), units.get("cache_read_tokens", 0)
            if cached <= received:
                return _nano(fresh * (received - cached) + read * cached + made * units.get("output_tokens", 0))
        return self._cost(units)

    def _cost(self, units: Mapping[str, int | Decimal]) -> int:
        total: int | Decimal = 0
        billed: dict[str, int | Decimal] = {}
        for unit, scaled, tiers, inside in self.rates:
            count = units.get(unit)
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
        return _nano(total)


PLAIN = frozenset({"input_tokens", "cache_read_tokens", "output_tokens"})
"""The units of nearly every call; a price without tiers bills them by three rates."""


def _plain(rates: tuple[Rate, ...]) -> tuple[int, int, int] | None:
    """Return the rates of fresh input, cached input and output; None where they depend on how much is used."""
    known = {rate.unit: rate for rate in rates if rate.unit in PLAIN}
    if any(rate.tiers for rate in known.values()):
        return None
    fresh, read, made = (
        known[unit].scaled if unit in known else 0 for unit in ("input_tokens", "cache_read_tokens", "output_tokens")
    )
    return fresh, (read if "cache_read_tokens" in known else fresh), made


def _nano(scaled: int | Decimal) -> int:
    """Round to whole nano-dollars, half-even."""
    if isinstance(scaled, Decimal):  # seconds of audio are no whole numbers
        return int((scaled / SCALE).to_integral_value(ROUND_HALF_EVEN))
    nano, rest = divmod(scaled, SCALE)
    if rest >= HALF:
        nano += rest > HALF or nano & 1
    return nano


@lru_cache(maxsize=1024)  # an application may let people type model names
def _find(provider: str, model: str) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, provider, None)[1]
    except LookupError:
        logger.warning(
            "no price is known for %s model %r: its calls are recorded without a cost and count against no limit",
            provider,
            model,
        )
        return None


_compiled: dict[tuple[str, str, str | None], tuple[float, Price]] = {}


def price_of(provider: str, model: str, at: float, tier: str | None = None) -> Price | None:
    """Return the price of a model at `at` (unix seconds), or None if it has none; warned about once.

    Some prices begin on a date or hold for hours of the day, so a compiled price is good for its minute.
    """
    key = (provider, model, tier)
    minute = at // 60
    cached = _compiled.get(key)
    if cached is not None and cached[0] == minute:
        return cached[1]
    info = _find(provider, model)
    if info is None:
        return None
    price = _compile(info.get_prices(datetime.fromtimestamp(at, UTC), _context(tier)))
    if len(_compiled) > 1024:
        _compiled.clear()
    _compiled[key] = (minute, price)
    return price


def _context(tier: str | None) -> dict[str, str] | None:
    if tier is None:
        return None
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


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
    return int((usd * 10**9 * SCALE / per).to_integral_value(ROUND_HALF_EVEN))


@cache
def version() -> str:
    """Name the price list in use, as stored on each ledger row."""
    from importlib.metadata import version as version_of

    return f"genai-prices {version_of('genai-prices')}"
