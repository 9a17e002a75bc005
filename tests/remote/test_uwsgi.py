"""What uWSGI's workers deliver at their end. It forks without telling Python, and runs no `atexit` in a busy worker."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.remote.receiver import Receiver
from tests.remote.servers import serving
from tests.servers import ROOT, Server
from tests.support import unavailable
from tests.waiting import wait_until

NEWEST, THREADLESS = "2.0.31", "2.0.26"
NEVER = 3600.0
GRACEFUL = [
    *(f"--hook-master-start=unix_signal:{number} gracefully_kill_them_all" for number in (2, 15)),
    "--worker-reload-mercy=20",  # a worker that is forked at that moment misses the signal
]
ENDS = [
    (signal.SIGTERM, ["--lazy-apps"]),
    (signal.SIGINT, []),
    (signal.SIGINT, ["--py-call-uwsgi-fork-hooks"]),
    (signal.SIGTERM, ["--threads=2"]),
]


def uwsgi(release: str) -> list[str]:
    """Find the uWSGI that the nox session has compiled."""
    if release == THREADLESS and sys.version_info >= (3, 13):
        pytest.skip(f"uWSGI {release} does not compile on Python 3.13")
    made = ROOT / ".nox" / f"uwsgi-release-{release.replace('.', '-')}" / "bin" / "uwsgi"
    if not made.exists():
        unavailable(f"uWSGI {release} is not compiled; run `nox -s uwsgi --install-only`")
    return [str(made)]


class Site:
    """A site under uWSGI that reports to a receiver; each visit to it is an event."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self._receiver, self._folder = receiver, folder

    def run(self, release: str, *options: str, interval: float = NEVER, **site: Any) -> AbstractContextManager[Server]:
        meter = {"url": self._receiver.url, "api_key": self._receiver.token, "flush_interval": interval}
        words = [*GRACEFUL, f"--logto={self._folder}/uwsgi.log", *options]
        return serving(
            "uwsgi",
            "held_reporter",
            program=uwsgi(release),
            options=words,
            meter=meter,
            folder=str(self._folder),
            **site,
        )

    @property
    def log(self) -> str:
        return (self._folder / "uwsgi.log").read_text()

    def occupy(self, server: Server, pool: ThreadPoolExecutor, visitors: int) -> list[Future[list[str]]]:
        """Have so many visitors served at the same time, until `let_go`."""
        held = [pool.submit(visit, f"{server.url}/?held") for _ in range(visitors)]
        wait_until(lambda: len(list(self._folder.glob("held-*"))) == visitors, server.process)
        return held

    def let_go(self) -> None:
        (self._folder / "go").touch()


@pytest.fixture
def site(receiver: Receiver, tmp_path: Path) -> Site:
    return Site(receiver, tmp_path)


def visit(url: str) -> list[str]:
    """Return the id of the visit's event, and before it that of the site's start if it had one."""
    ids: list[str] = requests.get(url, timeout=60).json()
    return ids


@pytest.mark.parametrize(("told", "options"), ENDS, ids=[" ".join([told.name, *words]) for told, words in ENDS])
def test_workers_that_are_told_to_end_answer_and_deliver_first(
    receiver: Receiver, site: Site, told: signal.Signals, options: list[str]
) -> None:
    visitors = 4 if "--threads=2" in options else 2  # that is both workers
    with site.run(NEWEST, *options) as server, ThreadPoolExecutor(visitors) as pool:
        made = [visit(server.url) for _ in range(6)]
        held = site.occupy(server, pool, visitors)
        assert receiver.arrivals == {}
        server.process.send_signal(told)
        wait_until(lambda: site.log.count("Gracefully killing worker") == 2)
        site.let_go()
        made += [one.result() for one in held]
        server.process.wait(60)
    assert set(receiver.arrivals) == {event_id for [event_id] in made}
    assert receiver.store.spend("acme", 0, 4e9).calls == len(made) == 6 + visitors


def test_workers_that_end_after_some_requests_deliver_first(receiver: Receiver, site: Site) -> None:
    # as the documentation has it: without the last option a worker that is forked later may hang from its birth
    with site.run(NEWEST, "--max-requests=3", "--min-worker-lifetime=0", "--py-call-uwsgi-fork-hooks") as server:
        made = {event_id for _ in range(10) for event_id in visit(server.url)}
        requests_of = Counter(event_id[:23] for event_id in made)
        ended = {event_id for event_id in made if requests_of[event_id[:23]] == 3}
        assert ended
        wait_until(lambda: ended <= set(receiver.arrivals), server.process)
        os.killpg(server.process.pid, signal.SIGKILL)  # uWSGI may never end while it forks a worker anew
    assert set(receiver.arrivals) <= made
    assert len(made) == 10


def test_what_is_recorded_before_the_fork_arrives_once_and_keeps_no_worker_from_its_own(
    receiver: Receiver, site: Site
) -> None:
    # without the option a worker may hang: the master's thread may hold the interpreter's lock at the fork
    told = "--py-call-uwsgi-fork-hooks"
    with site.run(NEWEST, told, interval=0.1, early=True) as server, ThreadPoolExecutor(2) as pool:
        held = site.occupy(server, pool, 2)
        site.let_go()
        made = {event_id for one in held for event_id in one.result()}
        wait_until(lambda: len(receiver.arrivals) == 3, server.process)
    assert set(receiver.arrivals) == made
    assert len([seen for seen in receiver.seen if seen[0] == "POST"]) == 3


def test_without_threads_it_says_so_and_delivers_at_the_end(receiver: Receiver, site: Site) -> None:
    with site.run(THREADLESS) as server, ThreadPoolExecutor(2) as pool:
        held = site.occupy(server, pool, 2)
        site.let_go()
        made = {event_id for one in held for event_id in one.result()}
    assert "set `enable-threads = true`" in site.log
    assert set(receiver.arrivals) == made
