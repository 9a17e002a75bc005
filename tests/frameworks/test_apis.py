"""Refusals in frameworks that answer exceptions themselves: 402, and nothing in the log that looks like a fault.

Applications that swallow every exception answer 402, too, where they ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.servers import serving
from token_limit_core.testing import FakeProvider

GUNICORN = ("gunicorn", "--threads=2", "--log-level=info", "--bind=127.0.0.1:{port}")
UVICORN = ("uvicorn", "--factory", "--log-level=info", "--host=127.0.0.1", "--port={port}")
APP = "tests.frameworks.apis:"
SERVERS = {
    "flask-restx": ((*GUNICORN, f"{APP}restx()"), [""]),
    "fastapi": ((*UVICORN, f"{APP}fastapi"), ["", "async/"]),
    "ninja on gunicorn": ((*GUNICORN, f"{APP}django_wsgi()"), ["", "rest/"]),
    "ninja on uvicorn": ((*UVICORN, f"{APP}django_asgi"), ["", "async/", "rest/"]),
}


class Site(NamedTuple):
    url: str
    ways: list[str]
    log: Path

    def get(self, way: str) -> requests.Response:
        return requests.get(f"{self.url}/{way}", timeout=30)


@pytest.fixture(scope="module", params=list(SERVERS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    command, ways = SERVERS[request.param]
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with FakeProvider() as provider, serving(*command, env={"APIS_PROVIDER": provider.base_url}, log=log) as server:
        yield Site(server.url, ways, log)


def test_a_refusal_is_a_402_and_no_fault(site: Site) -> None:
    for way in site.ways:
        for kind in ("ask", "wrapped"):
            answer = site.get(f"{way}{kind}")
            assert (way, kind, answer.status_code) == (way, kind, 402)
            assert answer.headers["Content-Type"] == "application/problem+json"
    log = site.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_a_fault_of_the_application_stays_one(site: Site) -> None:
    for way in site.ways:
        assert site.get(f"{way}broken").status_code == 500
    assert site.log.read_text().count("ZeroDivisionError") >= len(site.ways)


SWALLOWING = {
    "flask": ((*GUNICORN, f"{APP}flask()"), ""),
    "fastapi": ((*UVICORN, f"{APP}swallowing"), ""),
    "django on gunicorn": ((*GUNICORN, f"{APP}django_wsgi()"), "swallowing/"),
    "django on uvicorn": ((*UVICORN, f"{APP}django_asgi"), "swallowing/"),
}


@pytest.fixture(scope="module", params=list(SWALLOWING))
def swallowing(request: pytest.FixtureRequest) -> Iterator[str]:
    command, prefix = SWALLOWING[request.param]
    with FakeProvider() as provider:
        env = {"APIS_PROVIDER": provider.base_url, "APIS_RENDER": "1"}
        with serving(*command, env=env) as server:
            yield f"{server.url}/{prefix}"


def answer(url: str, tenant: str) -> tuple[int, str, str | None]:
    """Return the status, the type and a header that the application gives every response."""
    response = requests.get(url, headers={"X-Tenant": tenant, "Origin": "https://example.com"}, timeout=30)
    headers = response.headers
    return response.status_code, headers["Content-Type"].split(";")[0], headers.get("Access-Control-Allow-Origin")


def test_an_error_that_hides_a_refusal_gives_way_to_the_upgrade_response(swallowing: str) -> None:
    assert answer(f"{swallowing}error", "refused") == (402, "application/problem+json", "*")


@pytest.mark.parametrize(("kind", "status"), [("own", 402), ("text", 200)])
def test_what_is_no_error_or_made_for_the_refusal_stays(swallowing: str, kind: str, status: int) -> None:
    code, type_, _ = answer(f"{swallowing}{kind}", "refused")
    assert (code, type_ == "application/problem+json") == (status, False)


@pytest.mark.parametrize("way", ["checked/text", "checked/async/text"])
def test_a_view_that_looks_at_the_limit_first_is_refused_before_it_runs(swallowing: str, way: str) -> None:
    assert answer(f"{swallowing}{way}", "refused") == (402, "application/problem+json", "*")
    assert answer(f"{swallowing}{way}", "acme")[0] == 200
