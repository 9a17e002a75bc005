"""Settings, clocks and amounts at their edges: clear errors, no secrets, limits that hold, words that read well."""

from __future__ import annotations

import datetime
import logging
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import freezegun
import pytest
import time_machine

from token_limit_core import ConfigurationError, LimitExceededException, Meter, MeterConfig
from token_limit_core.errors import refusal
from token_limit_core.limits import Decision, Limit, LimitStatus, judge
from token_limit_core.money import show_usd, to_usd
from token_limit_core.stores import open_store
from token_limit_core.testing.clock import Clock
from token_limit_core.upgrade import context, problem
from token_limit_core.windows import Window

SECRET = "hunter2-s3cr3t"

# -- secrets ----------------------------------------------------------------------------------------

WRONG: dict[str, list[Any]] = {
    "api_key": [f"{SECRET}\n", f" {SECRET}", f"{SECRET}\r\nX-Evil: 1", f"{SECRET}é", f"{SECRET}\0", [SECRET]],
    "url": [f"ftp://u:{SECRET}@host/", f"https://u:{SECRET}@[half", f"https://u:{SECRET}@host/\nx", [SECRET]],
    "thresholds_url": [f"ftp://u:{SECRET}@host/", {SECRET: 1}],
    "check_url": [f"https://u:{SECRET}@host:port/", SECRET.encode()],
    "store": [f"oracle://u:{SECRET}@host/db", f"postgresql+psycopg://u:{SECRET}@h@st/db", [SECRET], SECRET.encode()],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, some in WRONG.items() for value in some])
def test_an_error_names_the_setting_and_never_its_secret(name: str, value: Any) -> None:
    home = {"url": "https://limits.example.com/events"} if name != "store" else {}
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as wrong:
        Meter(MeterConfig(**{**home, name: value}))
    assert SECRET not in str(wrong.value)


def test_no_secret_is_in_what_a_meter_shows(tmp_path: Path) -> None:
    url = f"https://u:{SECRET}@127.0.0.1:9/events?token={SECRET}"
    config = MeterConfig(url=url, check_url=url, thresholds_url=url, api_key=SECRET, store=f"sqlite:///{tmp_path}/l.db")
    with Meter(config) as meter:
        shown = [repr(config), repr(meter.store), str(meter.store), repr(meter.status()), *meter.store.destinations]
    assert SECRET not in " ".join(shown)


def test_no_secret_is_in_what_is_logged_of_a_store_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    store = f"postgresql+psycopg://postgres:{SECRET}@127.0.0.1:9/nothing?connect_timeout=1"
    with caplog.at_level(logging.DEBUG), Meter(MeterConfig(store=store, journal="/dev/null/nothing")) as meter:
        meter.track_manually(provider="openai", model="gpt-4o-mini", tenant_id="acme")
    assert caplog.text
    assert SECRET not in caplog.text


# -- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clock",
    [
        lambda: time.time() * 1000,
        lambda: time.time_ns(),
        lambda: "now",
        lambda: None,
        lambda: float("nan"),
        lambda: -1.0,
        lambda: datetime.datetime.now(datetime.UTC),
    ],
    ids=["milliseconds", "nanoseconds", "text", "nothing", "nan", "negative", "datetime"],
)
def test_a_clock_that_gives_no_unix_seconds_is_an_error_at_the_start(clock: Any) -> None:
    with pytest.raises(ConfigurationError, match="^clock: invalid time .*expected unix seconds"):
        MeterConfig(clock=clock)


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{}/ledger.db"])
@pytest.mark.parametrize("behind", [1.0, 3600.0, 86400.0 * 40])
def test_a_limit_holds_on_a_host_whose_clock_is_behind(store: str, behind: float, tmp_path: Path) -> None:
    ahead, late = Clock(), Clock()
    late.advance(-behind)
    shared = open_store(store.format(tmp_path))
    with (
        Meter(MeterConfig(store=shared, clock=ahead)) as one,
        Meter(MeterConfig(store=shared, clock=late, default_limit_usd=0)) as other,
    ):
        one.set_limit("acme", 0)
        for tenant in ("acme", "new"):
            other.track_manually(provider="openai", model="gpt-4o-mini", tenant_id=tenant)
            with other.for_tenant(tenant), pytest.raises(LimitExceededException):
                other.check_limit()


def test_a_limit_that_begins_later_does_not_hold_earlier() -> None:
    clock = Clock()
    with Meter(MeterConfig(store="memory://", clock=clock)) as meter, meter.for_tenant("acme"):
        meter.set_limit("acme", 0, effective_date=datetime.datetime.fromtimestamp(clock() + 60, datetime.UTC))
        meter.check_limit()
        clock.advance(60)
        with pytest.raises(LimitExceededException):
            meter.check_limit()


@pytest.mark.parametrize("frozen_by", ["freezegun", "time_machine"])
def test_frozen_time_moves_windows_and_events(frozen_by: str) -> None:
    first, second = (datetime.datetime(2026, 6, day, 12, tzinfo=datetime.UTC) for day in (1, 2))
    freeze: Any
    if frozen_by == "freezegun":
        freeze = freezegun.freeze_time(
            first, ignore=["cohere"]
        )  # its lazy modules would be imported with a false clock
    else:
        freeze = time_machine.travel(first, tick=False)
    with freeze as frozen, Meter(MeterConfig(store="memory://")) as meter:
        meter.set_limit("acme", "0.01", "per_day")
        event = meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=100_000, tenant_id="acme")
        assert event.timestamp == first.timestamp()
        with meter.for_tenant("acme"):
            with pytest.raises(LimitExceededException):
                meter.check_limit()
            frozen.move_to(second)
            meter.check_limit()


# -- amounts and words ------------------------------------------------------------------------------


def test_nothing_is_a_plain_zero() -> None:
    assert str(to_usd(0)) == "0"
    with Meter(MeterConfig(store="memory://")) as meter:
        meter.set_limit("acme", 0)
        (status,) = meter.usage("acme")
        assert [str(usd) for usd in (status.spent_usd, status.held_usd, status.remaining_usd)] == ["0"] * 3
        assert str(status.limit.limit_usd) == "0"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0.000000001", "$0.000000001"), ("0.0000005", "$0.0000005"), ("0.00049", "$0.00049"), ("0.5", "$0.50")],
)
def test_an_amount_below_a_cent_is_shown_with_its_digits(amount: str, shown: str) -> None:
    assert show_usd(Decimal(amount)) == shown
    reached = Decision("exhausted", "acme", limit_usd=Decimal(amount), spent_usd=Decimal(amount), frequency="per_day")
    assert f"limit of {shown} " in reached.explain()


def exhausted(amount: int) -> Decision:
    status = LimitStatus(Limit("acme", amount), Window(1_800_000_000, 1_802_000_000), amount, 0)
    decision = judge(status, "acme", 1_801_000_000)
    assert decision is not None
    return decision


def test_a_limit_of_nothing_promises_no_reset() -> None:
    decision = exhausted(0)
    assert str(refusal(decision)) == "This account has no AI allowance."
    assert "resets_at" not in problem(decision)
    assert context(decision)["resets"] is None
    assert "resets" in exhausted(5 * 10**9).explain()


@pytest.mark.parametrize("kind", ["exhausted", "does_not_fit", "busy"])
def test_a_refusal_of_a_plain_backend_reads_well(kind: Any) -> None:
    said = Decision(kind, "acme").explain()
    assert "unknown" not in said
    assert "limit of the limit" not in said
    assert "spend limit" in said
