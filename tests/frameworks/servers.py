"""Real servers in processes of their own, and waiting for what they do."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.contract.processes import environment
from tests.waiting import wait_until


@contextmanager
def serving(command: Sequence[str], **env: str) -> Iterator[int]:
    """Run a module that serves at the `{port}` of its command line; gives the port once it answers."""
    port = free_port()
    words = [word.format(port=port) for word in command]
    process = subprocess.Popen([sys.executable, "-m", *words], env={**environment(), **env})
    try:
        wait_until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, "the server has ended"
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def free_port() -> int:
    """Return a port that is free on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
