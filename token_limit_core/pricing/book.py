"""The price book of a Meter: what each model costs it."""

from __future__ import annotations

from .price_list import listed_price
from .rates import Price


class PriceBook:
    """Finds the price of a model. Every lookup of admission, settlement, ingest and tracking by hand comes here."""

    def price_for(self, provider: str, model: str, at: float, tier: str | None = None) -> Price | None:
        """Return the price of a model at `at` (unix seconds) for a service tier; None if no price is known."""
        return listed_price(provider, model, at, tier)
