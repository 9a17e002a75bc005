"""Wait for a condition that another thread or process brings about, and collect the threads a test starts."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

PATIENCE = 60.0
"""Seconds a test waits for what has to happen; a busy machine may take long, and a test that passes does not wait."""


def wait_until(
    true: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, seconds: float = PATIENCE
) -> None:
    """Wait for a condition; fail after so many seconds, or when the process that brings it about has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def threads_started() -> Iterator[list[threading.Thread]]:
    """Collect the threads that this thread starts within a block, and those that they start in turn.

    Threads of other tests that begin or end meanwhile are not among them.
    """
    starter, start = threading.current_thread(), threading.Thread.start
    started: list[threading.Thread] = []

    def collect(thread: threading.Thread) -> None:
        if threading.current_thread() in (starter, *started):
            started.append(thread)
        start(thread)

    with mock.patch.object(threading.Thread, "start", collect):
        yield started
