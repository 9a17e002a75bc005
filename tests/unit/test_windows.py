"""Windows of every frequency, in many time zones: they hold every moment once, and start where the calendar does."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from token_limit_core import ConfigurationError
from token_limit_core.windows import (
    EARLIEST,
    FREQUENCIES,
    LATEST,
    PER_DAY,
    PER_HOUR,
    PER_MINUTE,
    PER_MONTH,
    PER_WEEK,
    PER_YEAR,
    TOTAL,
    Window,
    parse_anchor,
    parse_timezone,
    window_of,
)

ZONES = [
    "Africa/Cairo", "Africa/Casablanca", "Africa/Lagos", "America/Anchorage", "America/Asuncion",
    "America/Bogota", "America/Caracas", "America/Chicago", "America/Havana", "America/Los_Angeles",
    "America/New_York", "America/Nuuk", "America/Santiago", "America/Sao_Paulo", "America/St_Johns",
    "Antarctica/Troll", "Asia/Amman", "Asia/Beirut", "Asia/Dubai", "Asia/Gaza", "Asia/Jerusalem",
    "Asia/Kathmandu", "Asia/Kolkata", "Asia/Pyongyang", "Asia/Shanghai", "Asia/Tehran", "Asia/Tokyo",
    "Atlantic/Azores", "Australia/Adelaide", "Australia/Eucla", "Australia/Lord_Howe", "Australia/Sydney",
    "Europe/Berlin", "Europe/Dublin", "Europe/London", "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham",
    "Pacific/Kiritimati", "Pacific/Marquesas", "UTC",
]  # fmt: skip
"""Fractional offsets, changes at midnight, half-hour changes, a day that was left out (Apia), both hemispheres."""

zones = st.sampled_from(ZONES)
moments = st.floats(
    datetime(1980, 1, 1, tzinfo=UTC).timestamp(), datetime(2037, 12, 31, tzinfo=UTC).timestamp(), allow_nan=False
)
days_of_month = st.integers(1, 31)
dates = st.dates(date(1999, 1, 1), date(2030, 12, 31))


@st.composite
def calendars(draw: st.DrawFn) -> tuple[str, str, str]:
    """Draw what decides the windows of a limit: frequency, time zone, anchor."""
    frequency = draw(st.sampled_from(FREQUENCIES))
    anchors: dict[str, st.SearchStrategy[Any]] = {
        PER_WEEK: dates,
        PER_MONTH: st.one_of(days_of_month, dates),
        PER_YEAR: st.one_of(days_of_month, dates),
        TOTAL: dates,
    }
    anchor = draw(st.one_of(st.none(), anchors[frequency])) if frequency in anchors else None
    return frequency, draw(zones), parse_anchor(anchor, frequency)


def near_changes(zone: str) -> st.SearchStrategy[float]:
    """Give moments within a day of a change of the clock, where windows go wrong."""
    changes = [
        hour
        for hour in range(1_262_304_000, 1_420_070_400, 3600 * 6)  # 2010 to 2014
        if _ahead(hour, zone) != _ahead(hour + 3600 * 6, zone)
    ]
    around = st.sampled_from(changes or [1_300_000_000])
    return st.builds(lambda change, step: float(change + step), around, st.integers(-90_000, 90_000))


def _ahead(at: float, zone: str) -> timedelta | None:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).utcoffset()


def shown(moment: float, zone: str) -> str:
    return f"{datetime.fromtimestamp(moment, ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"


@settings(max_examples=300)
@given(calendars(), moments)
def test_a_moment_is_in_its_window_and_so_are_the_windows_ends(calendar: tuple[str, str, str], at: float) -> None:
    frequency, zone, anchor = calendar
    window = window_of(frequency, at, zone, anchor)
    assert window.start <= at < window.end
    for other in (window.start, window.end - 1, (window.start + window.end) // 2):
        assert window_of(frequency, other, zone, anchor) == window


@pytest.mark.parametrize("zone", ZONES)
def test_windows_follow_each_other_without_a_gap_across_changes_of_the_clock(zone: str) -> None:
    @settings(max_examples=40)
    @given(near_changes(zone), st.sampled_from(FREQUENCIES))
    def check(at: float, frequency: str) -> None:
        window = window_of(frequency, at, zone)
        for _ in range(3):
            assert window.start < window.end
            if window.end == LATEST:
                break
            after = window_of(frequency, window.end, zone)
            assert after.start == window.end
            assert window_of(frequency, window.end - 1, zone) == window
            window = after

    check()


@settings(max_examples=300)
@given(zones, moments)
def test_a_day_starts_at_the_first_moment_of_the_local_day(zone: str, at: float) -> None:
    window = window_of(PER_DAY, at, zone)
    first, before = (datetime.fromtimestamp(moment, ZoneInfo(zone)) for moment in (window.start, window.start - 1))
    assert before.date() < first.date()
    assert 22 * 3600 <= window.end - window.start <= 26 * 3600


@settings(max_examples=200)
@given(zones, moments, days_of_month)
def test_a_month_starts_on_its_anchor_or_the_last_day_of_a_short_month(zone: str, at: float, anchor: int) -> None:
    window = window_of(PER_MONTH, at, zone, parse_anchor(anchor, PER_MONTH))
    for moment in window:
        day = datetime.fromtimestamp(moment, ZoneInfo(zone))
        assert day.day == min(anchor, monthrange(day.year, day.month)[1]) or day.date() in SKIPPED.get(zone, ())
    starts = [datetime.fromtimestamp(moment, ZoneInfo(zone)) for moment in window]
    assert (starts[1].year * 12 + starts[1].month) - (starts[0].year * 12 + starts[0].month) == 1


SKIPPED = {"Pacific/Apia": (date(2011, 12, 31),), "Pacific/Kiritimati": (date(1995, 1, 1),)}
"""What starts on a day that a time zone has left out starts on the day after."""


@settings(max_examples=200)
@given(zones, moments, dates)
def test_a_year_starts_on_the_day_of_its_anchor(zone: str, at: float, anchor: date) -> None:
    window = window_of(PER_YEAR, at, zone, parse_anchor(anchor, PER_YEAR))
    starts = [datetime.fromtimestamp(moment, ZoneInfo(zone)).date() for moment in window]
    assert starts[1].year - starts[0].year == 1
    for day in starts:
        last = monthrange(day.year, anchor.month)[1]
        assert (day.month, day.day) == (anchor.month, min(anchor.day, last)) or day in SKIPPED.get(zone, ())


@settings(max_examples=200)
@given(zones, moments, st.one_of(st.none(), dates))
def test_a_week_starts_on_a_monday_or_on_the_weekday_of_its_anchor(zone: str, at: float, anchor: date | None) -> None:
    window = window_of(PER_WEEK, at, zone, parse_anchor(anchor, PER_WEEK))
    weekday = 1 if anchor is None else anchor.isoweekday()
    for moment in window:
        day = datetime.fromtimestamp(moment, ZoneInfo(zone)).date()
        assert day.isoweekday() == weekday or day in SKIPPED.get(zone, ())


@settings(max_examples=200)
@given(zones, moments, st.sampled_from([(PER_MINUTE, 60), (PER_HOUR, 3600)]))
def test_minutes_and_hours_are_those_of_the_local_clock(zone: str, at: float, rate: tuple[str, int]) -> None:
    frequency, size = rate
    window = window_of(frequency, at, zone)
    first, now = (datetime.fromtimestamp(moment, ZoneInfo(zone)) for moment in (window.start, floor(at)))
    assert window.end - window.start <= size
    if window.end - window.start == size:
        assert (first.minute * 60 + first.second) % size == 0
        assert (first.date(), first.hour) == (now.date(), now.hour)


LANDMARKS = [
    # the hour that is put forward, and back
    (PER_DAY, "Europe/Berlin", "", "2026-03-29 12:00:00", "2026-03-29 00:00:00", 23),
    (PER_DAY, "Europe/Berlin", "", "2026-10-25 12:00:00", "2026-10-25 00:00:00", 25),
    (PER_DAY, "America/New_York", "", "2026-11-01 01:30:00", "2026-11-01 00:00:00", 25),
    # midnight is skipped
    (PER_DAY, "America/Sao_Paulo", "", "2018-11-04 05:00:00", "2018-11-04 01:00:00", 23),
    (PER_DAY, "Asia/Beirut", "", "2024-03-31 05:00:00", "2024-03-31 01:00:00", 23),
    # midnight comes twice
    (PER_DAY, "America/Havana", "", "2026-11-01 12:00:00", "2026-11-01 00:00:00", 25),
    (PER_DAY, "America/Sao_Paulo", "", "2018-02-17 12:00:00", "2018-02-17 00:00:00", 25),
    # the day that Samoa left out
    (PER_DAY, "Pacific/Apia", "", "2011-12-29 12:00:00", "2011-12-29 00:00:00", 24),
    (PER_DAY, "Pacific/Apia", "", "2011-12-31 12:00:00", "2011-12-31 00:00:00", 24),
    # leap days and short months
    (PER_MONTH, "UTC", "31", "2026-02-28 00:00:00", "2026-02-28 00:00:00", 31 * 24),
    (PER_MONTH, "UTC", "31", "2026-02-27 23:59:59", "2026-01-31 00:00:00", 28 * 24),
    (PER_MONTH, "UTC", "31", "2024-02-29 00:00:00", "2024-02-29 00:00:00", 31 * 24),
    (PER_MONTH, "UTC", "30", "2024-03-15 00:00:00", "2024-02-29 00:00:00", 30 * 24),
    (PER_MONTH, "UTC", "29", "2026-03-01 00:00:00", "2026-02-28 00:00:00", 29 * 24),
    (PER_YEAR, "UTC", "2000-02-29", "2027-02-28 00:00:00", "2027-02-28 00:00:00", 366 * 24),
    (PER_YEAR, "UTC", "2000-02-29", "2028-02-28 23:00:00", "2027-02-28 00:00:00", 366 * 24),
    (PER_YEAR, "UTC", "", "2028-06-01 00:00:00", "2028-01-01 00:00:00", 366 * 24),
    # half an hour is put back
    (PER_HOUR, "Australia/Lord_Howe", "", "2026-04-05 01:10:00", "2026-04-05 01:00:00", 1),
    (PER_HOUR, "Asia/Kolkata", "", "2026-04-05 01:10:00", "2026-04-05 01:00:00", 1),
]


@pytest.mark.parametrize(("frequency", "zone", "anchor", "moment", "start", "hours"), LANDMARKS)
def test_landmarks(frequency: str, zone: str, anchor: str, moment: str, start: str, hours: int) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone)).timestamp()
    window = window_of(frequency, at, zone, anchor)
    assert (shown(window.start, zone), (window.end - window.start) / 3600) == (start, hours)


def test_a_repeated_half_hour_is_a_window_of_its_own() -> None:
    zone = "Australia/Lord_Howe"
    change = int(datetime(2026, 4, 4, 15, 0, tzinfo=UTC).timestamp())  # 2:00 becomes 1:30
    windows = [window_of(PER_HOUR, change + step, zone) for step in (-60, 60, 1800)]
    assert windows == [
        Window(change - 3600, change),
        Window(change, change + 1800),
        Window(change + 1800, change + 5400),
    ]


def test_a_total_never_ends_and_may_count_from_a_date() -> None:
    assert window_of(TOTAL, 0.0) == Window(EARLIEST, LATEST)
    anchor = parse_anchor("2026-07-01", TOTAL)
    begins = int(datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
    assert window_of(TOTAL, begins, "Europe/Berlin", anchor) == Window(begins, LATEST)
    assert window_of(TOTAL, begins - 1, "Europe/Berlin", anchor) == Window(EARLIEST, begins)


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
def test_the_ends_of_the_calendar_have_windows_too(frequency: str, zone: str) -> None:
    for at in (EARLIEST, EARLIEST + 86400, LATEST - 86400, LATEST - 1):
        window = window_of(frequency, at, zone)
        assert window.start <= at < window.end


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_many_windows_in_a_row_tile_the_time(frequency: str) -> None:
    at = datetime(2023, 12, 25, tzinfo=UTC).timestamp()
    windows = [window_of(frequency, at)]
    while len(windows) < 50 and windows[-1].end < LATEST:
        windows.append(window_of(frequency, windows[-1].end))
    assert all(before.end == after.start for before, after in pairwise(windows))


# -- what cannot be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anchor", "frequency", "stored"),
    [
        (None, PER_DAY, ""),
        (15, PER_MONTH, "15"),
        ("7", PER_MONTH, "7"),
        (date(2026, 3, 31), PER_MONTH, "31"),
        ("2026-03-30", PER_MONTH, "30"),
        (date(2026, 3, 15), PER_YEAR, "2000-03-15"),
        (date(2024, 2, 29), PER_YEAR, "2000-02-29"),
        (15, PER_YEAR, "2000-01-15"),
        (date(2026, 7, 5), PER_WEEK, "2001-01-07"),
        (datetime(2026, 7, 5, 12, tzinfo=UTC), TOTAL, "2026-07-05"),
    ],
)
def test_an_anchor_has_one_form_which_is_an_anchor_too(anchor: Any, frequency: str, stored: str) -> None:
    assert parse_anchor(anchor, frequency) == stored
    assert parse_anchor(stored, frequency) == stored


@pytest.mark.parametrize(
    ("anchor", "frequency"),
    [
        (0, PER_MONTH),
        (32, PER_MONTH),
        (-1, PER_MONTH),
        ("40", PER_MONTH),
        ("2026-02-30", PER_MONTH),
        ("soon", PER_YEAR),
        (True, PER_MONTH),
        (1.5, PER_MONTH),
        ([], PER_YEAR),
        (15, PER_DAY),
        (15, PER_MINUTE),
        (date(2026, 1, 1), PER_HOUR),
        (3, PER_WEEK),
        (15, TOTAL),
    ],
)
def test_an_anchor_that_no_window_can_start_at_is_an_error(anchor: Any, frequency: str) -> None:
    with pytest.raises(ConfigurationError, match=r"anchor: invalid value .*; "):
        parse_anchor(anchor, frequency)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "America", "../etc/passwd", "/etc/localtime", "berlin ", 5, "Europe/Berlin\0", "."]
)
def test_an_unknown_time_zone_is_an_error(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"timezone: unknown time zone .*'Europe/Berlin'"):
        parse_timezone(name)


def test_a_time_zone_is_given_by_its_name() -> None:
    assert [parse_timezone(name) for name in (None, "UTC", "Europe/Berlin")] == ["UTC", "UTC", "Europe/Berlin"]
