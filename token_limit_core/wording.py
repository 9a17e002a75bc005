"""Amounts, windows and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from .limits import PER_DAY, PER_MONTH, to_usd

FREQUENCY_LABELS = {PER_MONTH: "per month", PER_DAY: "per day"}


def editable_usd(nano: int) -> Decimal:
    """Return an amount as one would type it: at least cents, no further zeros."""
    amount = to_usd(nano)
    return amount.quantize(Decimal("0.01")) if nano % 10**7 == 0 else amount.normalize()


def exact_usd(nano: int) -> str:
    """Write an amount with all its digits."""
    return f"${editable_usd(nano):,f}"


def utc(seconds: float) -> str:
    """Write a unix time for people."""
    return f"{datetime.fromtimestamp(seconds, UTC):%d %b %Y, %H:%M} UTC"
