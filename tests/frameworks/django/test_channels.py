"""Channels consumers on daphne: the user of the connection pays, and a refusal closes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.servers import serving
from token_limit_core import Meter, MeterConfig
from token_limit_core.testing import FakeProvider

SOCKETS = ["async", "sync", "group"]


class Site(NamedTuple):
    address: str
    meter: Meter
    log: Path

    def socket(self, way: str, name: str) -> ClientConnection:
        return connect(f"ws://{self.address}/{way}/", additional_headers=_as(name))

    def get(self, name: str) -> requests.Response:
        return requests.get(f"http://{self.address}/http/", headers=_as(name), timeout=60)

    def calls(self, *tenants: str) -> list[int]:
        return [self.meter.store.spend(tenant, 0, 4e9).calls for tenant in tenants]


def _as(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"} if name else {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("channels")
    store, log = f"sqlite:///{folder / 'token_limit.db'}", folder / "server.log"
    command = ("daphne", "--bind=127.0.0.1", "--port={port}", "tests.frameworks.django.consumers:app")
    with FakeProvider() as provider, Meter(MeterConfig(store=store)) as meter:
        meter.set_limit("broke", 0)
        env = {"CONSUMERS_PROVIDER": provider.base_url, "CONSUMERS_STORE": store}
        with serving(*command, env=env, log=log) as server:
            yield Site(server.address, meter, log)


@pytest.mark.parametrize("way", SOCKETS)
def test_each_connection_is_paid_by_its_user(site: Site, way: str) -> None:
    names = [f"alice@{way}", f"{way}-bob", ""]
    nobody = site.calls("")[0]
    for name in names:
        with site.socket(way, name) as socket:
            for _ in range(2):
                socket.send("Why?")
                assert socket.recv(60)
    assert site.calls(way, f"user:{way}-bob", "") == [2, 2, nobody + 2]


def test_a_consumer_of_http_is_paid_by_its_user(site: Site) -> None:
    assert site.get("carol@initech").status_code == 200
    assert site.calls("initech") == [1]


@pytest.mark.parametrize("way", SOCKETS)
def test_a_refusal_closes_the_connection_with_its_status(site: Site, way: str) -> None:
    with site.socket(way, "dave@broke") as socket:
        socket.send("Why?")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4402


def test_a_refusal_is_the_upgrade_response_of_a_consumer_of_http(site: Site) -> None:
    answer = site.get("dave@broke")
    assert (answer.status_code, answer.headers["Content-Type"]) == (402, "application/problem+json")
    assert (answer.json()["kind"], answer.json()["upgrade_url"]) == ("exhausted", "/plans/")


def test_a_consumer_that_handles_the_refusal_goes_on(site: Site) -> None:
    with site.socket("handled", "dave@broke") as socket:
        for _ in range(2):
            socket.send("Why?")
            assert socket.recv(60) == "exhausted"


def test_refusals_are_no_faults_in_the_log(site: Site) -> None:
    site.get("dave@broke")
    assert "Traceback" not in site.log.read_text()
