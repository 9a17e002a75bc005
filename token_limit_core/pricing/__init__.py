"""From usage to money: the prices of a Meter (`book`, `price_list`), their arithmetic (`rates`), events (`bill`)."""

from .bill import REPORTED, first_price, price_event
from .book import PriceBook
from .price_list import is_loaded, listed_price, load, version
from .rates import Price, Rate

__all__ = [
    "REPORTED", "Price", "PriceBook", "Rate", "first_price", "is_loaded", "listed_price", "load", "price_event",
    "version",
]  # fmt: skip
