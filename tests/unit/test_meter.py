"""What an application holds: limits, manual events, health, and an end."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from datetime import UTC, datetime
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import token_limit_core
from tests.unit.acme import Client
from tests.waiting import PATIENCE, threads_started
from token_limit_core import (
    PER_DAY,
    PER_MONTH,
    ConfigurationError,
    LimitExhausted,
    LLMEvent,
    Meter,
    MeterConfig,
    pricing,
)
from token_limit_core.config import CONFIG_FIELDS
from token_limit_core.meter import engine_of
from token_limit_core.pricing import price_list
from token_limit_core.runtime.faults import raise_on_error
from token_limit_core.stores.queries import EventQuery
from token_limit_core.testing import Clock


def manual(meter: Meter, **fields: Any) -> LLMEvent:
    given = {"provider": "openai", "model": "gpt-4o-mini", "input_tokens": 1000, "output_tokens": 100}
    return meter.track_manually(**{**given, **fields})


def spent(meter: Meter, tenant_id: str) -> tuple[int, int]:
    spend = meter.store.spend(tenant_id, 0, meter.config.clock() + 1)
    return spend.calls, spend.cost_nano


# -- limits -----------------------------------------------------------------------------------------


def test_setting_a_limit_again_changes_it_and_keeps_what_was_spent(meter: Meter) -> None:
    first = meter.set_limit("a", 5)
    manual(meter, tenant_id="a")
    again = meter.set_limit("a", "7.5", mode="observe")

    (limit,) = meter.limits("a")
    assert (first.id, limit) == (again.id, again)
    assert (limit.limit_usd, limit.frequency, limit.mode) == (Decimal("7.5"), PER_MONTH, "observe")
    (status,) = meter.usage("a")
    assert (status.spent_usd, status.held_usd) == (Decimal("0.00021"), 0)
    assert status.remaining_usd == Decimal("7.49979")


def test_a_day_and_a_month_limit_coexist_and_can_be_removed_apart(meter: Meter) -> None:
    meter.set_limit("a", 5)
    meter.set_limit("a", 1, PER_DAY)
    meter.set_limit("b", 1)
    assert {limit.frequency for limit in meter.limits("a")} == {PER_DAY, PER_MONTH}
    assert meter.remove_limit("a", PER_DAY) == 1
    assert [limit.frequency for limit in meter.limits("a")] == [PER_MONTH]
    assert meter.remove_limit("a") == 1
    assert meter.remove_limit("a") == 0
    assert len(meter.limits("b")) == 1


def test_a_limit_set_in_the_middle_of_a_window_starts_from_what_was_spent(meter: Meter) -> None:
    manual(meter, tenant_id="a")
    meter.set_limit("a", "0.0002")
    assert meter.usage("a")[0].spent_usd == Decimal("0.00021")
    with meter.for_tenant("a"), pytest.raises(LimitExhausted):
        Client().generate("hi")


def test_a_limit_that_begins_later_leaves_the_earlier_one_in_force_until_then(
    acme: None, token_limit_clock: Clock
) -> None:
    token_limit_clock.set(datetime(2026, 11, 23, tzinfo=UTC))
    with Meter(MeterConfig(store="memory://", patches=["acme"], clock=token_limit_clock)) as meter:
        meter.patch_all()
        meter.set_limit("a", 5)
        meter.set_limit("a", 0, effective_date="2026-11-24")
        with meter.for_tenant("a"):
            Client().generate("hi")
            token_limit_clock.advance(86400)
            with pytest.raises(LimitExhausted):
                Client().generate("hi")
        assert [limit.limit_usd for limit in meter.limits("a")] == [5, 0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("a", "NaN"), "limit_usd"),
        (("a", -1), "limit_usd"),
        (("a", True), "limit_usd"),
        (("a", 10**10), "limit_usd"),
        (("a", 5, "per_fortnight"), "frequency"),
        (("a", 5, PER_DAY, "soon"), "effective_date"),
        ((None, 5), "tenant_id"),
    ],
)
def test_a_limit_that_makes_no_sense_is_an_error_that_names_the_argument(
    meter: Meter, arguments: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        meter.set_limit(*arguments)
    assert meter.limits("a") == []


def test_a_mode_that_is_not_there_is_a_clear_error(meter: Meter) -> None:
    with pytest.raises(ConfigurationError, match=r"mode: invalid value 'lax'; expected 'observe', 'enforce', 'strict'"):
        meter.set_limit("a", 5, mode="lax")
    with pytest.raises(ConfigurationError, match="frequency"):
        meter.remove_limit("a", "per_fortnight")


# -- events recorded by hand ------------------------------------------------------------------------


def test_a_manual_event_is_priced_stored_and_returned(meter: Meter, events: list[LLMEvent]) -> None:
    meter.set_limit("a", 5)
    with meter.for_tenant("a", session_id="s", user="ann"):
        event = manual(meter, cached_tokens=400, feature="search", tags={"k": "v"}, request_id="r1")

    assert events == [event]
    assert (event.tenant_id, event.session_id, event.user, event.feature) == ("a", "s", "ann", "search")
    assert (event.endpoint, event.total_tokens, event.request_id, event.tags) == ("manual", 1100, "r1", {"k": "v"})
    assert event.cost_usd == Decimal("0.00018")
    assert spent(meter, "a") == (1, 180_000)
    assert meter.usage("a")[0].settled == 180_000


def test_a_manual_event_may_name_its_tenant_and_every_field(meter: Meter) -> None:
    told = {"duration_ms": 12.5, "stream": True, "error": "Timeout 504", "session_id": "s2", "endpoint": "chat"}
    with meter.for_tenant("a", session_id="s"):
        event = manual(meter, tenant_id="b", event_id="e1", timestamp=1_700_000_000, image_count=2, **told)

    assert event.tenant_id == "b"
    assert {name: getattr(event, name) for name in told} == told
    assert (event.event_id, event.timestamp, event.image_count) == ("e1", 1_700_000_000, 2)
    assert manual(meter).duration_ms is None


@pytest.mark.parametrize("seconds", [1_800_021_600_000, -1e12, float("nan"), float("inf"), 1e30, "yesterday", None])
def test_a_manual_event_of_an_impossible_time_is_refused(meter: Meter, seconds: Any) -> None:
    """Milliseconds taken for seconds would be in a window of their own, and every list that shows times would fail."""
    with pytest.raises(ConfigurationError, match="timestamp"):
        manual(meter, tenant_id="a", timestamp=seconds)
    assert meter.store.spend("a", 0, 2e9).calls == 0


def test_a_manual_event_with_an_id_counts_once(meter: Meter) -> None:
    manual(meter, tenant_id="a", event_id="e1")
    manual(meter, tenant_id="a", event_id="e1")
    assert spent(meter, "a") == (1, 210_000)


@pytest.mark.parametrize("cost", ["0.5", 0.5, Decimal("0.5")], ids=repr)
def test_a_cost_that_is_given_wins(meter: Meter, cost: Any) -> None:
    event = manual(meter, tenant_id="a", model="nobody knows", cost_usd=cost)
    assert event.cost_usd == Decimal("0.5")
    assert spent(meter, "a") == (1, 500_000_000)


def test_a_cost_of_zero_is_a_cost(meter: Meter) -> None:
    assert manual(meter, cost_usd=0).cost_usd == 0


def test_an_unknown_model_is_billed_at_an_assumed_price(meter: Meter) -> None:
    event = manual(meter, tenant_id="a", model="nobody knows")
    assert event.cost_usd is not None
    assert event.price_source == "assumed"
    assert "the dearest text model of openai" in event.tags["price_assumed"]
    assert meter.status()["counts"] == {"events": 1, "assumed": 1}


@pytest.mark.parametrize("policy", ["free", "refuse"])
def test_an_unknown_model_has_no_cost_if_none_is_to_be_assumed(policy: Any) -> None:
    with Meter(MeterConfig(store="memory://", on_unpriced=policy)) as meter:
        assert manual(meter, tenant_id="a", model="nobody knows").cost_usd is None
        assert meter.store.spend("a", 0, meter.config.clock() + 1).unpriced == 1
        assert meter.status()["counts"] == {"events": 1, "unpriced": 1}


def test_unknown_fields_are_dropped_with_a_debug_log(meter: Meter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "token_limit"):
        event = manual(meter, prompt="secret", temperature=1)
    assert not hasattr(event, "prompt")
    assert "'prompt'" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("wrong", [{"input_tokens": "10"}, {"output_tokens": -1}, {"cached_tokens": 1.5}])
def test_a_count_that_is_none_is_an_error_that_names_it(meter: Meter, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
        manual(meter, **wrong)


def test_a_manual_event_without_a_tenant_is_nobodys(meter: Meter) -> None:
    assert manual(meter).tenant_id == ""
    assert spent(meter, "") == (1, 210_000)


async def test_on_an_event_loop_a_manual_event_is_written_by_the_settlers_thread(tmp_path: Path) -> None:
    threads: list[str] = []
    config = MeterConfig(
        store=f"sqlite:///{tmp_path}/ledger.db",
        on_event=lambda event: threads.append(threading.current_thread().name),
    )
    with Meter(config) as meter:
        event = manual(meter, tenant_id="a")
        assert await asyncio.to_thread(meter.flush, PATIENCE)
        assert event.cost_usd == Decimal("0.00021")
        assert await asyncio.to_thread(spent, meter, "a") == (1, 210_000)
    assert threads == ["token-limit-settler"]


def test_an_event_loop_does_not_wait_for_the_price_list(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded_by: list[threading.Thread] = []
    load = pricing.load

    def noted() -> None:
        loaded_by.append(threading.current_thread())
        load()

    monkeypatch.setattr(pricing, "load", noted)
    monkeypatch.setattr(price_list, "_compiled", {})
    price_list._find.cache_clear()
    for _ in range(2):
        with meter.for_tenant("a"):
            asyncio.run(Client().agenerate("hi"))

    assert len(loaded_by) == 1
    assert loaded_by[0] is not threading.current_thread()
    assert spent(meter, "a") == (2, 42_000)


def test_settings_are_shown_without_their_secrets() -> None:
    config = MeterConfig(store="postgresql+psycopg://u:SECRET@localhost/d")
    assert "SECRET" not in repr(config)
    assert "SECRET" not in repr(MeterConfig(api_key="SECRET", url="https://limits.example.com/events"))


def test_a_tenant_that_is_first_heard_of_by_hand_has_the_default_limit_too() -> None:
    with Meter(MeterConfig(store="memory://", patches=[], default_limit_usd=5)) as meter:
        manual(meter, tenant_id="a")
        manual(meter)
        assert [limit.limit_usd for limit in meter.limits("a")] == [5]
        assert meter.limits("") == []


@pytest.mark.parametrize("cost", [10**6 + 1, "1e9"])
def test_a_cost_that_no_call_has_is_refused(meter: Meter, cost: Any) -> None:
    with pytest.raises(ConfigurationError, match="cost_usd: .* is out of range"):
        manual(meter, cost_usd=cost)


# -- what happens on the way ------------------------------------------------------------------------


def test_on_event_that_fails_is_ours_to_survive(
    acme: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: LLMEvent) -> None:
        raise ZeroDivisionError

    with Meter(MeterConfig(store="memory://", patches=["acme"], on_event=fail)) as meter:
        meter.patch_all()
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
        with meter.for_tenant("a"):
            assert Client().generate("hi")["tokens_in"] == 100
        assert "calling on_event" in caplog.text
        assert spent(meter, "a") == (1, 21_000)


def test_what_on_event_does_with_an_event_changes_no_record(acme: None) -> None:
    def make_anonymous(event: LLMEvent) -> None:
        assert vars(event)["cost_usd"] is not None
        event.tenant_id, event.cost_usd = "anonymous", None
        event.tags["seen"] = True

    config = MeterConfig(store="memory://", patches=["acme"], on_event=make_anonymous)
    with Meter(config).patch_all() as meter, meter.for_tenant("a"):
        Client().generate("hi")
        told = meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1)
        told.tenant_id = "b"
        kept = [row.entry.event for row in meter.store.events(EventQuery())]

    assert [event.tenant_id for event in kept] == ["a", "a"]
    assert all("seen" not in event.tags and event.cost_usd is not None for event in kept)


def test_on_event_may_flush_without_waiting_for_itself(acme: None) -> None:
    flushed: list[bool] = []
    meter = Meter(MeterConfig(store="memory://", on_event=lambda event: flushed.append(meter.flush(5))))
    engine_of(meter).settler.start()
    engine_of(meter).settler.put(lambda: manual(meter))
    assert meter.flush(PATIENCE)
    meter.close()
    assert flushed == [False]


@pytest.mark.parametrize("debug", [True, False])
def test_debug_logs_each_event_where_ordinary_logging_shows_it(caplog: pytest.LogCaptureFixture, debug: bool) -> None:
    with Meter(MeterConfig(store="memory://", debug=debug)) as meter, caplog.at_level(logging.INFO, "token_limit"):
        event = manual(meter)
    assert (event.event_id in caplog.text) is debug


def test_raise_on_error_shows_our_own_faults(acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(event: LLMEvent) -> None:
        raise ZeroDivisionError

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    try:
        meter = Meter(MeterConfig(store="memory://", on_event=fail, raise_on_error=True))
        with pytest.raises(ZeroDivisionError):
            manual(meter)
        meter.close()
    finally:
        raise_on_error(False)


# -- health and end ---------------------------------------------------------------------------------


def test_status_tells_what_is_guarded_and_counted(meter: Meter, events: list[LLMEvent]) -> None:
    Client().generate("hi")
    status = meter.status()

    acme = {"state": "installed", "sdk": None, "version": None, "guards": [], "not_guarded": []}
    assert status["patches"]["acme"] == acme
    sdks = {name: (patch["sdk"], patch["version"]) for name, patch in status["patches"].items()}
    assert sdks["openai"] == sdks["openrouter"] == ("openai", metadata.version("openai"))
    assert sdks["google"] == ("google.genai", metadata.version("google-genai"))
    assert {"chat.completions", "responses", "audio.speech", "batches"} <= set(status["patches"]["openai"]["guards"])
    assert "realtime.connect" in status["patches"]["openai"]["not_guarded"]
    assert (status["store"], status["durable"]) == ("MemoryStore", False)
    assert status["counts"] == {"unattributed": 1, "events": 1}
    assert (status["settles_waiting"], status["settles_lost"]) == (0, 0)


def test_flush_without_anything_to_do_starts_no_thread(meter: Meter) -> None:
    with threads_started() as started:
        assert meter.flush() is True
    assert started == []


def test_flush_gives_up_after_its_time(meter: Meter) -> None:
    gate = threading.Event()
    engine_of(meter).settler.start()
    engine_of(meter).settler.put(gate.wait)
    assert meter.flush(0.01) is False
    gate.set()
    assert meter.flush(PATIENCE) is True


def test_close_unpatches_settles_and_ends_the_thread_and_may_be_repeated(
    acme: None, events: list[LLMEvent], tmp_path: Path
) -> None:
    original = Client.__dict__["generate"]
    url = f"sqlite:///{tmp_path}/ledger.db"
    with threads_started() as started:
        meter = Meter(MeterConfig(store=url, patches=["acme"])).patch_all()
        asyncio.run(Client().agenerate("hi"))
        engine_of(meter).settler.put(lambda: manual(meter, tenant_id="a"))
        meter.close()
        meter.close()

    assert Client.__dict__["generate"] is original
    (settler,) = (thread for thread in started if thread.name == "token-limit-settler")
    assert not settler.is_alive()
    with Meter(MeterConfig(store=url)) as reader:
        assert spent(reader, "a") == (1, 210_000)
        assert spent(reader, "")[0] == 1


def test_a_meter_nobody_holds_goes_away() -> None:
    meter = weakref.ref(Meter(MeterConfig(store="memory://")))
    gc.collect()
    assert meter() is None


def test_what_settles_where_no_thread_can_be_started_is_settled_by_flush(
    meter: Meter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    asyncio.run(Client().agenerate("hi"))
    engine_of(meter).settler.put(lambda: manual(meter, tenant_id="a"))
    assert meter.flush() is True
    assert spent(meter, "a") == (1, 210_000)
    assert "cannot be started" in caplog.text


# -- settings ---------------------------------------------------------------------------------------

DEFAULTS = {
    "api_key": None,
    "url": None,
    "flush_interval": 5.0,
    "max_batch_size": 50,
    "max_queue_size": 1000,
    "limit_check_cache_ttl": 5.0,
    "debug": False,
    "raise_on_error": False,
    "on_event": None,
    "on_flush_error": None,
    "on_no_tenant": "allow",
}


def test_the_defaults_are_as_published() -> None:
    config = MeterConfig()
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


def test_the_default_store_is_a_file_made_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Meter() as meter:
        assert list(tmp_path.iterdir()) == []
        meter.set_limit("a", 5)
        assert (tmp_path / "token_limit.db").exists()


NO_SECONDS: list[Any] = [0, -1, "5", True, None, float("nan"), float("inf"), 1e300]
NO_COUNTS: list[Any] = [0, -1, 2.5, "50", True, None]
OF_NO_USE: dict[str, list[Any]] = {
    "api_key": [5, b"k1", ""],
    "url": [5, "", "example.com/ingest", "http://[half", "http://host:port/"],
    "thresholds_url": [5, "", "nothing"],
    "check_url": [5, "", "nothing"],
    "spool": [5, ""],
    "flush_interval": NO_SECONDS,
    "hold_seconds": NO_SECONDS,
    "limit_check_cache_ttl": NO_SECONDS[1:],
    "max_batch_size": NO_COUNTS,
    "max_queue_size": NO_COUNTS,
    "debug": ["no", 1, None],
    "raise_on_error": ["no", 1, None],
    "capture_content": ["no", 1, None],
    "propagate_threads": ["no", 1, None],
    "on_event": ["print", 5],
    "on_refusal": ["print", 5],
    "markup": [20, "20"],
    "on_threshold": ["print", 5],
    "thresholds": [50, ["50"], [0], [1001], [50.0], None],
    "webhook_url": [5, "", "example.com/hook", "ftp://example.com"],
    "webhook_secret": [5, ""],
    "on_flush_error": ["print", 5],
    "clock": [3, None, "time.time"],
    "patches": ["openai", [5], [""], 5],
    "store": [5, "", b"memory://"],
    "hosts": [["localhost"], {"localhost": 5}, {"": "openai"}, None],
    "default_limit_usd": [-1, "lots", "NaN", 10**10, True],
    "default_plan": ["", " pro ", "x" * 65, 5, ["pro"]],
    "on_no_tenant": ["maybe", "refused", "block", "", None, 5],
    "busy_wait": NO_SECONDS[1:],
    "lease_seconds": [*NO_SECONDS[1:], 61],
    "on_unguarded": ["shout", None, 5],
    "on_overrun": ["stop", None, 5],
    "prices": ["gpt-4o", {"m": 5}, {"m": {"inptu": 1}}, {5: "gpt-4o"}, None],
    "on_unpriced": ["guess", None, 5],
    "fallback_price": [5, (5,), (5, -1), (5, None), ("a", 5), None],
    "on_store_error": ["ignore", None, 5],
    "outage_allowance_usd": [-1, "lots", None, 10**10, True],
    "store_timeout": NO_SECONDS,
    "journal": [5, ""],
}
"""What each setting of a Meter refuses."""


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OF_NO_USE.items() for value in values], ids=repr
)
def test_a_setting_of_no_use_is_an_error_that_names_it(name: str, value: Any) -> None:
    at_home = {"url": "https://limits.example.com/events", "spool": None}
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        MeterConfig(**{**at_home, name: value})


def test_a_key_of_no_use_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="^api_key: invalid value; expected the key"):
        MeterConfig(api_key=b"secret")  # type: ignore[arg-type]


def test_every_setting_is_checked() -> None:
    assert set(OF_NO_USE) == set(CONFIG_FIELDS)


@pytest.mark.parametrize("store", ["gopher://x", "nonsense", 5])
def test_a_store_that_cannot_be_is_an_error(store: Any) -> None:
    with pytest.raises(ConfigurationError, match="^store: "):
        Meter(MeterConfig(store=store))


def test_the_public_names_are_there() -> None:
    for name in ("PER_DAY", "PER_MONTH", "Meter", "MeterConfig", "LLMEvent", "LimitExceededException"):
        assert name in token_limit_core.__all__
    assert all(hasattr(token_limit_core, name) for name in token_limit_core.__all__)
