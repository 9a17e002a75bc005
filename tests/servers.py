"""Real servers in processes of their own, each on a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.support import environment
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[1]
PYTHON = (sys.executable, "-m")


def free_port() -> int:
    """Return a loopback port that the system gives to no other process for a minute.

    The accepted side of a connection is closed first, so the port stays in TIME_WAIT. The system then offers it to
    no process that asks for any port, but a server that names it can listen on it, as servers set SO_REUSEADDR.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Return whether a server listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> None:
    """End a process that leads a session with SIGTERM; kill its processes and fail when it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


class Server:
    """A running server; `restart` brings it back on the same port after its process has ended."""

    def __init__(self, words: Sequence[str], port: int, folder: Path, env: Mapping[str, str], log: Path | None) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self._words, self._folder, self._env, self._log = words, folder, {**environment(), **env}, log
        self.restart()

    def restart(self) -> None:
        with nullcontext() if self._log is None else self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._words, cwd=self._folder, env=self._env, start_new_session=True, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: answers(self.port), self.process)
        except BaseException:
            end(self.process)
            raise


@contextmanager
def serving(
    *command: str,
    program: Sequence[str] = PYTHON,
    folder: Path = ROOT,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[Server]:
    """Run a command, by default a Python module, that serves at the `{port}` in its words, for a block.

    What it prints goes to the file `log`, if one is given.
    """
    port = free_port()
    server = Server([*program, *(word.replace("{port}", str(port)) for word in command)], port, folder, env or {}, log)
    try:
        yield server
    finally:
        end(server.process)
