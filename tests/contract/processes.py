"""Processes of their own on a store under test, started and ended by the test."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from tests.contract import worker
from tests.contract.calls import NOW

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        worker.__name__,
        "token_limit_core.stores.sql.store",
        "django.db.backends.postgresql.base",
        "django.db.backends.sqlite3.base",
        "psycopg",
        "pymysql",
        "redis",
        "tests.process.matrix",
    ]
)  # importing them takes a new process longer than its work


class Worker:
    """A process of `worker.py` and the lines it sends."""

    def __init__(self, spec: str, command: str, estimate: int) -> None:
        self._pipe, theirs = FORKS.Pipe()
        self.process = FORKS.Process(
            target=worker.main, args=(theirs, spec, command, "acme", estimate, NOW), daemon=True
        )
        self.process.start()
        theirs.close()

    def line(self) -> str:
        """Wait for a line; an empty one when the process has ended."""
        try:
            return str(self._pipe.recv())
        except EOFError:
            return ""

    def go(self) -> None:
        self._pipe.send("go")

    def ask(self, line: str) -> None:
        self._pipe.send(line)

    def kill(self) -> None:
        self.process.kill()

    def finish(self) -> list[str]:
        """Return the lines not read so far, once the process has ended."""
        lines = list(iter(self.line, ""))
        self.process.join()
        return lines

    def close(self) -> None:
        self.kill()
        self.process.join()
        self._pipe.close()


@contextmanager
def workers(spec: str, count: int, command: str, estimate: int) -> Iterator[list[Worker]]:
    """Start processes that wait for `go()`; none outlives the block."""
    started = [Worker(spec, command, estimate) for _ in range(count)]
    try:
        for worker in started:
            assert worker.line() == "ready"
        yield started
    finally:
        for worker in started:
            worker.close()
