"""Real servers for the sites of `sites.py`, started and ended by a test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SITES = "tests.remote.sites"
COMMANDS = {
    "werkzeug": [SITES, "{site}", "{port}"],
    "gunicorn": ["gunicorn", f"{SITES}:{{site}}()", "--bind=127.0.0.1:{port}", "--threads=4", "--log-level=error"],
    "gunicorn --preload": [
        "gunicorn", f"{SITES}:{{site}}()", "--bind=127.0.0.1:{port}", "--preload", "--workers=2", "--log-level=error",
    ],
    "uvicorn": ["uvicorn", "--factory", f"{SITES}:{{site}}", "--port={port}", "--log-level=error"],
    "uwsgi": [f"--module={SITES}:{{site}}()", "--http-socket=127.0.0.1:{port}", "--master", "--processes=2"],
}  # fmt: skip


class Server:
    """A server process; `restart` brings it back on the same port."""

    def __init__(
        self,
        command: str,
        site: str,
        *,
        program: Sequence[str] = (sys.executable, "-m"),
        options: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._words = [*program, *(part.format(port=self.port, site=site) for part in COMMANDS[command]), *options]
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "SITE": json.dumps(settings)}
        self.url = f"http://127.0.0.1:{self.port}"
        self.restart()

    def restart(self) -> None:
        self.process = subprocess.Popen(self._words, cwd=ROOT, env=self._env)
        wait_until(self._answers, self.process)

    def stop(self) -> None:
        """End it as an operator does, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def serving(command: str, site: str, **settings: Any) -> Iterator[Server]:
    """Run a server for a block."""
    server = Server(command, site, **settings)
    try:
        yield server
    finally:
        server.stop()
