"""The price book of a Meter: what each model costs it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..hosts import FREE
from ..money import Money
from ..usage import Usage
from .assumed import TOKENS_FOR, Assumption, fallback, listed_assumption
from .model_sizes import ModelSize, size_of
from .own import SETTINGS, OwnPrice, named_price, parse_prices
from .price_list import listed_price
from .rates import Price

ASSUME = "assume"
DEFAULT_FALLBACK = (5, 25)
NOTHING = Price((), "free", "hosts", free=True)
"""The price at hosts whose models cost nothing."""
FREE_BY_SETTING = Price((), SETTINGS, SETTINGS, free=True)


class PriceBook:
    """Finds the price of a model. Every lookup of admission, settlement, ingest and tracking by hand comes here.

    `prices` are the application's own, which win over the list. `on_unpriced` says what to do where no price is known:
    "assume" one, or leave the call without a cost ("refuse", "free"). `fallback_price` is US dollars for a million
    tokens of input and of output.
    """

    def __init__(
        self,
        on_unpriced: str = "free",
        fallback_price: tuple[Money, Money] = DEFAULT_FALLBACK,
        prices: Mapping[str, OwnPrice] | None = None,
    ) -> None:
        self._own = parse_prices(prices or {})
        self.on_unpriced = on_unpriced
        self.fallback: Assumption = fallback(fallback_price)

    def price_for(self, provider: str, model: str, at: float, tier: str | None = None) -> Price | None:
        """Return the price of a model at `at` (unix seconds) for a service tier; None if no price is known."""
        if self._own and (own := self._own_price(provider, model, at, tier)) is not None:
            return own
        price = listed_price(provider, model, at, tier)
        return NOTHING if price is None and provider in FREE else price

    def own(self, provider: str, model: str) -> str | Price | None:
        """Return what `prices` says of a model: a price, a name to look up, or None."""
        found = self._own.get(f"{provider}/{model}")
        return self._own.get(model) if found is None else found

    def size_of(self, provider: str, model: str) -> ModelSize:
        """Return how much a model, or the one that `prices` names for it, can read and write."""
        named = self.own(provider, model)
        return size_of(provider, named if isinstance(named, str) else model)

    def _own_price(self, provider: str, model: str, at: float, tier: str | None) -> Price | None:
        own = self.own(provider, model)
        if isinstance(own, str):
            return FREE_BY_SETTING if own == "free" else named_price(provider, own, at, tier)
        return own

    def assumption(self, provider: str, model: str, at: float, tier: str | None = None) -> Assumption | None:
        """Return the price that is assumed for a model without a known one; None if nothing is to be assumed."""
        if self.on_unpriced != ASSUME:
            return None
        return listed_assumption(provider, model, at, tier) or self.fallback

    def beside(self, usage: Usage, names: Iterable[str]) -> int | None:
        """Return nano-dollars assumed for counts that have no price; None if nothing is to be assumed."""
        if self.on_unpriced != ASSUME:
            return None
        tokens = sum(TOKENS_FOR.get(name, 0) * getattr(usage, name) for name in names)
        return self.fallback.price.of_tokens(0, math.ceil(tokens))
