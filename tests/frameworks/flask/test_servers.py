"""The app on real servers: threads, sockets, processes, people who hang up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.servers import serving
from tests.waiting import wait_until
from token_limit_core import Meter, MeterConfig
from token_limit_core.testing import FakeProvider

APP = "tests.frameworks.flask.saas:create_app()"
SERVERS = {
    "werkzeug": ["flask", "--app", APP, "run", "--port", "{port}", "--with-threads", "--no-reload"],
    "werkzeug --debug": ["flask", "--app", APP, "--debug", "run", "--port", "{port}", "--with-threads", "--no-reload"],
    "gunicorn": ["gunicorn", APP, "--bind=127.0.0.1:{port}", "--workers=2", "--threads=4", "--log-level=error"],
}


class Site:
    """A running app, its provider, and a Meter of this process over its store."""

    def __init__(self, url: str, provider: FakeProvider, meter: Meter) -> None:
        self.url = url
        self.provider = provider
        self.meter = meter

    def sign_in(self, user: str) -> requests.Session:
        session = requests.Session()
        assert session.get(f"{self.url}/login/{user}", timeout=30).text == "welcome"
        return session

    def calls(self, tenant: str) -> int:
        return self.meter.store.spend(tenant, 0, 4e9).calls


@pytest.fixture(scope="module", params=list(SERVERS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    store = f"sqlite:///{tmp_path_factory.mktemp('site')}/spend.db"
    with FakeProvider() as provider, Meter(MeterConfig(store=store)) as meter:
        config = {
            "PROVIDER": provider.base_url,
            "TOKEN_LIMIT_STORE": store,
            "TOKEN_LIMIT_HOSTS": {provider.host: "openai"},
            "TOKEN_LIMIT_USER_TENANT_ATTRIBUTES": ["organization"],
        }
        with serving(*SERVERS[request.param], env={"FLASK_SITE": json.dumps(config)}) as server:
            yield Site(server.url, provider, meter)


def test_two_tenants_interleaved_are_billed_apart(site: Site) -> None:
    sessions = {tenant: site.sign_in(f"somebody@{tenant}") for tenant in ("acme", "globex")}
    views = ["plain", "streamed", "aplain", "streamed_in_context", "no_call"]
    before = {tenant: site.calls(tenant) for tenant in sessions}

    def visit(number: int) -> int:
        tenant = "acme" if number % 2 else "globex"
        response = requests.get(
            f"{site.url}/{views[number % 5]}", cookies=sessions[tenant].cookies.get_dict(), timeout=60
        )
        assert response.content
        return response.status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(visit, range(200))) == [200] * 200
    assert {tenant: site.calls(tenant) - before[tenant] for tenant in sessions} == {"acme": 80, "globex": 80}
    assert site.calls("") == 0
    assert site.meter.store.holds() == []


@pytest.mark.parametrize("view", ["plain", "wrapped", "grouped"])
def test_a_limit_set_in_another_process_holds_for_the_next_call(site: Site, view: str) -> None:
    initech = site.sign_in(f"peter@initech-{view}")
    assert initech.get(f"{site.url}/plain", timeout=30).status_code == 200
    site.meter.set_limit(f"initech-{view}", 0)
    before = len(site.provider.requests)
    refused = initech.get(f"{site.url}/{view}", headers={"Accept": "text/html"}, timeout=30)
    assert (refused.status_code, "No AI allowance" in refused.text) == (402, True)
    assert len(site.provider.requests) == before
    site.meter.set_limit(f"initech-{view}", 1)
    assert initech.get(f"{site.url}/plain", timeout=30).status_code == 200


@pytest.mark.parametrize("view", ["streamed", "streamed_in_context"])
def test_a_customer_who_hangs_up_leaves_no_hold(site: Site, view: str) -> None:
    site.meter.set_limit("hooli", 5)
    customer = site.sign_in("gavin@hooli")
    before = site.calls("hooli")
    go_on = site.provider.pause_after(chunks=2, times=1)
    response = customer.get(f"{site.url}/{view}", stream=True, timeout=30)
    chunks = response.iter_content(8)  # kept: requests hangs up when its generator is freed
    next(chunks)
    assert len(site.meter.store.holds("hooli")) == 1
    response.close()
    go_on.set()
    wait_until(lambda: site.calls("hooli") == before + 1)
    assert site.meter.store.holds() == []


@pytest.mark.parametrize("path", ["file", "real_file"])
def test_a_file_arrives_whole(site: Site, path: str) -> None:
    expected = b"x" * 100_000 if path == "file" else Path(__file__).with_name("saas.py").read_bytes()
    assert requests.get(f"{site.url}/{path}", timeout=30).content == expected


def test_a_head_request_and_a_missing_page_are_as_ever(site: Site) -> None:
    assert requests.head(f"{site.url}/no_call", timeout=30).headers["Content-Length"] == "13"
    assert requests.get(f"{site.url}/missing", timeout=30).status_code == 404
