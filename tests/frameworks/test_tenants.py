"""The tenant follows the work, in every framework on a real server: one suite, two customers at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import pytest
import requests
from websockets.sync.client import connect

from tests.servers import serving
from tests.waiting import PATIENCE, wait_until
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core.stores.queries import EventQuery
from token_limit_core.testing import FakeProvider

SAAS = "tests.frameworks.saas."
GUNICORN = ("gunicorn", "--workers=2", "--threads=4", "--log-level=critical", "--bind=127.0.0.1:{port}")
UVICORN = ("uvicorn", "--log-level=critical", "--host=127.0.0.1", "--port={port}", "--ws=websockets-sansio")
FACTORY = (*UVICORN, "--factory")
KEPT = ["do/kept_runner", "do/kept_to_thread"]
THREADS = ["do/bare_thread", "do/bare_loop", "do/timer", "do/submitted", "do/mapped", "do/applied"]
SYNC = ["do/ask", "do/in_pool", "do/own_loop", "do/runner", *KEPT, *THREADS, "do/stream"]
ON_LOOP = ["do/aask", "do/tasks", "do/to_thread", "do/in_executor", "do/astream", "do/produced"]
LATER = ["do/background", "do/background_in_thread"]
QUESTIONS = {"alice": "How does the limit of a whole company hold? " * 12, "bob": "Why?", "carol": "Any credit?"}
TENANTS = {"alice": "acme", "bob": "globex"}
CALLS = 100
BROWSER = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


class Server(NamedTuple):
    """How an application is served, its ways to call, those that let a refusal out, and the place of our middleware."""

    command: tuple[str, ...]
    ways: list[str]
    refused: list[str]
    caught: str = "do/caught"
    streams: tuple[str, ...] = ("do/stream", "do/pumped")
    order: str = "outermost"


REFUSED = ["do/ask", "do/in_pool", "do/own_loop", "do/wrapped", "do/grouped"]
ASYNC_REFUSED = ["do/aask", "do/tasks", "do/to_thread", "do/awrapped"]
SERVERS = {
    "django on gunicorn": Server((*GUNICORN, f"{SAAS}django_app:wsgi"), [*SYNC, "do/closing"], REFUSED),
    "django on uvicorn": Server(
        (*UVICORN, f"{SAAS}django_app:asgi"),
        ["do/ask", "do/in_pool", *KEPT, *THREADS, *(f"a{way}" for way in ON_LOOP)],
        [*REFUSED, *(f"a{way}" for way in ASYNC_REFUSED)],
        caught="ado/acaught",
        streams=("ado/astream", "ado/bounded"),
        order="innermost",
    ),
    "django between, on uvicorn": Server(
        (*UVICORN, f"{SAAS}django_app:asgi"),
        ["do/ask", "do/bare_thread", "ado/aask", "ado/produced"],
        ["do/wrapped", "ado/tasks"],
        streams=("ado/produced", "ado/bounded"),
        order="between",
    ),
    "rest framework on gunicorn": Server(
        (*GUNICORN, f"{SAAS}django_app:wsgi"),
        ["rest/ask", "rest/in_pool", "rest/own_loop", "rest/kept_runner", "rest/submitted", "rest/stream"],
        ["rest/ask", "rest/own_loop", "rest/wrapped", "rest/grouped"],
        caught="rest/caught",
        streams=("rest/stream",),
        order="rest",
    ),
    "flask on gunicorn": Server(
        (*GUNICORN, f"{SAAS}flask_app:create_app()"), [*SYNC, "do/stream_in_context", "ado/alone"], REFUSED
    ),
    "starlette": Server(
        (*FACTORY, f"{SAAS}asgi:starlette_app"),
        [*SYNC, *ON_LOOP, *LATER],
        [*REFUSED, *ASYNC_REFUSED],
        streams=("do/stream", "do/astream", "do/bounded"),
    ),
    "fastapi": Server(
        (*FACTORY, f"{SAAS}asgi:fastapi_app"),
        [*SYNC, *ON_LOOP, *LATER],
        [*REFUSED, *ASYNC_REFUSED],
        caught="do/acaught",
        streams=("do/produced", "do/bounded"),
    ),
    "flask in starlette": Server(
        (*FACTORY, f"{SAAS}asgi:flask_in_starlette"), [*SYNC, "do/stream_in_context"], REFUSED
    ),
}


class Site:
    """A running application, and a Meter of the test's own over its store."""

    def __init__(self, server: Server, address: str, meter: Meter, provider: FakeProvider) -> None:
        self.server = server
        self.address = address
        self.meter = meter
        self.provider = provider
        self._local = threading.local()

    def get(self, way: str, name: str, **headers: str) -> requests.Response:
        """Ask as somebody, on a connection of this thread's."""
        session = self._local.__dict__.setdefault("session", requests.Session())
        sent = {"Authorization": f"Bearer {name}", **headers}
        url = f"http://{self.address}/{way}"
        answer: requests.Response = session.get(url, params={"q": QUESTIONS[name]}, headers=sent, timeout=60)
        return answer

    def events(self) -> list[LLMEvent]:
        """List what the ledger has, newest first."""
        return [row.entry.event for row in self.meter.store.events(EventQuery(size=10_000))]

    def new_events(self, count: int, work: Callable[[], object]) -> list[LLMEvent]:
        """Do some work, and wait for as many events."""
        before = len(self.events())
        work()
        wait_until(lambda: len(self.events()) >= before + count)
        return self.events()[: len(self.events()) - before]


@pytest.fixture(scope="module", params=list(SERVERS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = SERVERS[request.param]
    store = f"sqlite:///{tmp_path_factory.mktemp('saas') / 'token_limit.db'}"
    with FakeProvider() as provider, Meter(MeterConfig(store=store)) as meter:
        for tenant, amount in {"acme": 5, "globex": 5, "broke": 0}.items():
            meter.set_limit(tenant, amount)
        env = {"SAAS_STORE": store, "SAAS_PROVIDER": provider.base_url, "SAAS_ORDER": server.order}
        with serving(*server.command, env=env) as running:
            yield Site(server, running.address, meter, provider)


def _asked_by(event: LLMEvent) -> str:
    """Tell by the length of the question whose it was."""
    return "alice" if event.input_tokens > 50 else "bob"


def test_each_of_two_customers_pays_for_its_own_calls(site: Site) -> None:
    ways = site.server.ways
    people = list(TENANTS)
    calls = [(ways[i // 2 % len(ways)], people[i % 2]) for i in range(CALLS)]

    def work() -> None:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda call: site.get(*call), calls))
        failed = [(call, answer.status_code) for call, answer in zip(calls, answers, strict=True) if not answer.text]
        assert {answer.status_code for answer in answers} == {200}, failed

    events = site.new_events(CALLS, work)
    assert Counter(event.tenant_id for event in events) == {"acme": CALLS // 2, "globex": CALLS // 2}
    assert [event for event in events if event.tenant_id != TENANTS[_asked_by(event)]] == []
    assert site.meter.store.holds() == []


@pytest.mark.parametrize("site", ["starlette", "fastapi"], indirect=True)
def test_each_message_of_a_websocket_is_paid_by_who_opened_it(site: Site) -> None:
    def talk(name: str) -> None:
        headers = {"Authorization": f"Bearer {name}"}
        with connect(f"ws://{site.address}/socket", additional_headers=headers) as websocket:
            for _ in range(10):
                websocket.send(QUESTIONS[name])
                assert websocket.recv(60)

    def work() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(talk, [*TENANTS, *TENANTS]))

    events = site.new_events(40, work)
    assert Counter((event.tenant_id, _asked_by(event)) for event in events) == {
        ("acme", "alice"): 20,
        ("globex", "bob"): 20,
    }


def test_forged_headers_change_nothing(site: Site) -> None:
    names = ("X-Tenant", "X-Tenant-ID", "X-User-ID", "Tenant", "Tenant-ID", "X-Forwarded-User", "X-Forwarded-Host")
    forged = {**dict.fromkeys(names, "globex"), "Cookie": "tenant=globex"}
    events = site.new_events(1, partial(site.get, site.server.ways[0], "alice", **forged))
    assert [event.tenant_id for event in events] == ["acme"]


def test_a_refusal_that_leaves_the_application_is_the_upgrade_response(site: Site) -> None:
    sent = len(site.provider.requests)
    for way in site.server.refused:
        answer = site.get(way, "carol")
        assert (way, answer.status_code) == (way, 402)
        assert (answer.headers["Content-Type"], answer.json()["kind"]) == ("application/problem+json", "exhausted")
    page = site.get(site.server.refused[0], "carol", Accept=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (402, "text/html; charset=utf-8")
    assert len(site.provider.requests) == sent


def test_an_application_that_catches_everything_keeps_its_answer(site: Site) -> None:
    answer = site.get(site.server.caught, "carol")
    assert (answer.status_code, answer.text.strip('"')) == (200, "all is well")


def test_a_customer_who_hangs_up_pays_for_what_came_and_leaves_no_hold(site: Site) -> None:
    for way in site.server.streams:
        _hang_up(site, way)


def _hang_up(site: Site, way: str) -> None:
    def work() -> None:
        site.provider.reply_with("word " * 2000, times=1)
        pause = site.provider.pause_after(chunks=20, times=1)
        headers = {"Authorization": "Bearer bob", "Accept-Encoding": "identity"}
        url = f"http://{site.address}/{way}"
        answer = requests.get(url, params={"q": "Why?"}, headers=headers, stream=True, timeout=60)
        chunks = answer.iter_content(4)  # kept: requests hangs up when its generator is freed
        next(chunks)
        assert pause.reached.wait(PATIENCE)
        assert len(site.meter.store.holds()) == 1
        answer.close()
        pause.set()

    (event,) = site.new_events(1, work)
    assert (way, event.tenant_id) == (way, "globex")
    assert site.meter.store.holds() == []
    assert [status.held for status in site.meter.usage("globex")] == [0]
