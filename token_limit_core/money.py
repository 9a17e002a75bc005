"""Money: integer nano-dollars within and in stores, `Decimal` US dollars at the interface, never a float."""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction

from .runtime.faults import ConfigurationError, shown

Money = int | str | Decimal | float
"""What an amount may be given as."""

NANO = 10**9
MONEY = Context(prec=60)
"""For what is done with Decimals: the application may have set its own context to fewer digits."""

_shift = MONEY.scaleb
_ZERO = Decimal(0)
MAX_LIMIT_USD = Decimal(10**9)
MAX_COST_USD = Decimal(10**6)
"""What one event may cost: the sum of some thousands of them still fits into a column."""


def to_nano(usd: Decimal) -> int:
    """Convert US dollars to nano-dollars, rounding half-even."""
    if usd.adjusted() < -10:
        return 0  # at once: the fraction of an amount with a huge exponent takes minutes to make
    return round(Fraction(usd) * NANO)


def to_usd(nano: int) -> Decimal:
    """Convert nano-dollars to US dollars, exactly; nothing is `Decimal(0)`, not `Decimal("0E-9")`."""
    return _shift(nano, -9) if nano else _ZERO


def add_percent(nano: int, percent: str) -> int:
    """Add a percentage, given as decimal text, to nano-dollars; rounded once, half-even."""
    return round(nano * (1 + Fraction(percent) / 100))


def show_usd(amount: Decimal) -> str:
    """Write dollars for people: two decimals, and more only where cents would hide the amount."""
    size = abs(amount)
    places = 2 if size >= 100 else 4 if size >= Decimal("0.001") else 6 if size >= Decimal("0.00001") else 9
    rounded = amount.quantize(_shift(1, -places), context=MONEY)
    whole, _, fraction = f"{rounded:,f}".partition(".")
    return f"${whole}.{fraction.rstrip('0'):0<2}"


def as_text(amount: Decimal) -> str:
    """Write dollars exactly, without zeros at the end, for machines."""
    return f"{amount.normalize(MONEY):f}"


def parse_amount(value: Money, name: str = "limit_usd", most: Decimal = MAX_LIMIT_USD) -> int:
    """Turn an amount given in US dollars, such as a limit, into nano-dollars.

    Raises `ConfigurationError` for NaN, infinite, negative, above `most`, or anything that is no number.
    A float is taken as it prints (`Decimal(str(x))`).
    """
    try:
        if isinstance(value, (bool, list, tuple)):
            raise TypeError
        amount = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise ConfigurationError(
            f"{name}: {shown(value)} is not an amount in US dollars; give e.g. 25 or '9.99'"
        ) from None
    if not amount.is_finite():
        raise ConfigurationError(f"{name}: {shown(value)} is not finite; to have no limit, remove it")
    if not 0 <= amount <= most:
        raise ConfigurationError(f"{name}: {shown(value)} is out of range; it must be between 0 and {most:f}")
    return to_nano(amount)


def parse_typed_amount(text: str, name: str) -> int:
    """Do what `parse_amount` does for what a person has typed, which is not to be rounded."""
    amount = parse_amount(text, name)
    if to_usd(amount) != Decimal(text):
        raise ConfigurationError(f"{name}: give at most nine digits after the point")
    return amount
