"""Processes of their own on a store under test, started and ended by the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contract.calls import NOW

WORKER = Path(__file__).with_name("worker.py")


def environment() -> dict[str, str]:
    """Let a new process import what this one imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


class Worker:
    """A process of `worker.py` and the lines it prints."""

    def __init__(self, spec: str, command: str, estimate: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), spec, command, "acme", str(estimate), str(NOW)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._input, self._output = self.process.stdin, self.process.stdout

    def line(self) -> str:
        return self._output.readline().strip()

    def go(self) -> None:
        self._input.write("go\n")
        self._input.flush()

    def kill(self) -> None:
        self.process.kill()

    def finish(self) -> list[str]:
        """Return the lines not read so far, once the process has ended."""
        lines = self._output.read().splitlines()
        self.process.wait()
        return lines

    def close(self) -> None:
        self.kill()
        self.finish()
        self._input.close()
        self._output.close()


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
