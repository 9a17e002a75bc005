"""Run the example: `demo.py` serves it, `demo.py --check` walks through it without a person.

Without OPENAI_API_KEY a fake provider on loopback answers; with it, the real one does, and costs real (little) money.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import requests

from token_limit_core.testing import FakeProvider

HERE = Path(__file__).resolve().parent
LIMITS = {"acme": "0.003", "globex": "5"}


class Site(NamedTuple):
    """A running site: its address, its process, and the store its spend is in."""

    url: str
    process: subprocess.Popen[bytes]
    store: str

    def token_limit(self, *args: str) -> str:
        """Run the command line over the site's store and return what it says."""
        return token_limit(self.store, *args)


def token_limit(store: str, *args: str) -> str:
    """Run the command line."""
    command = [sys.executable, "-m", "token_limit_core", "--store", store, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def environment(data_dir: Path, stack: ExitStack) -> dict[str, str]:
    """Prepare the site's environment, with a fake provider unless a key is set."""
    env = {**os.environ, "DEMO_DATA_DIR": str(data_dir)}
    if not env.get("OPENAI_API_KEY"):
        provider = stack.enter_context(FakeProvider())
        env |= {"OPENAI_API_KEY": "demo", "OPENAI_BASE_URL": provider.base_url, "DEMO_PROVIDER_HOST": provider.host}
    return env


@contextmanager
def site(data_dir: Path, port: int = 0) -> Iterator[Site]:
    """Prepare and serve the site."""
    with ExitStack() as stack:
        env = environment(data_dir, stack)
        data_dir.mkdir(parents=True, exist_ok=True)
        store = f"sqlite:///{data_dir / 'spend.db'}"
        if not (data_dir / "spend.db").exists():
            for tenant, amount in LIMITS.items():
                token_limit(store, "set", tenant, amount)
        port = port or free_port()
        command = [sys.executable, "-m", "uvicorn", "app:app", f"--port={port}", "--log-level=error"]
        server = subprocess.Popen(command, cwd=HERE, env=env)
        try:
            wait_for(f"http://127.0.0.1:{port}/login/", server)
            yield Site(f"http://127.0.0.1:{port}", server, store)
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    """Return a port that is free on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Wait until the site answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the site ended with code {server.returncode}; is the port taken?")
        try:
            requests.get(url, timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise SystemExit(f"the site did not answer at {url} within {seconds:.0f} seconds")


def serve(port: int) -> None:
    """Serve until interrupted."""
    with site(HERE / ".demo", port) as running:
        print(
            f"\n  Chat  {running.url}/      alice or bob, password demo (alice soon hits a limit of $0.003)"
            f"\n  API   {running.url}/docs  with the refusals among the responses"
            f"\n\n  Raise the limit meanwhile:"
            f"\n    token-limit --store {running.store} set acme 0.02"
            "\n\n  Stop with Ctrl+C.\n"
        )
        try:
            running.process.wait()
        except KeyboardInterrupt:
            print("stopped")


def main() -> None:
    """Serve the site, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="walk through the site without a person")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if options.check:
        from walkthrough import walk

        with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as running:
            walk(running)
    else:
        serve(options.port)


if __name__ == "__main__":
    main()
