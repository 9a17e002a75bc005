"""Calls of one tenant a second by store and processes, with and without leases; what an outage adds to a call.

Usage: python benchmarks/admissions.py [--seconds S] [--processes 1 2 4 8]

A call is an admission and a settle, without SDK and provider, in one thread of each process. The databases are those of
the tests (`TOKEN_LIMIT_TEST_POSTGRES`, ...). For the outage the store's port is closed, or answers nothing more.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from typing import Any

from sqlalchemy import make_url

from tests.support import mysql_database, postgres_schema, redis_database
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core.calls.engine import Engine
from token_limit_core.limits import Limit
from token_limit_core.meter import engine_of
from token_limit_core.runtime.ids import new_id
from token_limit_core.stores import open_store
from token_limit_core.stores.records import Call

TENANT, COST = "tenant", 112_200
LIMIT = 10**15
LEASE_SECONDS = 5.0
OUTAGE_CALLS = 1000
FORKS = multiprocessing.get_context("spawn")


def admit(engine: Engine, call_id: str) -> float:
    """Admit a call; return the seconds that took."""
    call = Call(call_id, TENANT, COST, tokens=513, provider="openai", model="gpt-4o-mini")
    start = time.perf_counter()
    decision = engine.access.admit(call, time.time())
    taken = time.perf_counter() - start
    assert decision.admitted, decision
    return taken


def settle(engine: Engine, call_id: str) -> float:
    """Settle a call; return the seconds that took."""
    event = LLMEvent(call_id, TENANT, provider="openai", model="gpt-4o-mini", total_tokens=513, timestamp=time.time())
    start = time.perf_counter()
    engine.settle((call_id, event, COST, None))
    return time.perf_counter() - start


def work(pipe: Connection, url: str, lease_seconds: float, seconds: float) -> None:
    """Make calls for so long; send what each admission took, in seconds."""
    meter = Meter(MeterConfig(store=url, lease_seconds=lease_seconds, store_timeout=60))
    engine = engine_of(meter)
    if not engine.store.durable:
        engine.store.set_limit(Limit(TENANT, LIMIT), time.time())
    for _ in range(10):
        admit(engine, call_id := new_id())
        settle(engine, call_id)
    pipe.send("ready")
    pipe.recv()
    end, times = time.monotonic() + seconds, []
    while time.monotonic() < end:
        call_id = new_id()
        times.append(admit(engine, call_id))
        settle(engine, call_id)
    pipe.send(times)
    meter.close()


def measure(url: str, processes: int, lease_seconds: float, seconds: float) -> tuple[float, float, float]:
    """Return calls a second of all processes together, and milliseconds of an admission: the median, and p99."""
    pipes, running = [], []
    for _ in range(processes):
        ours, theirs = FORKS.Pipe()
        process = FORKS.Process(target=work, args=(theirs, url, lease_seconds, seconds), daemon=True)
        process.start()
        pipes.append(ours)
        running.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    times = sorted(taken for pipe in pipes for taken in pipe.recv())
    for process in running:
        process.join()
    return len(times) / seconds, *(1000 * times[int(len(times) * part)] for part in (0.5, 0.99))  # type: ignore[return-value]


@contextmanager
def stores() -> Iterator[dict[str, str]]:
    """Give the URLs of empty stores."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache, ledger = stack.enter_context(redis_database()), stack.enter_context(postgres_schema())
        yield {
            "memory": "memory://",
            "SQLite": f"sqlite:///{folder}/ledger.db",
            "PostgreSQL": stack.enter_context(postgres_schema()),
            "MariaDB": stack.enter_context(mysql_database()),
            "Redis, ledger in PostgreSQL": f"{cache}?ledger={ledger}",
        }


def table(seconds: float, processes: list[int]) -> Iterator[str]:
    """Measure every store; give the lines of a table."""
    yield "| store | processes | calls a second | p50, p99 (ms) | with leases | p50, p99 (ms) |"
    yield "|---|---|---|---|---|---|"
    with stores() as urls:
        for name, url in urls.items():
            if url != "memory://":
                store = open_store(url)
                store.set_limit(Limit(TENANT, LIMIT), time.time())
                store.close()
            for count in processes if url != "memory://" else [1]:
                cells = []
                for lease_seconds in (0.0, LEASE_SECONDS) if url != "memory://" else (0.0,):
                    rate, median, slow = measure(url, count, lease_seconds, seconds)
                    cells += [f"{rate:,.0f}", f"{median:.3f}, {slow:.2f}"]
                yield f"| {name} | {count} | {' | '.join(cells)} |{'' if len(cells) > 2 else ' | |'}"


class Forwarder:
    """A port that leads to a server, until it is closed or answers nothing more."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server, self._sockets, self.silent = server, [socket.create_server(("127.0.0.1", 0))], False
        self.port: int = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, server = self._sockets[0].accept()[0], socket.create_connection(self._server)
            except OSError:
                return
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.silent:
                    sink.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        """End the connections, and refuse new ones."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the threads that wait for it
            one.close()


class Times:
    """What steps took, in seconds, and which of them the system interrupted to let other processes run."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self.own: list[float] = []

    def add(self, step: Callable[[], float]) -> None:
        """Take a step, and its time."""
        before = getrusage(RUSAGE_THREAD).ru_nivcsw
        self.all.append(step())
        if getrusage(RUSAGE_THREAD).ru_nivcsw == before:
            self.own.append(self.all[-1])

    def __str__(self) -> str:
        times, own = sorted(self.all), sorted(self.own)
        shown = (times[len(times) // 2], times[len(times) * 99 // 100], own[len(own) * 99 // 100], own[-1])
        return ", ".join(f"{1000 * seconds:.2f}" for seconds in shown)


def outage() -> Iterator[str]:
    """Measure calls before and during an outage of PostgreSQL; give the lines of a table.

    Each cell has the median and p99 of all calls, and p99 and the maximum of those that the system did not interrupt.
    """
    yield "| PostgreSQL | first call (ms) | further admissions (ms) | further settles (ms) |"
    yield "|---|---|---|---|"
    ways: dict[str, Callable[[Forwarder], Any]] = {
        "answers": lambda forwarder: None,
        "refuses connections": Forwarder.close,
        "answers nothing, `store_timeout=1`": lambda forwarder: setattr(forwarder, "silent", True),
    }
    for name, end in ways.items():
        with postgres_schema() as text, tempfile.TemporaryDirectory() as folder:
            url = make_url(text)
            forwarder = Forwarder((url.host or "127.0.0.1", url.port or 5432))
            there = url.set(host="127.0.0.1", port=forwarder.port).render_as_string(hide_password=False)
            journal = f"{folder}/journal"
            meter = Meter(MeterConfig(store=there, store_timeout=1, outage_allowance_usd=100, journal=journal))
            engine = engine_of(meter)
            meter.set_limit(TENANT, 1000)
            for _ in range(20):
                admit(engine, call_id := new_id())
                settle(engine, call_id)
            end(forwarder)
            first = admit(engine, call_id := new_id()) + settle(engine, call_id)
            admitted, settled = Times(), Times()
            for _ in range(OUTAGE_CALLS):
                call_id = new_id()
                admitted.add(partial(admit, engine, call_id))
                settled.add(partial(settle, engine, call_id))
            yield f"| {name} | {1000 * first:,.1f} | {admitted} | {settled} |"
            forwarder.close()
            meter.close()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    given = parser.parse_args()
    logging.getLogger("token_limit").setLevel(logging.CRITICAL)
    for line in (*outage(), ""):
        print(line, flush=True)
    for line in table(given.seconds, given.processes):
        print(line, flush=True)


if __name__ == "__main__":
    main()
