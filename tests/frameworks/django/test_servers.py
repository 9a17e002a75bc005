"""The example site on real servers: several processes, real sockets, people who hang up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers import serving
from tests.waiting import wait_until
from token_limit_core.testing import FakeProvider

ROOT = Path(__file__).resolve().parents[3]
SITE = ROOT / "examples" / "django_saas"
sys.path.insert(0, str(ROOT / "examples"))

from shared.visitor import Visitor  # noqa: E402

SERVERS = {
    "gunicorn": ["gunicorn", "saas.wsgi", "--bind=127.0.0.1:{port}", "--workers=2", "--threads=4", "--log-level=error"],
    "gunicorn --preload": [
        "gunicorn",
        "saas.wsgi",
        "--bind=127.0.0.1:{port}",
        "--workers=2",
        "--preload",
        "--log-level=error",
    ],
    "uvicorn": ["uvicorn", "saas.asgi:application", "--host=127.0.0.1", "--port={port}", "--log-level=error"],
}


ANSWER = """
import sys
from token_limit_django.meter import get_meter
m = get_meter()
for expression in sys.stdin:
    print(repr(eval(expression)), flush=True)
"""


class Site:
    """A running site, and the means to look into its ledger from this process."""

    def __init__(
        self,
        url: str,
        env: dict[str, str],
        provider: FakeProvider,
        process: subprocess.Popen[bytes],
        shell: subprocess.Popen[str],
    ) -> None:
        self.url = url
        self.env = env
        self.provider = provider
        self.process = process
        self._shell = shell

    def set_limit(self, tenant: str, amount: int) -> None:
        """Set a limit in that process."""
        assert self.query(f"m.set_limit({tenant!r}, {amount}).tenant_id") == tenant

    def query(self, expression: str) -> Any:
        """Evaluate an expression over the site's store, in a process beside the server's."""
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{expression}\n")
        self._shell.stdin.flush()
        return eval(self._shell.stdout.readline())


def manage(*args: str, env: dict[str, str]) -> str:
    command = [sys.executable, "manage.py", *args]
    return subprocess.run(command, cwd=SITE, env=env, check=True, capture_output=True, text=True).stdout


@contextmanager
def shell(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process of the site's that evaluates expressions over its Meter `m`, a line each."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", ANSWER]
    with subprocess.Popen(
        command, cwd=SITE, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "saas.settings",
        "DEMO_DATA_DIR": str(folder),
        "OPENAI_API_KEY": "test",
    }


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the site's databases once, for all of its servers to start from."""
    folder = tmp_path_factory.mktemp("loaded")
    manage("migrate", "--verbosity=0", env=environment(folder))
    manage("load_demo", env=environment(folder))
    return folder


@contextmanager
def running(name: str, loaded: Path, folder: Path) -> Iterator[Site]:
    shutil.copytree(loaded, folder, dirs_exist_ok=True)
    with FakeProvider() as provider:
        env = environment(folder)
        env |= {"OPENAI_BASE_URL": provider.base_url, "DEMO_PROVIDER_HOST": provider.host}
        with serving(*SERVERS[name], folder=SITE, env=env) as server, shell(env) as asked:
            yield Site(server.url, env, provider, server.process, asked)


@pytest.fixture(scope="module", params=list(SERVERS))
def site(request: pytest.FixtureRequest, loaded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(request.param, loaded, tmp_path_factory.mktemp("site")) as running_site:
        yield running_site


def test_two_customers_in_parallel_are_billed_apart(site: Site) -> None:
    site.set_limit("acme", 1)
    visitors = [Visitor(site.url, name) for name in ("alice", "bob")]
    before = [site.query(f"m.store.spend({slug!r}, 0, 4e9).calls") for slug in ("acme", "globex")]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(visitors[i % 2].chat, f"question {i}") for i in range(40)]
        statuses = [future.result().status_code for future in futures]
    assert statuses == [200] * 40
    after = [site.query(f"m.store.spend({slug!r}, 0, 4e9).calls") for slug in ("acme", "globex")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [20, 20]
    assert site.query("m.store.spend('', 0, 4e9).calls") == 0
    assert site.query("len(m.store.holds())") == 0


def test_a_limit_set_in_another_process_holds_for_the_next_call(site: Site) -> None:
    alice = Visitor(site.url, "alice")
    site.set_limit("acme", 0)
    before = len(site.provider.requests)
    assert {alice.chat("refused?").status_code for _ in range(6)} == {402}
    assert len(site.provider.requests) == before
    site.set_limit("acme", 1)
    assert {alice.chat("answered?").status_code for _ in range(6)} == {200}
    assert "of $1.00" in alice.usage()


# not on uvicorn: under ASGI Django reads a synchronous body to its end before it sends a byte
@pytest.mark.parametrize("site", ["gunicorn", "gunicorn --preload"], indirect=True, scope="module")
def test_a_customer_who_hangs_up_leaves_no_hold(site: Site) -> None:
    bob = Visitor(site.url, "bob")
    before = site.query("m.store.spend('globex', 0, 4e9).calls")
    go_on = site.provider.pause_after(chunks=2)
    response = bob.chat("Tell me a long story", stream=True)
    chunks = response.iter_content(8)  # kept: requests hangs up when its generator is freed
    next(chunks)
    response.close()
    go_on.set()
    wait_until(lambda: site.query("m.store.spend('globex', 0, 4e9).calls") == before + 1)
    assert site.query("len(m.store.holds())") == 0


def test_a_killed_server_loses_no_settled_call(loaded: Path, tmp_path: Path) -> None:
    with running("gunicorn", loaded, tmp_path) as site:
        alice = Visitor(site.url, "alice")
        answered = sum(alice.chat(f"question {i}").ok for i in range(5))
        site.provider.pause_after(chunks=1)
        with pytest.raises(requests.RequestException), ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(alice.chat, "and then the power fails")
            wait_until(lambda: site.query("len(m.store.holds())") == 1)
            os.killpg(os.getpgid(site.process.pid), 0)  # the group is alive
            subprocess.run(["pkill", "-KILL", "-P", str(site.process.pid)], check=True)
            hanging.result()
        assert site.query("m.store.spend('acme', 0, 4e9).calls") == answered == 5
        assert site.query("len(m.store.holds())") == 1
        assert site.query("(m.store.expire(4e9), len(m.store.holds()))") == (1, 0)
        state = site.query("[(s.settled, s.held) for s in m.usage('acme')]")
        assert state == [(site.query("m.store.spend('acme', 0, 4e9).cost_nano"), 0)]
