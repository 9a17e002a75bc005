"""What becomes of events when a process is killed, forks or is told to end, and of a limit that two of them share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ledgers import Factory, django_postgres, django_sqlite, sql_postgres, sql_sqlite
from tests.remote.backend import Handler
from tests.remote.receiver import Receiver, key_for
from tests.remote.servers import serving
from tests.support import environment
from token_limit_core.ingest.events import read_event
from token_limit_core.limits import Limit
from token_limit_core.pricing import PriceBook

SENDER = Path(__file__).with_name("sender.py")


def home_of(home: str, folder: Path) -> dict[str, str]:
    homes = {"spool": {"spool": f"{folder}/spool.db"}, "outbox": {"store": f"sqlite:///{folder}/own.db"}}
    return homes.get(home, {})


def sender(command: str, url: str, token: str, **settings: Any) -> subprocess.Popen[str]:
    """Start a service; it waits for a line before it does anything."""
    given = json.dumps({"url": url, "api_key": token, "flush_interval": 0.05, **settings})
    process = subprocess.Popen(
        [sys.executable, str(SENDER), command, given],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str], line: str = "go") -> None:
    assert process.stdin
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> list[str]:
    """Let a process run to its end, and return what it said."""
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.splitlines()


@pytest.mark.parametrize("home", ["spool", "outbox"])
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_a_sender_that_is_killed_before_the_acknowledgement_loses_and_doubles_nothing(
    receiver: Receiver, tmp_path: Path, home: str, taken: bool
) -> None:
    asked, ended = threading.Event(), threading.Event()

    def hang(handler: Handler) -> None:
        """Store the events, or do not, and keep the sender waiting."""
        if taken:
            rows = handler.body()["events"]
            receiver.store.record(
                [read_event(row, row["timestamp"], PriceBook()) for row in rows], rows[0]["timestamp"]
            )
        asked.set()
        ended.wait(60)
        handler.hang_up()

    receiver.scripts["events"] = [hang]
    settings = {**home_of(home, tmp_path), "claim_seconds": 0.01}  # what the first has claimed the second may take
    first = sender("send", receiver.url, receiver.token, **settings)
    tell(first)
    assert first.stdout
    assert first.stdout.readline() == "recorded\n"
    assert asked.wait(60)
    first.kill()
    first.wait(60)
    ended.set()
    first.communicate()

    second = sender("drain", receiver.url, receiver.token, **settings)
    tell(second)
    assert heard(second)[-1] == "delivered"
    assert receiver.store.spend("acme", 0, 4e9).calls == 21


PAIRS = [
    ("memory", "flask_ingest", sql_sqlite),
    ("spool", "flask_ingest", sql_sqlite),
    ("outbox", "flask_ingest", sql_sqlite),
    ("memory", "flask_ingest", sql_postgres),
    ("memory", "django_ingest", django_sqlite),
    ("memory", "django_ingest", django_postgres),
]


@pytest.mark.parametrize("where", ["in the transaction", "after the commit"])
@pytest.mark.parametrize(("home", "site", "kind"), PAIRS, ids=[f"{home} to {kind.__name__}" for home, _, kind in PAIRS])
def test_a_receiver_that_is_killed_over_a_batch_has_it_once(
    request: pytest.FixtureRequest, tmp_path: Path, home: str, site: str, kind: Factory, where: str
) -> None:
    marker = tmp_path / "die"
    marker.touch()
    with kind(request, tmp_path) as (store, spec):
        token = key_for(store)
        with serving("werkzeug", site, store=spec, die=str(marker), where=where) as server:
            process = sender("send", f"{server.url}/token-limit/events", token, **home_of(home, tmp_path))
            tell(process)
            assert server.process.wait(60) == -signal.SIGKILL
            taken = store.spend("acme", 0, 4e9).calls  # a slow sender makes more than one batch of its 20 events
            assert taken == 0 if where == "in the transaction" else 0 < taken <= 20
            server.restart()
            lines = [line for line in heard(process) if not line.startswith("the backend cannot take events now")]
            assert lines == ["recorded", "delivered"]
        assert store.spend("acme", 0, 4e9).calls == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("home", ["memory", "spool", "outbox"])
def test_a_forked_child_delivers_its_own_events_and_nothing_arrives_twice(
    receiver: Receiver, tmp_path: Path, home: str
) -> None:
    process = sender("fork", receiver.url, receiver.token, **home_of(home, tmp_path), flush_interval=3600)
    tell(process)
    assert process.stdout
    assert process.stdout.readline() == "child\n"
    if home == "memory":
        assert len(receiver.arrivals) == 2
    tell(process)
    assert heard(process) == ["parent"]
    assert receiver.store.spend("acme", 0, 4e9).calls == 5
    posts = [seen for seen in receiver.seen if seen[0] == "POST"]
    assert len(posts) <= 3


ENDS = [("gunicorn", "reporter"), ("gunicorn --preload", "reporter"), ("uvicorn", "async_reporter")]


@pytest.mark.parametrize(("command", "site"), ENDS, ids=[command for command, _ in ENDS])
def test_a_server_that_is_told_to_end_delivers_first(receiver: Receiver, command: str, site: str) -> None:
    settings = {"url": receiver.url, "api_key": receiver.token, "flush_interval": 3600}
    with serving(command, site, meter=settings) as server:
        made = {requests.get(server.url, timeout=30).text for _ in range(6)}
        assert receiver.arrivals == {}
    assert set(receiver.arrivals) == made


TTL, INTERVAL, COST, LIMIT = 0.3, 0.1, 10_000_000, 2_000_000_000


def test_two_services_of_64_threads_stay_within_the_documented_bound(receiver: Receiver) -> None:
    receiver.store.set_limit(Limit("acme", LIMIT), 0.0)
    settings = {"limit_check_cache_ttl": TTL, "flush_interval": INTERVAL}
    services = [sender("spend", receiver.url, receiver.token, max_queue_size=100_000, **settings) for _ in range(2)]
    for service in services:
        tell(service)
    said = [[json.loads(line) for line in heard(service)] for service in services]

    captured = {call_id: at for calls in said for call_id, _, at in calls}
    assert set(captured) == set(receiver.arrivals)
    billed = receiver.store.spend("acme", 0, 4e9).cost_nano
    assert billed == len(captured) * COST
    lag = max(receiver.arrivals[call_id] - at for call_id, at in captured.items())
    # one service may have spent it all before the other ran
    last, mine = max((max(admitted for _, admitted, _ in calls), n) for n, calls in enumerate(said) if calls)
    checks = max(receiver.check_seconds, default=0.0)
    news = last - TTL - checks - lag
    others = sum(COST for n, calls in enumerate(said) if n != mine for _, _, at in calls if at > news)
    assert LIMIT <= billed <= LIMIT + others + len(services) * COST
