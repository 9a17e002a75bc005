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

import requests

from token_limit_core.testing import FakeProvider

HERE = Path(__file__).resolve().parent


def environment(data_dir: Path, stack: ExitStack) -> dict[str, str]:
    """Prepare the site's environment, with a fake provider unless a key is set."""
    env = {**os.environ, "DEMO_DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "saas.settings"}
    if not env.get("OPENAI_API_KEY"):
        provider = stack.enter_context(FakeProvider())
        env |= {"OPENAI_API_KEY": "demo", "OPENAI_BASE_URL": provider.base_url, "DEMO_PROVIDER_HOST": provider.host}
    return env


def manage(*args: str, env: dict[str, str]) -> None:
    """Run a management command of the site."""
    subprocess.run([sys.executable, "manage.py", *args], cwd=HERE, env=env, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def site(data_dir: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Prepare and serve the site; yields its address and its process."""
    with ExitStack() as stack:
        env = environment(data_dir, stack)
        data_dir.mkdir(parents=True, exist_ok=True)
        manage("migrate", "--verbosity=0", env=env)
        manage("load_demo", env=env)
        address = f"127.0.0.1:{port or free_port()}"
        command = [sys.executable, "manage.py", "runserver", "--noreload", address]
        server = subprocess.Popen(command, cwd=HERE, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(f"http://{address}/login/", server)
            yield f"http://{address}", server
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
    with site(HERE / ".demo", port) as (url, server):
        print(
            f"\n  Chat    {url}/        alice or bob, password demo (alice soon hits a limit of $0.003)"
            f"\n  Admin   {url}/admin/  support, password demo (raise a limit under Token limits)"
            "\n\n  Stop with Ctrl+C.\n"
        )
        try:
            server.wait()
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

        with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as (url, _):
            walk(url)
    else:
        serve(options.port)


if __name__ == "__main__":
    main()
