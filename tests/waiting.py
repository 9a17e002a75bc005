"""Waiting for what another process or thread does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, seconds: float = 60.0) -> None:
    """Wait for a condition, no longer than so many seconds, nor than the process that is to bring it about lives."""
    deadline = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
