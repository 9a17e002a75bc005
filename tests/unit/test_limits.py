"""Limits, windows and decisions: arithmetic without a store."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from itertools import pairwise
from typing import Any

import pytest

from token_limit_core import PER_DAY, PER_MONTH, ConfigurationError, Decision, Limit, LimitStatus
from token_limit_core.limits import items_for, judge
from token_limit_core.money import parse_amount, show_usd, to_nano, to_usd
from token_limit_core.pricing import listed_price
from token_limit_core.usage import Usage
from token_limit_core.windows import Window, parse_choice, parse_effective_date, window_of
from token_limit_core.wording import exact_usd

USD = 10**9


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(window: Window) -> tuple[str, str]:
    start, end = (datetime.fromtimestamp(moment, UTC).isoformat()[:16] for moment in window)
    return start, end


# -- windows ----------------------------------------------------------------------------------------

WINDOWS = [
    (PER_DAY, "2026-11-23T00:00:00", "2026-11-23T00:00", "2026-11-24T00:00"),
    (PER_DAY, "2026-11-23T23:59:59.999999", "2026-11-23T00:00", "2026-11-24T00:00"),
    (PER_DAY, "2024-02-29T12:00:00", "2024-02-29T00:00", "2024-03-01T00:00"),
    (PER_DAY, "2026-12-31T12:00:00", "2026-12-31T00:00", "2027-01-01T00:00"),
    (PER_DAY, "2026-03-29T02:30:00", "2026-03-29T00:00", "2026-03-30T00:00"),
    (PER_MONTH, "2026-11-30T23:59:59.999999", "2026-11-01T00:00", "2026-12-01T00:00"),
    (PER_MONTH, "2026-12-01T00:00:00", "2026-12-01T00:00", "2027-01-01T00:00"),
    (PER_MONTH, "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
    (PER_MONTH, "2024-02-29T23:59:59", "2024-02-01T00:00", "2024-03-01T00:00"),
    (PER_MONTH, "2026-02-28T23:59:59", "2026-02-01T00:00", "2026-03-01T00:00"),
    (PER_MONTH, "1970-01-01T00:00:00", "1970-01-01T00:00", "1970-02-01T00:00"),
]


@pytest.mark.parametrize(("frequency", "moment", "start", "end"), WINDOWS)
def test_a_window_is_the_calendar_day_or_month_in_utc(frequency: str, moment: str, start: str, end: str) -> None:
    assert shown(window_of(frequency, at(moment))) == (start, end)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this platform cannot change its time zone")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Pacific/Apia"])
def test_the_time_zone_of_the_machine_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for frequency, moment, start, end in WINDOWS:
            assert shown(window_of(frequency, at(moment))) == (start, end)
        assert parse_effective_date("2026-03-29", 0) == at("2026-03-29")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("frequency", [PER_DAY, PER_MONTH])
def test_windows_follow_each_other_without_a_gap(frequency: str) -> None:
    moments = [at("2023-12-25") + 43_200 * step for step in range(2 * 1000)]
    windows = sorted({window_of(frequency, moment) for moment in moments})
    assert all(before.end == after.start for before, after in pairwise(windows))
    assert all(any(window.start <= moment < window.end for window in windows) for moment in moments[::97])


def test_an_unknown_frequency_is_an_error_with_the_choices() -> None:
    with pytest.raises(ConfigurationError, match=r"frequency: invalid value 'per_fortnight'.*'per_day', 'per_week'"):
        window_of("per_fortnight", 0.0)
    with pytest.raises(ConfigurationError, match=r"mode: invalid value 'strict'.*'observe', 'enforce'"):
        parse_choice("strict", ("observe", "enforce"), "mode")


# -- amounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "nano"),
    [
        (0, 0),
        (25, 25 * USD),
        ("9.99", 9_990_000_000),
        (" 5 ", 5 * USD),
        (Decimal("0.000000001"), 1),
        (0.1, 100_000_000),
        (1e-9, 1),
        (10**9, 10**18),
        (Decimal("0.0000000005"), 0),
        (Decimal("0.0000000015"), 2),
        ("1e-999999999999", 0),  # at once
        ("0e-999999999999", 0),
    ],
)
def test_amounts_are_dollars_kept_to_the_nano_dollar(given: Any, nano: int) -> None:
    assert parse_amount(given) == nano


@pytest.mark.parametrize(
    "given",
    [
        "NaN",
        float("nan"),
        "Infinity",
        float("inf"),
        -1,
        "-0.01",
        10**9 + 1,
        "1e12",
        True,
        False,
        "ten",
        "",
        None,
        [],
        1j,
    ],
)
def test_what_is_no_amount_is_an_error_that_names_the_setting(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="^limit_usd: "):
        parse_amount(given)


@pytest.mark.parametrize("nano", [0, 1, 999, USD, 123_456_789_012, 10**18])
def test_nano_dollars_and_dollars_are_exact(nano: int) -> None:
    assert to_nano(to_usd(nano)) == nano


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "$0.00"), ("1234.5", "$1,234.50"), ("0.0042", "$0.0042"), ("0.0000424", "$0.000042"), ("25", "$25.00")],
)
def test_dollars_are_written_for_people(amount: str, text: str) -> None:
    assert show_usd(Decimal(amount)) == text


# -- when a limit begins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        (None, 1234.5),
        ("2027-01-31", at("2027-01-31")),
        ("2027-01-31T10:30", at("2027-01-31T10:30")),
        ("2027-01-31T10:30:00Z", at("2027-01-31T10:30")),
        ("2027-01-31T10:30+02:00", at("2027-01-31T08:30")),
        (date(2027, 1, 31), at("2027-01-31")),
        (datetime(2027, 1, 31, 10, 30), at("2027-01-31T10:30")),
        (datetime(2027, 1, 31, 10, 30, tzinfo=timezone(timedelta(hours=2))), at("2027-01-31T08:30")),
    ],
)
def test_an_effective_date_is_a_date_a_datetime_or_iso_text(given: Any, moment: float) -> None:
    assert parse_effective_date(given, 1234.5) == moment


@pytest.mark.parametrize("given", ["tomorrow", "31.01.2027", "", 5, 1.5, True])
def test_what_is_no_date_is_an_error_that_names_the_setting(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="^effective_date: "):
        parse_effective_date(given, 0)


def test_only_limits_in_force_are_held_on_in_one_order() -> None:
    now = at("2026-11-23")
    over, coming = Limit("a", USD, effective_until=now, id=1), Limit("a", USD, effective_from=now + 1, id=2)
    day, month = Limit("a", USD, PER_DAY, id=4), Limit("a", USD, effective_from=now, id=3)

    assert [item.limit for item in items_for([day, coming, month, over], "a", now)] == [month, day]


# -- decisions --------------------------------------------------------------------------------------


def status(settled: int, held: int, amount: int = 5 * USD) -> LimitStatus:
    return LimitStatus(Limit("acme", amount), window_of(PER_MONTH, at("2026-11-23")), settled, held)


@pytest.mark.parametrize(
    ("settled", "held", "kind"),
    [
        (0, 0, None),
        (5 * USD - 1, 0, None),
        (5 * USD, 0, "exhausted"),
        (6 * USD, 0, "exhausted"),
        (0, 5 * USD, "busy"),
        (4 * USD, USD, "busy"),
        (5 * USD, USD, "exhausted"),
    ],
)
def test_spent_is_exhausted_and_only_held_is_busy(settled: int, held: int, kind: str | None) -> None:
    decision = judge(status(settled, held), "acme", at("2026-11-23"))

    assert (None if decision is None else decision.kind) == kind


def test_a_limit_of_zero_is_exhausted_at_once() -> None:
    decision = judge(status(0, 0, amount=0), "acme", at("2026-11-23"))

    assert decision is not None
    assert decision.kind == "exhausted"


def test_a_decision_carries_the_facts() -> None:
    decision = judge(status(2 * USD, 4 * USD), "acme", at("2026-11-23"))

    assert decision is not None
    assert (decision.tenant_id, decision.limit_usd, decision.spent_usd, decision.held_usd) == ("acme", 5, 2, 4)
    assert (decision.remaining_usd, decision.retry_after, decision.frequency) == (0, 1, PER_MONTH)
    assert decision.resets_at == at("2026-12-01")
    assert not decision.admitted


def test_what_remains_is_never_negative() -> None:
    assert status(7 * USD, 0).remaining_usd == 0
    assert status(USD, USD).remaining_usd == 3
    assert Decision("exhausted").remaining_usd is None


FACTS: dict[str, Any] = {
    "tenant_id": "a",
    "limit_usd": Decimal(5),
    "spent_usd": Decimal("5.01"),
    "held_usd": Decimal(0),
}


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (
            Decision("exhausted", **FACTS, frequency=PER_MONTH, resets_at=1796083200),
            "The monthly limit of $5.00 is used up ($5.01 spent). It resets on 01 December 2026 00:00 UTC.",
        ),
        (Decision("exhausted", **FACTS, frequency=PER_DAY), "The daily limit of $5.00 is used up ($5.01 spent)."),
        (
            Decision("does_not_fit", **FACTS, frequency=PER_DAY),
            "This call may cost more than what is left of the daily limit of $5.00 ($0.00 left).",
        ),
        (
            Decision("busy", **FACTS, frequency=PER_DAY, resets_at=1796083200),
            "Calls in flight hold what is left of the daily limit of $5.00; try again in a moment.",
        ),
        (Decision("unverifiable"), "The spend limit cannot be checked right now; try again in a moment."),
        (
            Decision("no_tenant"),
            "It is not known whose account would pay for this call; sign in or choose an account, and try again.",
        ),
        (Decision("admitted"), "Admitted."),
    ],
)
def test_a_decision_explains_itself(decision: Decision, text: str) -> None:
    assert decision.explain() == text


def test_money_is_exact_in_an_application_that_calculates_with_few_digits() -> None:
    with localcontext(Context(prec=3)):
        assert parse_amount("1234567.891234567") == 1_234_567_891_234_567
        assert to_usd(1_234_567_891_234_567) == Decimal("1234567.891234567")
        assert show_usd(Decimal("1234567.891")) == "$1,234,567.89"
        assert exact_usd(1_234_567_891_234_567) == "$1,234,567.891234567"
        decision = Decision("exhausted", limit_usd=Decimal("1234567.89"), spent_usd=Decimal("0.01"))
        assert decision.remaining_usd == Decimal("1234567.88")
        price = listed_price("openai", "whisper-1", 1_790_000_000)
        assert price is not None
        assert price.of_usage(Usage(duration_seconds=1234.567)) == 123_456_700
