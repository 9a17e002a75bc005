"""A Meter whose limits live at a remote backend: what is refused, and what is delivered, whatever the backend does."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest

from tests.remote import backend as does
from tests.remote.backend import Backend
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, Meter, MeterConfig, StoreError, TenantBusy
from token_limit_core.calls.flow import depart, land
from token_limit_core.calls.request import Outcome, Request
from token_limit_core.console import tenant_usage as own
from token_limit_core.delivery import transport
from token_limit_core.delivery.spool import Spool
from token_limit_core.errors import EventsLost, KeptElsewhere
from token_limit_core.meter import engine_of
from token_limit_core.runtime import log_throttle
from token_limit_core.testing.clock import Clock
from token_limit_core.usage import Usage

MODEL = "gpt-4o-mini"
MILLION = Outcome(usage=Usage(input_tokens=1_000_000, output_tokens=0))
MILLION_COSTS = Decimal("0.15")

Make = Callable[..., Meter]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(transport, "LONGEST_WAIT_SECONDS", 0.05)


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(backend: Backend, clock: Clock) -> Iterator[Make]:
    made: list[Meter] = []

    def factory(**settings: Any) -> Meter:
        made.append(Meter(MeterConfig(**{"url": backend.url, "api_key": "k1", "clock": clock, **settings})))
        return made[-1]

    yield factory
    backend.late.set()
    backend.scripts.clear()
    for meter in made:
        meter.close()


def call(meter: Meter, tenant_id: str = "acme", outcome: Outcome = MILLION, size: int = 4) -> None:
    with meter.for_tenant(tenant_id):
        land(depart(engine_of(meter), Request("openai", MODEL, "chat.completions", size=size)), outcome)


def test_what_is_polled_again_after_its_delivery_counts_once(make: Make, backend: Backend) -> None:
    meter = make()
    asks = Request("openai", MODEL, "responses", later=True)
    told = Outcome(usage=Usage(input_tokens=1_000_000, output_tokens=0), event_id="of-the-response")
    for _ in range(3):
        with meter.for_tenant("acme"):
            land(depart(engine_of(meter), asks), told)
        assert meter.flush(PATIENCE)
    call(meter)
    assert meter.flush(PATIENCE)

    assert len(backend.events) == 2
    assert meter.status()["counts"]["events"] == 2


def test_events_arrive_with_the_key_as_gzip_json(make: Make, backend: Backend) -> None:
    meter = make()
    call(meter)

    assert meter.flush(PATIENCE)
    (event,) = backend.events.values()
    assert (event["tenant_id"], event["input_tokens"], Decimal(event["cost_usd"])) == ("acme", 1_000_000, MILLION_COSTS)
    assert {authorization for _, _, authorization in backend.seen} == {"Bearer k1"}


def test_a_limit_that_is_reached_at_the_backend_refuses(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal(0)
    with pytest.raises(LimitExhausted) as refused:
        call(make())

    assert refused.value.decision.limit_usd == 0
    assert backend.events == {}


def test_the_published_backends_answer_has_no_figures(make: Make, backend: Backend) -> None:
    backend.answer_check = lambda tenant_id: {"limit_exceeded": True, "remaining_tokens": 0}
    with pytest.raises(LimitExhausted) as refused:
        call(make())

    assert refused.value.decision.limit_usd is None
    assert refused.value.decision.status == 402


def test_a_burst_inside_the_ttl_trips(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal("0.45")  # three calls
    meter = make(limit_check_cache_ttl=3600)
    for _ in range(3):
        call(meter)
    with pytest.raises(LimitExhausted) as refused:
        call(meter)

    assert backend.requests("GET") == 1
    assert refused.value.decision.spent_usd == Decimal("0.45")


def test_a_burst_trips_where_the_backend_counts_tokens(make: Make, backend: Backend) -> None:
    backend.answer_check = lambda tenant_id: {"limit_exceeded": False, "remaining_tokens": 2_000_000}
    meter = make(limit_check_cache_ttl=3600)
    call(meter)
    call(meter)
    with pytest.raises(LimitExhausted):
        call(meter)


def test_calls_in_flight_count_too(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal("0.0000001")
    meter = make()
    with meter.for_tenant("acme"):
        flight = depart(engine_of(meter), Request("openai", MODEL, "chat.completions", size=4))
        with pytest.raises(TenantBusy):
            depart(engine_of(meter), Request("openai", MODEL, "chat.completions", size=4))
        land(flight, Outcome(usage=Usage(input_tokens=0, output_tokens=0)))
        land(depart(engine_of(meter), Request("openai", MODEL, "chat.completions", size=4)), MILLION)


def test_spend_is_counted_once_over_a_delivery_and_a_new_answer(make: Make, backend: Backend, clock: Clock) -> None:
    backend.limits["acme"] = Decimal("0.75")  # five calls
    meter = make()
    for _ in range(2):
        call(meter)
    assert meter.flush(PATIENCE)
    assert meter.usage("acme")[0].spent_usd == 2 * MILLION_COSTS  # delivered, and not in the answer at hand
    clock.advance(60)
    assert meter.usage("acme")[0].spent_usd == 2 * MILLION_COSTS  # in the new answer, and no longer here
    for _ in range(3):
        call(meter)
    with pytest.raises(LimitExhausted):
        call(meter)


def test_set_limit_is_told_to_the_backend_and_holds_at_once(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal(0)
    meter = make(limit_check_cache_ttl=3600)
    with pytest.raises(LimitExhausted):
        call(meter)
    meter.set_limit("acme", "5.50", "per_day")

    call(meter)
    assert backend.thresholds == [{"tenant_id": "acme", "limit_usd": 5.5, "frequency": "per_day"}]


@pytest.mark.parametrize(
    ("begins", "sent"), [("2027-03-01", "2027-03-01"), ("2027-03-01T12:30", "2027-03-01T12:30:00+00:00")]
)
def test_a_later_limit_is_sent_with_an_iso_date(make: Make, backend: Backend, begins: str, sent: str) -> None:
    make().set_limit("acme", 5, effective_date=begins)
    assert backend.thresholds == [
        {"tenant_id": "acme", "limit_usd": 5, "frequency": "per_month", "effective_date": sent}
    ]


def test_limits_are_what_the_backends_answer_tells(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal("5.50")
    meter = make()
    assert [limit.limit_usd for limit in meter.limits("acme")] == [Decimal("5.50")]
    assert meter.limits("other") == []
    meter.set_limit("acme", 7)
    assert [limit.limit_usd for limit in meter.limits("acme")] == [7]
    backend.scripts["check-tenant-limit"] = [does.closes]
    with pytest.raises(StoreError):
        meter.limits("new")


def test_check_limit_asks_the_backend(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal(0)
    meter = make()
    with meter.for_tenant("acme"), pytest.raises(LimitExhausted):
        meter.check_limit()
    with meter.for_tenant("other"):
        meter.check_limit()


async def test_async_check_limit_sends_the_same_key(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal(0)
    meter = make()
    with meter.for_tenant("acme"), pytest.raises(LimitExhausted):
        await meter.async_check_limit()
    assert [authorization for _, _, authorization in backend.seen] == ["Bearer k1"]


def test_a_backend_that_is_away_lets_calls_go_out_unverified(make: Make, backend: Backend) -> None:
    backend.scripts["check-tenant-limit"] = [does.closes] * 9
    meter = make()
    call(meter)

    assert meter.status()["counts"]["unverified"] == 1
    assert meter.flush(PATIENCE)
    (event,) = backend.events.values()
    assert event["tags"]["unverified"] is True


def test_a_backend_that_stays_away_is_told_in_one_line_and_not_for_each_call(
    make: Make, backend: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.scripts["check-tenant-limit"] = [does.closes] * 9
    meter = make()
    for number in range(5):
        call(meter, f"new-{number}")
    with meter.for_tenant("new-9"):
        meter.check_limit()
    assert own.headers(engine_of(meter), "new-9") == {}

    assert meter.status()["counts"]["unverified"] == 5
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert caplog.text.count("cannot be asked for a limit") == 1
    monkeypatch.setattr(log_throttle, "INTERVAL_SECONDS", 0)
    call(meter, "new-0")
    assert "7 times since the last message" in caplog.text


@pytest.mark.parametrize(
    "answer", [does.closes, does.status(500), does.garbage, does.closes_mid_body, does.status(401)]
)
def test_the_last_answer_stays_in_force_while_the_backend_is_away(
    make: Make, backend: Backend, clock: Clock, answer: does.Behaviour
) -> None:
    backend.limits["acme"] = Decimal("0.30")
    meter = make()
    call(meter)
    clock.advance(60)
    backend.scripts["check-tenant-limit"] = [answer] * 9
    call(meter)
    with pytest.raises(LimitExhausted):
        call(meter)


def test_only_one_thread_asks(make: Make, backend: Backend) -> None:
    meter = make(limit_check_cache_ttl=3600)
    together = threading.Barrier(8)

    def work() -> None:
        together.wait(PATIENCE)
        call(meter)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert backend.requests("GET") == 1
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 8


AWAY: list[does.Behaviour] = [
    does.closes,
    does.status(500),
    does.status(503, retry_after="0"),
    does.status(429, retry_after="0"),
    does.garbage,
    does.broken,
    does.closes_mid_body,
    does.takes_and_closes,
    does.takes_and_answers_late,
    does.status(408),
]
HOMES = {
    "memory": lambda folder: {},
    "spool": lambda folder: {"spool": f"{folder}/spool.db"},
    "outbox": lambda folder: {"store": f"sqlite:///{folder}/ledger.db"},
}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("behaviour", AWAY)
def test_what_is_not_taken_is_sent_again_until_it_is(
    make: Make,
    backend: Backend,
    tmp_path: Any,
    behaviour: does.Behaviour,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if behaviour is does.takes_and_answers_late:
        monkeypatch.setattr(transport, "READ_SECONDS", 0.2)
    backend.scripts["events"] = [behaviour] * 3
    meter = make(**HOMES[home](tmp_path))
    for _ in range(5):
        call(meter)

    assert meter.flush(PATIENCE)
    assert len(backend.events) == 5
    assert (meter.status()["events_dropped"], meter.status()["events_waiting"]) == (0, 0)
    assert meter.usage("acme") == [] or meter.usage("acme")[0].spent_usd == 5 * MILLION_COSTS


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("behaviour", [does.closes, does.status(503), does.status(429, retry_after="0"), does.garbage])
def test_each_send_that_fails_is_told_at_once_and_logged_once(
    make: Make,
    backend: Backend,
    tmp_path: Any,
    behaviour: does.Behaviour,
    home: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend.scripts["events"] = [behaviour] * 3
    told: list[Any] = []
    meter = make(on_flush_error=told.append, **HOMES[home](tmp_path))
    call(meter)
    assert meter.flush(PATIENCE)
    assert len(told) == 3
    assert len(backend.events) == 1
    assert caplog.text.count("could not be delivered") == 1


@pytest.mark.parametrize("use", ["events", "check", "limit"])
def test_every_request_has_the_key_in_both_headers(make: Make, backend: Backend, use: str) -> None:
    meter = make()
    if use == "limit":
        meter.set_limit("acme", 5)
    else:
        call(meter)
        assert meter.flush(PATIENCE)
    assert backend.keys
    assert {authorization for _, _, authorization in backend.seen} == set(backend.keys) == {"Bearer k1"}


@pytest.mark.parametrize("home", ["spool", "outbox"])
@pytest.mark.parametrize("behaviour", [does.status(500), does.status(401), does.status(413), does.closes])
def test_nothing_is_lost_or_doubled_over_an_outage_longer_than_any_queue(
    make: Make, backend: Backend, tmp_path: Any, behaviour: does.Behaviour, home: str
) -> None:
    backend.scripts["events"] = [behaviour] * 1000
    meter = make(max_queue_size=5, max_batch_size=5, on_flush_error=lambda error: None, **HOMES[home](tmp_path))
    for _ in range(30):
        call(meter)
    meter.flush(0.3)
    backend.scripts["events"] = []
    assert meter.flush(PATIENCE)
    keeper: Any = engine_of(meter).outbox or meter.store
    keeper.unpark()

    assert meter.flush(PATIENCE)
    assert len(backend.events) == 30
    assert keeper.parked == 0
    assert meter.status()["events_dropped"] == 0


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_no_request_comes_before_the_time_the_backend_asked_for(
    make: Make, backend: Backend, tmp_path: Any, as_date: bool, home: str
) -> None:
    now = time.time()
    until = int(now) + 2 if as_date else now + 1
    wait = formatdate(until, usegmt=True) if as_date else "1"
    backend.scripts["events"] = [does.status(429, retry_after=wait)]
    meter = make(**HOMES[home](tmp_path))
    call(meter)

    assert meter.flush(PATIENCE)
    posts = [at for at, seen in zip(backend.arrived, backend.seen, strict=True) if seen[0] == "POST"]
    assert len(posts) == 2
    assert posts[1] >= (until if as_date else posts[0] + 1) - 0.01  # two clocks


def test_a_flush_does_not_wait_for_a_time_that_lies_behind_its_own(make: Make, backend: Backend) -> None:
    backend.scripts["events"] = [does.status(429, retry_after="3000")]
    meter = make()
    call(meter)
    assert not meter.flush(PATIENCE)
    assert not meter.flush(600)
    assert backend.requests("POST") == 1


def test_a_redirect_is_not_followed(make: Make, backend: Backend) -> None:
    backend.scripts["events"] = [does.status(301, location=f"{backend.url}/login")]
    told: list[Any] = []
    meter = make(on_flush_error=told.append)
    call(meter)
    assert meter.flush(PATIENCE)
    assert [error.status for error in told] == [301]
    backend.scripts["thresholds"] = [does.status(302, location=backend.url)]
    with pytest.raises(StoreError, match="302"):
        meter.set_limit("acme", 5)


def test_a_tenant_that_the_key_does_not_cover_does_not_stop_the_checks_of_others(make: Make, backend: Backend) -> None:
    backend.limits["acme"] = Decimal(0)
    backend.scripts["check-tenant-limit"] = [does.status(403)]
    meter = make()
    call(meter, "foreign")
    with pytest.raises(LimitExhausted):
        call(meter)
    call(meter, "foreign")
    assert backend.requests("GET") == 2


def test_processes_that_share_a_spool_count_each_others_deliveries_once(
    make: Make, backend: Backend, clock: Clock, tmp_path: Any
) -> None:
    backend.limits["acme"] = Decimal("0.75")  # five calls
    path = str(tmp_path / "spool.db")
    first, second = make(spool=path), make(spool=path)
    call(first)
    call(second)
    assert second.flush(PATIENCE)  # with the first one's event, or the first has sent it itself
    assert first.flush(PATIENCE)
    clock.advance(60)
    assert first.usage("acme")[0].spent_usd == 2 * MILLION_COSTS
    assert second.usage("acme")[0].spent_usd == 2 * MILLION_COSTS


def test_an_overflow_is_told_at_once_and_then_seldom(
    make: Make, backend: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.scripts["events"] = [does.status(503, retry_after="3000")] * 99
    told: list[Any] = []
    meter = make(max_queue_size=2, flush_interval=3600, on_flush_error=told.append)
    for _ in range(10):
        call(meter)
    assert meter.status()["events_dropped"] == 8
    assert [error.count for error in told] == [1]
    assert caplog.text.count("events lost") == 1
    monkeypatch.setattr(log_throttle, "INTERVAL_SECONDS", 0)
    call(meter)
    assert [type(error) for error in told] == [EventsLost, EventsLost]
    assert [error.count for error in told] == [1, 8]
    assert "max_queue_size" in str(told[1])


def test_an_overflow_is_told_where_nobody_listens_or_who_listens_fails(
    make: Make, backend: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> None:
        raise LookupError

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    backend.scripts["events"] = [does.status(503, retry_after="3000")] * 99
    for hook in (None, fails):
        meter = make(max_queue_size=1, flush_interval=3600, on_flush_error=hook)
        for _ in range(3):
            call(meter)
        assert meter.status()["counts"]["events"] == 3
    assert caplog.text.count("events lost") == 2


def test_a_spool_that_cannot_be_written_for_a_while_loses_nothing(
    make: Make, backend: Backend, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = make(spool=str(tmp_path / "spool.db"))
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "put", _disk_full)
        call(meter)
        assert meter.status()["settles_waiting"] == 1
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 1


def _disk_full(self: Spool, event: Any) -> Any:
    raise StoreError("no space left on device")


def test_a_row_of_the_spool_that_cannot_be_read_is_parked(make: Make, backend: Backend, tmp_path: Any) -> None:
    path = tmp_path / "spool.db"
    meter = make(spool=str(path))
    call(meter)
    assert meter.flush(PATIENCE)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO spool (event_id, body) VALUES ('x', '[1]')")
        db.commit()
    call(meter)
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 2
    store: Any = meter.store
    assert store.parked == 1


def test_an_event_with_anything_in_it_is_delivered(make: Make, backend: Backend) -> None:
    meter = make()
    with meter.for_tenant("acme", user=object()):
        call(meter)
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_what_the_backend_refuses_for_good_is_reported_and_not_sent_again(
    make: Make, backend: Backend, code: int
) -> None:
    told: list[Exception] = []
    backend.scripts["events"] = [does.status(code)]
    meter = make(on_flush_error=told.append)
    call(meter)
    assert meter.flush(PATIENCE)
    call(meter)
    assert meter.flush(PATIENCE)

    (error,) = told
    assert isinstance(error, transport.DeliveryRefused)
    assert error.status == code
    assert len(error.events) == 1
    assert meter.status()["events_parked"] == 1
    assert len(backend.events) == 1


def test_parked_events_stay_in_the_spool_until_they_are_let_go(make: Make, backend: Backend, tmp_path: Any) -> None:
    backend.scripts["events"] = [does.status(401)]
    meter = make(spool=str(tmp_path / "spool.db"), on_flush_error=lambda error: None)
    call(meter)
    assert meter.flush(PATIENCE)
    assert backend.events == {}

    store: Any = meter.store
    assert store.unpark() == 1
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 1


def test_one_bad_event_does_not_keep_the_others_back(make: Make, backend: Backend) -> None:
    def refuses_bad(handler: does.Handler) -> None:
        if any(event["model"] == "bad" for event in handler.body()["events"]):
            handler.answer(422)
        else:
            Backend.well(handler)

    backend.scripts["events"] = [refuses_bad] * 20
    told: list[Any] = []
    meter = make(on_flush_error=told.append)
    for number in range(7):
        with meter.for_tenant("acme"):
            model = "bad" if number == 3 else MODEL
            meter.track_manually(provider="openai", model=model, input_tokens=1, output_tokens=1)
    assert meter.flush(PATIENCE)

    assert len(backend.events) == 6
    assert [event.model for error in told for event in error.events] == ["bad"]


def test_a_batch_that_is_too_large_is_halved(make: Make, backend: Backend) -> None:
    def takes_two(handler: does.Handler) -> None:
        if len(handler.body()["events"]) > 2:
            handler.answer(413)
        else:
            Backend.well(handler)

    backend.scripts["events"] = [takes_two] * 20
    meter = make()
    for _ in range(7):
        call(meter)
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 7


def test_memory_is_bounded_while_the_backend_is_away(
    make: Make, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    back = threading.Event()

    def away(handler: does.Handler) -> None:
        back.wait(PATIENCE)
        handler.answer(503)

    backend.scripts["events"] = [away]
    meter = make(max_queue_size=10, max_batch_size=5)
    for _ in range(30):
        call(meter)
    back.set()

    assert meter.flush(PATIENCE)
    dropped = meter.status()["events_dropped"]
    assert 0 < dropped <= 20
    assert len(backend.events) == 30 - dropped


def test_a_new_process_delivers_what_a_crash_left_in_the_spool(make: Make, backend: Backend, tmp_path: Any) -> None:
    path = str(tmp_path / "spool.db")
    backend.scripts["events"] = [does.status(503, retry_after="3000")]
    crashed = make(spool=path)
    call(crashed)
    store: Any = crashed.store
    assert not crashed.flush(0.2)
    store.queue.close(0)

    meter = make(spool=path, flush_interval=0.02)
    call(meter)
    assert meter.flush(PATIENCE)
    assert len(backend.events) == 2


def test_the_ledger_is_elsewhere(make: Make, backend: Backend) -> None:
    with pytest.raises(KeptElsewhere, match=backend.url):
        make().store.spend("acme", 0, 1)


def test_what_cannot_work_is_an_error_that_names_the_setting() -> None:
    for settings, named in (
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://x/e", "check_url": "nothing"}, "check_url"),
        ({"url": "https://x/e", "default_limit_usd": 5}, "default_limit_usd"),
        ({"spool": "x.db"}, "spool"),
    ):
        with pytest.raises(Exception, match=f"^{named}: "):
            MeterConfig(**settings)  # type: ignore[arg-type]


def test_a_spool_that_cannot_be_opened_is_an_error_that_names_it(make: Make, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="^spool: "):
        make(spool=str(tmp_path / "file" / "spool.db")).store.check()


def test_our_own_failures_are_logged_without_the_key(make: Make, backend: Backend, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    backend.scripts["events"] = [does.status(401)]
    meter = make(api_key="tl_secret")
    call(meter)
    assert meter.flush(PATIENCE)
    assert "401" in caplog.text
    assert "tl_secret" not in caplog.text
