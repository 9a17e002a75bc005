"""What a call costs on PostgreSQL: round trips, counted on the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import sqlalchemy

from tests.contract.calls import NOW, USD, admit, amounts, call, limit_to, settle
from tests.ledgers import django_database, django_orm, sql
from token_limit_core.limits import OBSERVE
from token_limit_core.stores.contract import Store
from token_limit_core.windows import PER_DAY


class Wire:
    """A port that leads to a server, and the number of times the client has spoken after the server."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.trips = 0
        self._client_spoke_last = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            for source, sink, of_client in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, sink, of_client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, of_client: bool) -> None:
        try:
            while data := source.recv(65536):
                self.trips += of_client and not self._client_spoke_last
                self._client_spoke_last = of_client
                sink.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wire(postgres_url: str) -> Iterator[Wire]:
    url = sqlalchemy.make_url(postgres_url)
    wire = Wire((url.host or "127.0.0.1", url.port or 5432))
    yield wire
    wire.close()


@pytest.fixture(params=["sqlalchemy", "django"])
def store(request: pytest.FixtureRequest, postgres_url: str, wire: Wire) -> Iterator[Store]:
    url = sqlalchemy.make_url(postgres_url).set(host="127.0.0.1", port=wire.port)
    text = url.render_as_string(hide_password=False)
    with opened(request.param, text, request) as store:
        yield store


@contextmanager
def opened(kind: str, url: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    ways: dict[str, Callable[[], AbstractContextManager[tuple[Store, object]]]] = {
        "sqlalchemy": lambda: sql(url),
        "django": lambda: django_orm(request, {**django_database("postgresql", url), "CONN_MAX_AGE": None}),
    }
    with ways[kind]() as (store, _):
        yield store


def trips(wire: Wire, work: Callable[[], object]) -> int:
    """Count the round trips of an operation."""
    before = wire.trips
    work()
    return wire.trips - before


def test_a_call_is_admitted_and_settled_in_two_round_trips(store: Store, wire: Wire) -> None:
    limit_to(store, 10 * USD)
    call(store, 1)  # opens the window
    assert trips(wire, lambda: admit(store, USD, "a")) == 1
    assert trips(wire, lambda: settle(store, "a", USD)) == 1
    assert amounts(store) == (USD + 1, 0)


def test_further_limits_and_destinations_take_no_further_round_trip(store: Store, wire: Wire) -> None:
    limit_to(store, 10 * USD)
    limit_to(store, 10 * USD, frequency=PER_DAY)
    limit_to(store, 0, frequency=PER_DAY, mode=OBSERVE)
    store.destinations = ("https://a.example/events", "https://b.example/events")
    call(store, 1)
    assert trips(wire, lambda: call(store, USD)) == 2
    for destination in store.destinations:
        assert store.waiting_deliveries(destination, NOW, 9) == 2


def test_a_tenant_without_limits_and_a_refused_call_take_as_few(store: Store, wire: Wire) -> None:
    call(store, 1, tenant="free")
    assert trips(wire, lambda: call(store, USD, tenant="free")) == 2
    limit_to(store, USD)
    call(store, USD)
    assert trips(wire, lambda: admit(store, 1)) == 1
    assert admit(store, 1).kind == "exhausted"


def test_a_markup_takes_no_further_round_trip_once_it_was_met(store: Store, wire: Wire) -> None:
    store.set_plan("pro", (), NOW, "20")
    store.assign_plan("acme", "pro", NOW)
    limit_to(store, 10 * USD)
    call(store, 5)
    assert trips(wire, lambda: call(store, 10)) == 2
    assert amounts(store) == (18, 0)
