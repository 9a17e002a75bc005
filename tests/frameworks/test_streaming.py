"""Refusals in streamed responses, in every framework on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from typing import NamedTuple

import pytest
import requests

from tests.servers import serving
from tests.waiting import PATIENCE
from token_limit_core.testing import FakeProvider

GUNICORN = ("gunicorn", "--threads=2", "--log-level=error", "--bind=127.0.0.1:{port}")
UVICORN = ("uvicorn", "--factory", "--log-level=error", "--host=127.0.0.1", "--port={port}")
WERKZEUG = ("flask", "--app", "tests.frameworks.streaming:flask_app()", "run", "--port={port}")
APP = "tests.frameworks.streaming:"
SERVERS = {
    "flask on gunicorn": (*GUNICORN, f"{APP}flask_app()"),
    "flask on werkzeug": WERKZEUG,
    "starlette": (*UVICORN, f"{APP}starlette_app"),
    "fastapi": (*UVICORN, f"{APP}fastapi_app"),
    "django on gunicorn": (*GUNICORN, f"{APP}django_wsgi()"),
    "django on uvicorn": (*UVICORN, f"{APP}django_asgi"),
}


class Site(NamedTuple):
    url: str
    provider: FakeProvider

    def get(self, path: str, tenant: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", headers={"X-Tenant": tenant}, stream=True, timeout=30)


@pytest.fixture(scope="module", params=list(SERVERS))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    command = SERVERS[request.param]
    with FakeProvider() as provider, serving(*command, env={"STREAMING_PROVIDER": provider.base_url}) as server:
        yield Site(f"{server.url}{'/asgi' if request.param == 'django on uvicorn' else ''}", provider)


@pytest.mark.parametrize("how", ["peeked", "peeked-ended"])
def test_a_refusal_before_the_first_byte_is_a_402(site: Site, how: str) -> None:
    site.provider.requests.clear()
    for _ in range(2):  # the second time perhaps on the same connection or thread
        response = site.get(f"/{how}/*ab", "refused")
        assert response.status_code == 402
        assert response.raw.headers.getlist("Content-Type") == ["application/problem+json"]
        assert response.json()["kind"] == "exhausted"
    assert site.provider.requests == []


@pytest.mark.parametrize("how", ["peeked", "peeked-ended", "ended", "plain"])
def test_a_stream_that_is_not_refused_is_whole(site: Site, how: str) -> None:
    response = site.get(f"/{how}/*a*b", "acme")
    assert (response.status_code, response.headers["Content-Type"].partition(";")[0]) == (200, "text/event-stream")
    assert response.text == "data: *\n\ndata: a\n\ndata: *\n\ndata: b\n\n"


@pytest.mark.parametrize("how", ["peeked-ended", "ended"])
def test_a_refusal_after_the_first_byte_ends_the_stream_with_an_event(site: Site, how: str) -> None:
    response = site.get(f"/{how}/a*b", "refused")
    assert response.status_code == 200
    first, error, rest = response.text.split("\n\n")
    kind, data = error.split("\n")
    problem = json.loads(data.removeprefix("data: "))
    assert (first, kind, rest) == ("data: a", "event: error", "")
    assert (problem["status"], problem["kind"], problem["upgrade_url"]) == (402, "exhausted", "/plans/")


def test_a_peeked_stream_goes_on_as_it_comes(site: Site) -> None:
    """The first chunk arrives while the second is still being made: nothing but the start has waited."""
    pause = site.provider.pause_after(chunks=0, times=1)
    response = site.get("/peeked/a*b", "acme")
    chunks = response.iter_content(9)
    assert next(chunks) == b"data: a\n\n"
    assert pause.reached.wait(PATIENCE)
    pause.set()
    assert b"".join(chunks) == b"data: *\n\ndata: b\n\n"


def test_without_the_peek_a_refused_stream_breaks_off(site: Site) -> None:
    """The status is out before the call is made."""
    try:
        response = site.get("/plain/*a", "refused")
        assert response.status_code in (200, 500)  # some servers send nothing before the first chunk
        assert b"data:" not in response.content
    except (requests.RequestException, IncompleteRead):
        return


@pytest.mark.parametrize("site", ["django on gunicorn", "django on uvicorn"], indirect=True, scope="module")
def test_callers_of_an_api_that_only_its_views_know_are_told_apart(site: Site) -> None:
    def call(name: str) -> tuple[int, str]:
        response = requests.get(f"{site.url}/api/", headers={"Authorization": f"Token {name}"}, timeout=30)
        return response.status_code, response.json().get("paid") or response.json()["kind"]

    names = ["acme", "globex", "refused"] * 10
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(call, names))
    assert answers == [(402, "exhausted") if name == "refused" else (200, name) for name in names]
