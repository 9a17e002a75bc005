"""A database server that is stopped, cut off or hangs: what goes out is bounded, and what was spent is settled once."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, run
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from tests.gateway import Gateway, gateway
from tests.servers import ROOT
from tests.support import environment, mysql_database, postgres_schema
from tests.waiting import PATIENCE, wait_until
from token_limit_core import Meter, MeterConfig
from token_limit_core.errors import LimitUnverifiable

ENGINES = {"postgresql": postgres_schema, "mysql": mysql_database}


class Remote:
    """A database behind a gateway, and how a Meter reaches it."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        direct = make_url(url)
        self.direct = url
        self.gateway: Gateway = stack.enter_context(gateway(direct.port or 0))
        self.url = direct.set(port=self.gateway.port).render_as_string(hide_password=False)
        self.journal = str(folder / "journal")

    def settings(self, **options: Any) -> dict[str, Any]:
        return {"store": self.url, "journal": self.journal, **options}

    def settled(self) -> int:
        """Count the calls in the ledger."""
        with Meter(MeterConfig(store=self.direct, journal=f"{self.journal}.of-nobody")) as meter:
            return meter.store.spend(TENANT, 0, 4e9).calls


@pytest.fixture(params=list(ENGINES))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    with ExitStack() as stack:
        yield Remote(stack.enter_context(ENGINES[request.param]()), tmp_path, stack)


@pytest.fixture
def make() -> Iterator[Callable[..., Meter]]:
    made: list[Meter] = []

    def meter(settings: dict[str, Any]) -> Meter:
        made.append(Meter(MeterConfig(**settings)))
        return made[-1]

    yield meter
    for one in made:
        one.close()


def track(meter: Meter, number: int = 1) -> None:
    for _ in range(number):
        meter.track_manually(
            provider="openai", model="gpt-4o-mini", input_tokens=1000, output_tokens=0, tenant_id=TENANT
        )


def ask(meter: Meter, wired: Wire) -> BaseException | None:
    meter.patch("openai")
    with meter.for_tenant(TENANT):
        return run(uses.plain, wired.client(), CHAT).error


def test_every_settle_of_an_outage_is_in_the_ledger_once_the_server_is_back(
    database: Remote, make: Callable[..., Meter], caplog: pytest.LogCaptureFixture
) -> None:
    meter = make(database.settings(max_queue_size=10))
    track(meter)
    database.gateway.cut()
    with caplog.at_level(logging.WARNING, "token_limit"):
        track(meter, 300)
    assert meter.status()["settles_waiting"] == 300
    assert meter.status()["store_away_since"] is not None
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None

    database.gateway.restore()
    assert meter.flush(PATIENCE)
    assert database.settled() == 301
    status = meter.status()
    assert (status["settles_waiting"], status["settles_lost"], status["store_away_since"]) == (0, 0, None)


OUTAGE = """
    import os, signal, sys
    from token_limit_core import Meter, MeterConfig
    meter = Meter(MeterConfig(store=sys.argv[1], journal=sys.argv[2]))
    for _ in range(40):
        meter.track_manually(
            provider="openai", model="gpt-4o-mini", input_tokens=1000, output_tokens=0, tenant_id="acme")
    assert meter.status()["settles_waiting"] >= 40
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_settles_what_killed_ones_have_left(database: Remote, make: Callable[..., Meter]) -> None:
    assert database.settled() == 0
    database.gateway.cut()
    command = [sys.executable, "-c", textwrap.dedent(OUTAGE), database.url, database.journal]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGKILL, error
    database.gateway.restore()

    meter = make(database.settings(patches=[])).patch_all()
    wait_until(lambda: database.settled() == 120)
    assert meter.flush(PATIENCE)
    assert meter.status()["settles_waiting"] == 0


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_calls_go_out_up_to_the_allowance_and_are_refused_then(
    database: Remote, make: Callable[..., Meter], use: uses.Use, is_async: bool
) -> None:
    meter = make(database.settings(outage_allowance_usd="0.0001")).patch("openai")
    meter.set_limit(TENANT, 5)
    database.gateway.cut()
    wired = Wire(wire.chat)
    errors = []
    with meter.for_tenant(TENANT):
        for _ in range(30):
            errors.append(run(use, wired.async_client() if is_async else wired.client(), CHAT).error)
    passed = errors.index(next(error for error in errors if error is not None))
    assert 0 < passed < 30
    assert len(wired.sent) == passed
    assert all(isinstance(error, LimitUnverifiable) for error in errors[passed:])
    refusal = errors[-1]
    assert isinstance(refusal, LimitUnverifiable)
    assert (refusal.decision.status, refusal.decision.kind) == (503, "unverifiable")
    with meter.for_tenant(TENANT), pytest.raises(LimitUnverifiable):
        meter.check_limit()

    database.gateway.restore()
    assert meter.flush(PATIENCE)
    assert ask(meter, wired) is None
    (status,) = meter.usage(TENANT)
    assert status.held == 0
    assert database.settled() == passed + 1
    assert meter.status()["counts"]["unverified"] == passed


def test_a_connection_that_hangs_has_a_deadline(database: Remote, make: Callable[..., Meter]) -> None:
    meter = make(database.settings(store_timeout=1.0)).patch("openai")
    meter.set_limit(TENANT, 5)
    assert ask(meter, Wire(wire.chat)) is None
    database.gateway.hang()
    for _ in range(5):
        assert ask(meter, Wire(wire.chat)) is None
    status = meter.status()
    assert status["store_away_since"] is not None
    assert status["settles_waiting"] == 5
    database.gateway.cut()  # what the server was sent before it hung must not be done twice, nor by halves
    database.gateway.restore()
    assert meter.flush(PATIENCE)
    assert database.settled() == 6
    assert meter.store.holds() == []


def test_a_report_has_no_deadline(database: Remote, make: Callable[..., Meter]) -> None:
    track(make({"store": database.direct}))
    meter = make(database.settings(store_timeout=1.0))
    assert meter.limits(TENANT) == []
    database.gateway.hang()
    timer = threading.Timer(2.0, database.gateway.restore)
    timer.start()
    assert meter.store.spend(TENANT, 0, 4e9).calls == 1
    timer.join()


def test_with_refuse_nothing_goes_out(database: Remote, make: Callable[..., Meter]) -> None:
    meter = make(database.settings(on_store_error="refuse"))
    database.gateway.cut()
    wired = Wire(wire.chat)
    assert isinstance(ask(meter, wired), LimitUnverifiable)
    assert wired.sent == []
    database.gateway.restore()
    assert meter.flush(PATIENCE)
    assert ask(meter, wired) is None


def test_a_server_that_is_away_is_asked_by_one_caller_at_a_time(database: Remote, make: Callable[..., Meter]) -> None:
    meter = make(database.settings(outage_allowance_usd=100, store_timeout=1.0)).patch("openai")
    meter.set_limit(TENANT, 5)
    database.gateway.cut()
    assert ask(meter, Wire(wire.chat)) is None
    database.gateway.hang()
    before, started = database.gateway.attempts, time.monotonic()

    def work() -> None:
        for _ in range(10):
            assert ask(meter, Wire(wire.chat)) is None

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    pauses = (time.monotonic() - started) / 1.0  # each attempt takes `store_timeout`, and there is one at a time
    assert database.gateway.attempts - before <= 1 + pauses
