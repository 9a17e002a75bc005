"""The published `token-limit` client, as it is installed, against our endpoints."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.remote.receiver import key_for
from tests.remote.servers import serving
from tests.remote.test_servers import SITES
from token_limit_core.stores import open_store
from token_limit_core.testing import FakeProvider

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("published_client.py")


def python_of_the_client() -> str:
    """Find the Python that has the client: named by the environment, or made by the nox session."""
    named = os.environ.get("TOKEN_LIMIT_PUBLISHED_CLIENT")
    if named:
        return named
    made = ROOT / ".nox" / "published_client" / "bin" / "python"
    if made.exists():
        return str(made)
    missing = "the published client is not installed; run `nox -s published_client --install-only`"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.mark.parametrize(("command", "site"), SITES, ids=[" ".join(site) for site in SITES])
def test_it_reports_asks_sets_limits_and_is_refused(tmp_path: Path, command: str, site: str) -> None:
    python = python_of_the_client()
    url = f"sqlite:///{tmp_path}/ledger.db"
    store = open_store(url)
    token = key_for(store)
    with serving(command, site, store=url) as server, FakeProvider() as provider:
        settings = {"base": f"{server.url}/token-limit", "token": token, "provider": provider.base_url}
        words = [python, str(SCRIPT), json.dumps(settings)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        saw = json.loads(done.stdout.splitlines()[-1])
        assert saw == {
            "sync": ["answered", "refused", "refused"],
            "async": ["answered"] + ["refused"] * 2,
            "errors": [],
        }
        assert len(provider.requests) == 2
    for tenant in ("acme", "globex"):
        spend = store.spend(tenant, 0, 4e9)
        assert (spend.calls, spend.unpriced, spend.cost_nano > 0) == (1, 0, True)
        assert [(limit.amount, limit.frequency) for limit in store.limits(tenant)] == [(0, "per_month")]
    store.close()
