"""From usage to money: prices (`book`, `price_list`, `assumed`), their arithmetic (`rates`), and events (`bill`)."""

from .assumed import ASSUMED
from .bill import REPORTED, first_price, price_event, price_recorded
from .book import PriceBook
from .price_list import is_loaded, listed_price, load, version
from .rates import Price, Rate

__all__ = [
    "ASSUMED", "REPORTED", "Price", "PriceBook", "Rate", "first_price", "is_loaded", "listed_price", "load",
    "price_event", "price_recorded", "version",
]  # fmt: skip
