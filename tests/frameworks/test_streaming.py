"""Refusals in streamed responses, in every framework on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import IncompleteRead
from pathlib import Path
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
    "django on daphne": ("daphne", "--bind=127.0.0.1", "--port={port}", "tests.frameworks.streaming_asgi:app"),
}
ORDERS = ("outside", "inside", "between", "compressed")
"""Where ours stands in Django beside a middleware that is only synchronous (streaming.ORDERS)."""
ASGI = ("django on uvicorn", "django on daphne", *ORDERS)


class Site(NamedTuple):
    url: str
    provider: FakeProvider
    log: Path

    def get(self, path: str, tenant: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", headers={"X-Tenant": tenant}, stream=True, timeout=30)


@pytest.fixture(scope="module", params=[*SERVERS, *ORDERS])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    command = SERVERS.get(request.param, SERVERS["django on uvicorn"])
    prefix = "/asgi" if request.param in ASGI else ""
    order = request.param if request.param in ORDERS else "alone"
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with (
        FakeProvider() as provider,
        serving(*command, env={"STREAMING_PROVIDER": provider.base_url, "STREAMING_ORDER": order}, log=log) as server,
    ):
        yield Site(f"{server.url}{prefix}", provider, log)


@pytest.mark.parametrize("how", ["peeked", "peeked-ended", "peeked-task"])
def test_a_refusal_before_the_first_byte_is_a_402(site: Site, how: str) -> None:
    site.provider.requests.clear()
    for _ in range(2):  # the second time perhaps on the same connection or thread
        response = site.get(f"/{how}/*ab", "refused")
        assert response.status_code == 402
        assert response.raw.headers.getlist("Content-Type") == ["application/problem+json"]
        assert response.json()["kind"] == "exhausted"
    assert site.provider.requests == []


@pytest.mark.parametrize("how", ["peeked", "peeked-ended", "peeked-task", "ended", "plain"])
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
    chunks = response.iter_content(1)  # compression cuts elsewhere
    assert next(chunks) == b"d"
    assert pause.reached.wait(PATIENCE)
    pause.set()
    assert b"".join(chunks) == b"ata: a\n\ndata: *\n\ndata: b\n\n"


@pytest.mark.parametrize("text", ["*a", "a*b"])
def test_without_the_peek_a_refused_stream_breaks_off_and_is_no_fault(site: Site, text: str) -> None:
    """The status is out before the call is made."""
    with suppress(requests.RequestException, IncompleteRead):
        response = site.get(f"/plain/{text}", "refused")
        assert response.status_code in (200, 500)  # some servers send nothing before the first chunk
        assert b"data: *" not in response.content
    assert site.get("/plain/a", "acme").text == "data: a\n\n"
    log = site.log.read_text()
    assert "Traceback" not in log
    assert "Exception in" not in log


@pytest.mark.parametrize("site", ["django on gunicorn", *ASGI], indirect=True, scope="module")
def test_callers_of_an_api_that_only_its_views_know_are_told_apart(site: Site) -> None:
    def call(name: str) -> tuple[int, str]:
        response = requests.get(f"{site.url}/api/", headers={"Authorization": f"Token {name}"}, timeout=30)
        return response.status_code, response.json().get("paid") or response.json()["kind"]

    names = ["acme", "globex", "refused"] * 10
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(call, names))
    assert answers == [(402, "exhausted") if name == "refused" else (200, name) for name in names]


@pytest.mark.parametrize("site", ["inside", "compressed"], indirect=True, scope="module")
def test_what_outer_middleware_adds_is_on_the_upgrade_response_too(site: Site) -> None:
    refused, admitted = site.get("/peeked/*a", "refused"), site.get("/peeked/*a", "acme")
    assert (refused.status_code, admitted.status_code) == (402, 200)
    for response in (refused, admitted):
        assert (response.headers.get("X-Frame-Options"), response.cookies.get("seen")) == ("DENY", "yes")
