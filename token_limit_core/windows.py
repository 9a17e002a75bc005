"""Windows: the period of a limit that contains a moment, and the parsing of dates, times, time zones and anchors."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from functools import cache
from math import floor
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .runtime.faults import ConfigurationError, shown

PER_MINUTE = "per_minute"
PER_HOUR = "per_hour"
PER_DAY = "per_day"
PER_WEEK = "per_week"
PER_MONTH = "per_month"
PER_YEAR = "per_year"
TOTAL = "total"
FREQUENCIES = (PER_MINUTE, PER_HOUR, PER_DAY, PER_WEEK, PER_MONTH, PER_YEAR, TOTAL)

RATES = frozenset({PER_MINUTE, PER_HOUR})
"""Windows so short that a caller can wait for their end."""

UTC_ZONE = "UTC"
DAY = 86400
"""Seconds of a day in UTC."""

Anchor = int | str | date | None
"""What the start of a month or year may be given as: a day of the month, or a date."""

EARLIEST = -62135596800
LATEST = 253402300800
"""The years 1 to 9999, in unix seconds: what a window of all time covers, and where the last ones are cut."""

LONGEST_SECONDS = {
    PER_MINUTE: 120,
    PER_HOUR: 2 * 3600,
    PER_DAY: 2 * 86400,
    PER_WEEK: 8 * 86400,
    PER_MONTH: 32 * 86400,
    PER_YEAR: 367 * 86400,
    TOTAL: LATEST - EARLIEST,
}
"""Seconds that no window of a frequency exceeds, whatever a time zone does to its clocks."""


def parse_choice(value: str, allowed: Iterable[str], name: str) -> str:
    """Return `value` if it is one of `allowed`, else raise `ConfigurationError` with the list."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigurationError(f"{name}: invalid value {shown(value)}; expected {', '.join(map(repr, allowed))}")
    return value


def parse_date(value: object, name: str) -> date:
    """Return the date that is given as a date, datetime or ISO string; raise `ConfigurationError` for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(
                f"{name}: invalid value {shown(value)}; expected an ISO date, for example '2027-01-31'"
            ) from None
    if not isinstance(value, date):
        raise ConfigurationError(
            f"{name}: invalid value {shown(value)}; expected a date, a datetime or an ISO date such as '2027-01-31'"
        )
    return value


def is_date(value: object) -> bool:
    """Return whether a value is a date, a datetime, or a text that begins like an ISO date."""
    return isinstance(value, date) or (isinstance(value, str) and value[:4].isdecimal())


def parse_effective_date(value: date | datetime | str | None, now: float, name: str = "effective_date") -> float:
    """Turn an effective date (date, datetime or ISO string; naive means UTC) into unix seconds; None is `now`."""
    if value is None:
        return now
    begins = parse_date(value, name)
    if not isinstance(begins, datetime):
        begins = datetime(begins.year, begins.month, begins.day)
    try:
        return (begins if begins.tzinfo else begins.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except OverflowError:
        raise ConfigurationError(f"{name}: invalid value '{begins!s}'; expected a year from 1 to 9999 in UTC") from None


def parse_time(value: float, name: str) -> float:
    """Return a unix time; raise `ConfigurationError` for one that no calendar has, which no window would count."""
    try:
        seconds = float(value)
        datetime.fromtimestamp(seconds, UTC)
    except (OSError, OverflowError, TypeError, ValueError):
        raise ConfigurationError(f"{name}: {value!r} is not a time in unix seconds, such as 1800021600") from None
    return seconds


def parse_timezone(value: str | None) -> str:
    """Return the name of an IANA time zone; None is UTC. Raises `ConfigurationError` for an unknown one."""
    if value is None:
        return UTC_ZONE
    try:
        _zone(value)
    except (KeyError, OSError, TypeError, ValueError):  # a directory of the time zone database is an OSError
        raise ConfigurationError(
            f"timezone: unknown time zone {shown(value)}; expected an IANA name, for example 'Europe/Berlin'"
        ) from None
    return value


def parse_anchor(value: Anchor, frequency: str) -> str:
    """Return the start of a month, week, year or total in its stored form; None is the calendar's own start.

    A month starts on a day (1 to 31) or on the day of a date, a week on the weekday of a date, a year on the day and
    month of a date or on a day in January, and a total counts from a date. In a month without the day, the last day
    takes its place. Raises `ConfigurationError` for what the frequency cannot start at.
    """
    if value is None or value == "":
        return ""
    if frequency not in (PER_WEEK, PER_MONTH, PER_YEAR, TOTAL):
        raise ConfigurationError(
            f"anchor: invalid value {shown(value)}; only weeks, months, years and totals have an anchor, leave it out"
        )
    given = value
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int):
        if isinstance(value, bool) or not 1 <= value <= 31:
            raise ConfigurationError(
                f"anchor: invalid value {shown(given)}; expected a day of the month from 1 to 31 or a date, "
                "for example 15"
            )
        if frequency == PER_MONTH:
            return str(value)
        if frequency == PER_YEAR:
            return f"2000-01-{value:02}"
        raise ConfigurationError(f"anchor: invalid value {shown(given)}; expected a date, for example '2027-01-31'")
    day = parse_date(value, "anchor")
    if frequency == PER_MONTH:
        return str(day.day)
    if frequency == PER_YEAR:
        return f"2000-{day.month:02}-{day.day:02}"
    if frequency == PER_WEEK:
        return f"2001-01-{day.isoweekday():02}"  # that January began with a Monday
    return f"{day.year:04}-{day.month:02}-{day.day:02}"


class Window(NamedTuple):
    """One period of a limit, in unix seconds: `start <= t < end`."""

    start: int
    end: int


MOST_WINDOWS = 10_000
_windows: dict[tuple[str, str, str], Window] = {}


def window_of(frequency: str, at: float, timezone: str = UTC_ZONE, anchor: str = "") -> Window:
    """Return the window that contains `at` (unix seconds): a period of the calendar or clock of a time zone.

    The windows of a frequency follow each other without a gap, also where the clock is put forward or back.
    """
    key = (frequency, timezone, anchor)
    cached = _windows.get(key)  # the same window answers nearly every call
    if cached is not None and cached.start <= at < cached.end:
        return cached
    if frequency in RATES:
        window = _clock_window(60 if frequency == PER_MINUTE else 3600, floor(at), _zone(timezone))
    elif frequency == TOTAL:
        window = _total(at, _zone(timezone), anchor)
    else:
        parse_choice(frequency, FREQUENCIES, "frequency")
        window = _calendar_window(*_CALENDARS[frequency](anchor), at, _zone(timezone))
    if len(_windows) >= MOST_WINDOWS:
        _windows.clear()
    _windows[key] = window
    return window


# -- the calendar -------------------------------------------------------------------------------
#
# The periods of a calendar have numbers: the days since year 1, the weeks, the months, the years. The start of a
# period is the first moment of its first day. A local date says near which number a moment lies; which period it is
# in is decided by comparing moments, as a clock that is put back at midnight shows a day's end again on the next day.

Start = Callable[[int], date]
Number = Callable[[date], int]


def _days(anchor: str) -> tuple[Start, Number]:
    return date.fromordinal, date.toordinal


def _weeks(anchor: str) -> tuple[Start, Number]:
    # year 1 began with a Monday
    first = date.fromisoformat(anchor).isoweekday() if anchor else 1
    return lambda week: date.fromordinal(7 * week + first), lambda day: (day.toordinal() - first) // 7


def _months(anchor: str) -> tuple[Start, Number]:
    first = int(anchor) if anchor else 1
    return lambda month: _day(*divmod(month, 12), first), lambda day: 12 * day.year + day.month - 1


def _years(anchor: str) -> tuple[Start, Number]:
    first = date.fromisoformat(anchor) if anchor else date(2000, 1, 1)
    return lambda year: _day(year, first.month - 1, first.day), lambda day: day.year


_CALENDARS = {PER_DAY: _days, PER_WEEK: _weeks, PER_MONTH: _months, PER_YEAR: _years}


def _day(year: int, month: int, day: int) -> date:
    """Return a day of a month (from 0), or the last one of a month that does not have it."""
    return date(year, month + 1, min(day, monthrange(year, month + 1)[1]))


def _calendar_window(start: Start, number: Number, at: float, zone: ZoneInfo) -> Window:
    period = number(_local(at, zone).date())
    while (begins := _moment(start, period, zone, EARLIEST)) > at:
        period -= 1
    while (ends := _moment(start, period + 1, zone, LATEST)) <= at:
        period, begins = period + 1, ends
    return Window(begins, ends)


def _moment(start: Start, period: int, zone: ZoneInfo, otherwise: int) -> int:
    """Return the moment at which a period starts, or `otherwise` if that is outside of the years 1 to 9999."""
    try:
        return _midnight(start(period), zone)
    except (OverflowError, ValueError):
        return otherwise


def _midnight(day: date, zone: ZoneInfo) -> int:
    """Return the first moment of a local day, which is not at 0:00 where the clock is put forward then."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _total(at: float, zone: ZoneInfo, anchor: str) -> Window:
    if not anchor:
        return Window(EARLIEST, LATEST)
    begins = _midnight(date.fromisoformat(anchor), zone)
    return Window(begins, LATEST) if at >= begins else Window(EARLIEST, begins)


# -- the clock ----------------------------------------------------------------------------------


def _clock_window(size: int, second: int, zone: ZoneInfo) -> Window:
    """Return the minute or hour of the local clock; one in which the clock is changed ends or starts there."""
    offset = _offset(second, zone)
    begins = (second + offset) // size * size - offset
    ends = begins + size
    if _offset(begins, zone) != offset:
        begins = _change(begins, second, zone)
    if _offset(ends - 1, zone) != offset:
        ends = _change(second, ends - 1, zone)
    return Window(begins, ends)


def _change(before: int, after: int, zone: ZoneInfo) -> int:
    """Find the first second at which the clock is as it is at `after`, and not as it is at `before`."""
    offset = _offset(after, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(middle, zone) == offset else (middle, after)
    return after


def _offset(at: int, zone: ZoneInfo) -> int:
    """Return how far the local clock is ahead of UTC, in seconds."""
    ahead = _local(at, zone).utcoffset()
    assert ahead is not None
    return int(ahead.total_seconds())


def local_time(at: float, timezone: str) -> datetime:
    """Return a moment (unix seconds) on the clock of a time zone."""
    return _local(at, _zone(timezone))


def _local(at: float, zone: ZoneInfo) -> datetime:
    """Return a moment on the local clock; at the ends of the calendar, where there is none, in UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
