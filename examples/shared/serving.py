"""What the examples' `demo.py` do around their sites: a provider, a server's process, the command line."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import requests

from token_limit_core.testing import FakeProvider


class Site:
    """An example's folder, the environment its commands run in, and the address it is served at."""

    def __init__(self, folder: Path, env: dict[str, str], port: int = 0) -> None:
        self.folder = folder
        self.env = env
        self.port = port or free_port()
        if port and is_taken(port):
            raise SystemExit(f"port: {port} is taken; stop what listens there, or give another one: --port {port + 1}")
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, *args: str) -> str:
        """Run Python with these arguments, and return what it says."""
        command = [sys.executable, *args]
        done = subprocess.run(command, cwd=self.folder, env=self.env, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    @contextmanager
    def serving(self, *args: str) -> Iterator[None]:
        """Run Python with these arguments, a server, until the block ends."""
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, *args], cwd=self.folder, env=self.env, **quiet)
        try:
            self._wait()
            yield
        finally:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _wait(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the site ended with code {self.process.returncode}; is the port taken?")
            try:
                requests.get(f"{self.url}/login/", timeout=5)
                if self.process.poll() is None:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise SystemExit(f"the site did not answer at {self.url} within {seconds:.0f} seconds")


@contextmanager
def prepared(folder: Path, data: Path, port: int = 0, **env: str) -> Iterator[Site]:
    """Give an example's site an environment, with a fake provider unless OPENAI_API_KEY is set."""
    data.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "DEMO_DATA_DIR": str(data), **env}
    if env.get("OPENAI_API_KEY"):
        yield Site(folder, env, port)
        return
    with FakeProvider() as provider:
        env |= {"OPENAI_API_KEY": "demo", "OPENAI_BASE_URL": provider.base_url, "DEMO_PROVIDER_HOST": provider.host}
        yield Site(folder, env, port)


def is_taken(port: int) -> bool:
    """Return whether something listens on a port of loopback already."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that is free on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(
    folder: Path, site: Callable[[Path, int], AbstractContextManager[Site]], walk: Callable[[Site], None], hint: str
) -> None:
    """Serve an example's site and print the hint, or walk through it with `--check`."""
    parser = argparse.ArgumentParser(description="Run the example.")
    parser.add_argument("--check", action="store_true", help="walk through the site without a person")
    parser.add_argument("--port", type=int, help="8000 by default, and any free one with --check")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    if options.check:
        with tempfile.TemporaryDirectory() as data, site(Path(data), options.port or 0) as running:
            walk(running)
        return
    data = folder / ".demo"
    with site(data, options.port or 8000) as running:
        print(hint.format(url=running.url, store=f"sqlite:///{data / 'spend.db'}"), flush=True)
        try:
            running.process.wait()
        except KeyboardInterrupt:
            print("stopped")


def _stop(number: int, frame: object) -> None:
    """End as at Ctrl+C, so that the site's process ends too."""
    raise SystemExit(128 + number)
