"""Windows: the period of a limit that contains a moment, and the parsing of dates and times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from .runtime.faults import ConfigurationError, shown

PER_DAY = "per_day"
PER_MONTH = "per_month"
FREQUENCIES = (PER_DAY, PER_MONTH)


def parse_choice(value: str, allowed: Iterable[str], name: str) -> str:
    """Return `value` if it is one of `allowed`, else raise `ConfigurationError` with the list."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigurationError(f"{name}: {shown(value)} is not available; use one of {', '.join(map(repr, allowed))}")
    return value


def parse_effective_date(value: date | datetime | str | None, now: float) -> float:
    """Turn an effective date (date, datetime or ISO string; naive means UTC) into unix seconds; None is `now`."""
    if value is None:
        return now
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(
                f"effective_date: {shown(value)} is not an ISO date such as '2027-01-31'"
            ) from None
    if not isinstance(value, date):
        raise ConfigurationError(f"effective_date: {shown(value)} is not a date, datetime or ISO string")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except OverflowError:
        raise ConfigurationError(f"effective_date: {value!s} is outside of the years 1 to 9999 in UTC") from None


def parse_time(value: float, name: str) -> float:
    """Return a unix time; raise `ConfigurationError` for one that no calendar has, which no window would count."""
    try:
        seconds = float(value)
        datetime.fromtimestamp(seconds, UTC)
    except (OSError, OverflowError, TypeError, ValueError):
        raise ConfigurationError(f"{name}: {value!r} is not a time in unix seconds, such as 1800021600") from None
    return seconds


class Window(NamedTuple):
    """One period of a limit, in unix seconds: `start <= t < end`."""

    start: int
    end: int


_windows: dict[str, Window] = {}


def window_of(frequency: str, at: float) -> Window:
    """Return the calendar window in UTC that contains `at` (unix seconds)."""
    cached = _windows.get(frequency)  # the same window answers nearly every call
    if cached is not None and cached.start <= at < cached.end:
        return cached
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if frequency == PER_DAY:
        first, last = day, day + timedelta(days=1)
    elif frequency == PER_MONTH:
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    else:
        parse_choice(frequency, FREQUENCIES, "frequency")
        raise AssertionError
    window = _windows[frequency] = Window(int(first.timestamp()), int(last.timestamp()))
    return window
