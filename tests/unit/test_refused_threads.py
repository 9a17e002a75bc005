"""A refusal that ends a thread is one line in the log, without a traceback; any other error is as before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.acme import Client
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, Meter, MeterConfig

Run = Callable[[Callable[[], object]], None]


def _thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, name="worker-1")
    thread.start()
    thread.join(PATIENCE)


def _timer(work: Callable[[], object]) -> None:
    timer = threading.Timer(0, work)
    timer.name = "worker-1"
    timer.start()
    timer.join(PATIENCE)


threads = pytest.mark.parametrize("run", [_thread, _timer])


def refused() -> None:
    Client().generate("hi")


def wrapped() -> None:
    try:
        refused()
    except LimitExhausted as error:
        raise RuntimeError("no answer") from error


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads end as they do outside of pytest, which has a hook of its own."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


@pytest.fixture
def spent(acme: None, hook: None) -> Iterator[Meter]:
    """Meter a tenant whose limit is reached."""
    with Meter(MeterConfig(store="memory://", patches=["acme"])).patch_all() as meter:
        meter.set_limit("acme", 0)
        with meter.for_tenant("acme"):
            yield meter


@threads
@pytest.mark.parametrize("work", [refused, wrapped])
def test_a_refusal_is_one_line(
    spent: Meter, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], run: Run, work: Run
) -> None:
    run(work)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.exc_info) == ("token_limit", logging.WARNING, None)
    assert record.getMessage().startswith("a call was refused, which ended worker-1: This account has no")
    assert capsys.readouterr().err == ""


@threads
def test_another_error_has_its_traceback(spent: Meter, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    run(lambda: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().err


@threads
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_of_the_application_sees_the_refusal(
    acme: None, hook: None, monkeypatch: pytest.MonkeyPatch, run: Run, when: str
) -> None:
    seen: list[object] = []

    def its_own(args: threading.ExceptHookArgs) -> None:
        seen.append(args.exc_type)

    if when == "before":
        monkeypatch.setattr(threading, "excepthook", its_own)
    with Meter(MeterConfig(store="memory://", patches=["acme"])).patch_all() as meter:
        meter.set_limit("acme", 0)
        if when == "after":
            monkeypatch.setattr(threading, "excepthook", its_own)
        with meter.for_tenant("acme"):
            run(refused)
    assert seen == [LimitExhausted]


def test_a_future_keeps_the_refusal_and_logs_nothing(
    spent: Meter, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(refused)
    assert isinstance(future.exception(), LimitExhausted)
    assert (caplog.records, capsys.readouterr().err) == ([], "")


def test_the_hook_ends_with_the_meter(acme: None, hook: None) -> None:
    with Meter(MeterConfig(store="memory://", patches=["acme"])).patch_all():
        assert threading.excepthook is not threading.__excepthook__
    assert threading.excepthook is threading.__excepthook__
