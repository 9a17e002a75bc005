"""Real sockets under uvicorn: people in parallel, people who hang up, WebSockets."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
import uvicorn
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.waiting import PATIENCE, wait_until
from token_limit_core import Meter
from token_limit_core.testing import FakeProvider

from . import site
from .conftest import Events
from .site import metered


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application from a thread of this process; gives host and port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture(params=[site.starlette_app, site.fastapi_app])
def address(request: pytest.FixtureRequest, stored: Meter) -> Iterator[str]:
    with serving(metered(make=request.param, meter=stored)) as address:
        yield address


def headers(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def get(address: str, path: str, name: str, **options: Any) -> requests.Response:
    return requests.get(f"http://{address}/{path}", headers=headers(name), timeout=30, **options)


def test_customers_in_parallel_are_billed_apart(address: str, events: Events) -> None:
    paths = [endpoint.__name__ for endpoint in site.BILLED]
    calls = [(path, name) for path in paths for name in ("alice", "bob", "bob")]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: get(address, *call), calls))
    assert [answer.status_code for answer in answers] == [200] * len(calls)
    wait_until(lambda: len(events) >= len(calls))  # those of background tasks are made after the answer
    tenants = events.tenants()
    assert {name: tenants.count(name) for name in set(tenants)} == {
        "user:alice": len(paths),
        "user:bob": 2 * len(paths),
    }


@pytest.mark.parametrize("path", ["streamed", "streamed_by_threads"])
def test_a_person_who_hangs_up_leaves_no_hold(
    address: str, stored: Meter, events: Events, provider: FakeProvider, path: str
) -> None:
    stored.set_limit("user:alice", 1)
    pause = provider.pause_after(chunks=3)
    answer = get(address, path, "alice", stream=True)
    chunks = answer.iter_content(1)  # kept: requests hangs up when its generator is freed
    next(chunks)
    assert pause.reached.wait(PATIENCE)
    gc.collect()  # as the middleware does for streams that were cut off; this one is not
    assert len(stored.store.holds()) == 1, (events, stored.status(), stored.usage("user:alice"))
    answer.close()
    pause.set()
    wait_until(lambda: len(events) == 1)
    assert events.tenants() == ["user:alice"]
    assert stored.store.holds() == []
    (status,) = stored.usage("user:alice")
    assert status.held == 0
    assert status.settled > 0


def test_a_refusal_is_a_402_in_either_form(address: str, stored: Meter, provider: FakeProvider) -> None:
    stored.set_limit("user:alice", 0)
    for path in (endpoint.__name__ for endpoint in site.REFUSED):
        answer = get(address, path, "alice")
        assert (answer.status_code, answer.headers["content-type"]) == (402, "application/problem+json")
    assert get(address, "plain", "bob").ok
    assert len(provider.requests) == 1


def test_sockets_are_billed_and_refused(address: str, stored: Meter, events: Events) -> None:
    with connect(f"ws://{address}/socket", additional_headers=headers("alice")) as socket:
        socket.send("hello")
        assert socket.recv(30)
        stored.set_limit("user:alice", 0)
        socket.send("hello again")
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4402
    assert "no AI allowance" in closed.value.rcvd.reason
    with pytest.raises(InvalidStatus) as denied:
        connect(f"ws://{address}/early_socket", additional_headers=headers("alice"))
    assert denied.value.response.status_code == 402
    assert json.loads(denied.value.response.body)["kind"] == "exhausted"
    assert events.tenants() == ["user:alice"]
