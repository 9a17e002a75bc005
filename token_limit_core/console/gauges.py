"""A limit's window as a bar, for the console and for Django's admin."""

from __future__ import annotations

from typing import NamedTuple

from ..limits import LimitStatus
from ..runtime.language import translate
from ..wording import NEAR_PERCENT, counted, exact, percent, span


class Gauge(NamedTuple):
    """A limit's window as a bar: shares of its length in percent, and the text that says the same."""

    level: str
    settled: str
    held: str
    text: str
    note: str


def gauge(status: LimitStatus, at: float) -> Gauge:
    """Return the bar of a window at `at` (unix seconds). Its level is "near" from 80 percent."""
    amount, settled, held, unit = status.ceiling, max(0, status.settled), max(0, status.held), status.limit.unit
    level = "reached" if settled >= amount else "near" if (settled + held) * 100 >= amount * NEAR_PERCENT else "fine"
    full = min(100.0, settled * 100 / amount) if amount else 100.0
    shaded = min(100.0 - full, held * 100 / amount) if amount else 0.0
    share = f" ({percent(settled, amount)})" if amount else ""
    notes = [f"{counted(held, unit)} {translate('held')}"] if held else []
    if status.extra:
        notes.append(f"{counted(status.extra, unit)} {translate('topped up')}")
    ends = status.resets_at
    notes.append(translate("never resets") if ends is None else f"{translate('resets in')} {span(ends - at)}")
    text = f"{counted(status.settled, unit)} {translate('of')} {exact(amount, unit)}{share}"
    return Gauge(level, f"{full:.2f}", f"{shaded:.2f}", text, ", ".join(notes))
