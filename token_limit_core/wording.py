"""Amounts, windows and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from .limits import ENFORCE, OBSERVE, PER_DAY, PER_MONTH, LimitStatus
from .money import MONEY, show_usd, to_usd

FREQUENCY_LABELS = {PER_MONTH: "per month", PER_DAY: "per day"}
MODE_LABELS = {ENFORCE: "Enforce: refuse calls once it is spent", OBSERVE: "Observe: only record, never refuse"}
PERMISSION_LABELS = {"ingest": "Report events", "check": "Ask for limits", "set-limit": "Set and remove limits"}
NEAR_PERCENT = 80

EARLIEST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

SMALL = 10**6
"""Below a tenth of a cent (in nano-dollars) amounts are written out, lest calls seem to be free."""


def shown_id(tenant_id: str) -> str:
    """Write a tenant's id; one with spaces around it, or with what cannot be seen, is not to look like another's."""
    return tenant_id if tenant_id == tenant_id.strip() and tenant_id.isprintable() else repr(tenant_id)


def editable_usd(nano: int) -> Decimal:
    """Return an amount as one would type it: at least cents, no further zeros."""
    amount = to_usd(nano)
    return amount.quantize(Decimal("0.01"), context=MONEY) if nano % 10**7 == 0 else amount.normalize(MONEY)


def exact_usd(nano: int) -> str:
    """Write an amount with all its digits."""
    return f"${editable_usd(nano):,f}"


def moment(seconds: float) -> datetime:
    """Return a unix time in UTC; one that no calendar has, such as milliseconds taken for seconds, as the nearest."""
    return datetime.fromtimestamp(min(LATEST, max(EARLIEST, seconds)), UTC)


def utc(seconds: float) -> str:
    """Write a unix time for people."""
    return f"{moment(seconds):%d %b %Y, %H:%M} UTC"


def dollars(nano: int | None) -> str:
    """Write an amount; a call without a known price has none."""
    if nano is None:
        return "unpriced"
    size = abs(nano)
    shown = exact_usd(size) if size < SMALL else show_usd(to_usd(size))
    return f"-{shown}" if nano < 0 else shown


def span(seconds: float) -> str:
    """Write a duration in its two largest units."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0 s"


def percent(part: int, whole: int) -> str:
    """Write a share; rounded down, so that 100 % is never shown before it is reached."""
    share = part * 100 // whole
    return "under 1 %" if part and not share else f"{share:,} %"


class Gauge(NamedTuple):
    """A limit's window as a bar: shares of its length in percent, and the text that says the same."""

    level: str
    settled: str
    held: str
    text: str
    note: str


def gauge(status: LimitStatus, at: float) -> Gauge:
    """Draw a window as of `at` (unix seconds): settled solid, held shaded, near from 80 percent on."""
    amount, settled, held = status.limit.amount, max(0, status.settled), max(0, status.held)
    level = "reached" if settled >= amount else "near" if (settled + held) * 100 >= amount * NEAR_PERCENT else "fine"
    full = min(100.0, settled * 100 / amount) if amount else 100.0
    shaded = min(100.0 - full, held * 100 / amount) if amount else 0.0
    share = f" ({percent(settled, amount)})" if amount else ""
    return Gauge(
        level,
        f"{full:.2f}",
        f"{shaded:.2f}",
        f"{dollars(status.settled)} of {exact_usd(amount)}{share}",
        (f"{dollars(held)} held, " if held else "") + f"resets in {span(status.window.end - at)}",
    )
