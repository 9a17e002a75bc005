"""Rates of a model, and what a usage costs at them: integers throughout, rounded once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from ..usage import SPECIAL_COUNTS, Usage

SCALE = 10**12
"""Rates are whole numbers of 10^-12 nano-dollars a unit: Decimal's exactness at a fifth of its time."""


class Rate(NamedTuple):
    """The price of one unit, and which more specific rates already bill a part of its count."""

    unit: str
    scaled: int
    tiers: tuple[tuple[int, int], ...]
    inside: tuple[str, ...]


LIST = "list"
"""The source of a price of genai-prices."""


class Price:
    """What a model costs now, as rates with the most specific first.

    `source` says where it is from: "list" or "settings". A `free` model costs nothing, whatever it is used for.
    """

    __slots__ = ("counts_images", "free", "plain", "rates", "source", "version")

    def __init__(self, rates: tuple[Rate, ...], version: str, source: str = LIST, *, free: bool = False) -> None:
        self.rates: tuple[Rate, ...] = rates
        self.version: str = version
        self.source: str = source
        self.free: bool = free
        self.plain: tuple[int, int, int] | None = _plain(rates)
        self.counts_images: bool = any(rate.unit == "images" for rate in rates)

    @property
    def is_for_tokens(self) -> bool:
        """Whether it has a price for tokens, which may be 0."""
        return any(rate.unit.endswith("_tokens") for rate in self.rates)

    def covers(self, units: Mapping[str, int | Fraction]) -> bool:
        """Return whether anything that was used has a price."""
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

    def at_most(self, received: int, generated: int, *, caches: bool = True, text_only: bool = False) -> int:
        """Return nano-dollars that tokens cost at most, rounded up: each at the dearest rate that may be its own.

        Tokens that are written to a cache, and those that are no text, have rates of their own.
        """
        dearest = {"input": 0, "output": 0, A_REQUEST: 0}
        for unit, scaled, tiers, _ in self.rates:
            rate = max(scaled, *(price for start, price in tiers if received > start), 0)
            if unit == A_REQUEST:
                dearest[A_REQUEST] = rate
            elif unit.endswith("_tokens") and not (text_only and NO_TEXT.search(unit)):
                side = "output" if unit.startswith("output") else "input"
                if caches or not unit.startswith("cache_write"):
                    dearest[side] = max(dearest[side], rate)
        return -(-(dearest["input"] * received + dearest["output"] * generated + dearest[A_REQUEST]) // SCALE)

    def of_usage(self, usage: Usage) -> int | None:
        """Return nano-dollars for what a call used; None when nothing was reported, or nothing of it has a price."""
        counts = vars(usage)
        if SPECIAL_COUNTS.isdisjoint(counts) or not any(map(counts.get, SPECIAL_COUNTS)):  # 0 costs nothing
            received, generated = counts.get("input_tokens"), counts.get("output_tokens")
            if received is not None and generated is not None:
                cached = counts.get("cached_tokens") or 0
                whole = received + cached if counts.get("cache_outside_input") else received
                cost = self.of_tokens(whole, generated, cached)
                if cost:
                    return cost
        units = usage.billable()
        if self.counts_images and usage.image_count:
            units["images"] = usage.image_count
        if not units:
            return None
        cost = self.cost(units)
        if not cost and any(units.values()) and not self.free and not self.covers(units):
            return None  # such as the seconds of a model that is priced by tokens
        return cost


NO_TEXT = re.compile(r"audio|image|video")

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
