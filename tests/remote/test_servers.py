"""The endpoints on real servers, with our own Meter and raw sockets as clients."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import openai
import pytest

from tests.ledgers import Factory, django_postgres, django_sqlite, sql_sqlite
from tests.remote.receiver import key_for
from tests.remote.servers import serving
from tests.servers import Server
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, Meter, MeterConfig
from token_limit_core.stores.contract import Store
from token_limit_core.testing import FakeProvider

MESSAGES: Any = [{"role": "user", "content": "hello"}]
SITES = [("werkzeug", "flask_ingest"), ("gunicorn", "django_ingest"), ("uvicorn", "starlette_ingest")]
BACKENDS: list[tuple[str, str, Factory]] = [
    *[(*site, sql_sqlite) for site in SITES],
    ("gunicorn", "django_ingest", django_sqlite),
    ("gunicorn", "django_ingest", django_postgres),
]


class Backend(NamedTuple):
    """A running site, and its store seen from here."""

    server: Server
    store: Store
    token: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/token-limit/events"


@pytest.fixture(scope="module", params=BACKENDS, ids=[f"{site} {kind.__name__}" for _, site, kind in BACKENDS])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    command, site, kind = request.param
    with kind(request, tmp_path_factory.mktemp("backend")) as (store, spec):
        token = key_for(store)
        with serving(command, site, store=spec) as server:
            yield Backend(server, store, token)


def reporting(backend: Backend, provider: FakeProvider, **settings: Any) -> Meter:
    config = MeterConfig(
        url=backend.url, api_key=backend.token, hosts={provider.host: "openai"}, patches=["openai"], **settings
    )
    return Meter(config).patch_all()


def test_calls_arrive_limits_are_set_and_the_next_call_is_refused(backend: Backend) -> None:
    with FakeProvider() as provider, reporting(backend, provider) as meter:
        client = openai.OpenAI(api_key="x", base_url=provider.base_url)
        with meter.for_tenant("acme"):
            client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        assert meter.flush(PATIENCE)
        assert backend.store.spend("acme", 0, 4e9).calls == 1

        meter.set_limit("acme", "0.000000001")
        assert backend.store.limits("acme")[0].limit_usd == Decimal("0.000000001")
        sent = len(provider.requests)
        with meter.for_tenant("acme"), pytest.raises(LimitExhausted):
            client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        with meter.for_tenant("acme"), pytest.raises(LimitExhausted):
            meter.check_limit()
        assert len(provider.requests) == sent
        assert meter.remove_limit("acme") == 1
        with meter.for_tenant("acme"):
            client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        client.close()


async def test_the_same_on_an_event_loop(backend: Backend) -> None:
    with FakeProvider() as provider, reporting(backend, provider) as meter:
        client = openai.AsyncOpenAI(api_key="x", base_url=provider.base_url)
        with meter.for_tenant("globex"):
            await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            assert meter.flush(PATIENCE)
            assert backend.store.spend("globex", 0, 4e9).calls == 1
            meter.set_limit("globex", 0)
            with pytest.raises(LimitExhausted):
                await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            with pytest.raises(LimitExhausted):
                await meter.async_check_limit()
        await client.close()


def raw(name: object, tenant_id: str = "initech", **fields: Any) -> dict[str, Any]:
    return {"event_id": f"raw-{name}", "tenant_id": tenant_id, "timestamp": time.time(), "cost_usd": "0.5", **fields}


def batch(number: int) -> bytes:
    return json.dumps({"events": [raw(number)]}).encode()


def speak(backend: Backend, *lines: str, body: bytes = b"", key: str | None = None) -> tuple[int, Any]:
    """Send a request as it stands, and read the answer; whoever does not take the body in leaves it in the socket."""
    token = backend.token if key is None else key
    head = ["POST /token-limit/events HTTP/1.1", "Host: x", "Connection: close", f"Authorization: Bearer {token}"]
    with socket.create_connection(("127.0.0.1", backend.server.port), PATIENCE) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # the answer is there already
            connection.sendall("\r\n".join([*head, *lines, "", ""]).encode() + body)
        answer = b""
        try:
            while b"}" not in answer and (part := connection.recv(65536)):
                answer += part
        except ConnectionResetError:
            assert answer, "hung up without an answer"
    start, _, rest = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(rest[rest.index(b"{") : rest.rindex(b"}") + 1])


def test_a_batch_is_taken_in_part_and_once(backend: Backend) -> None:
    rows = [
        raw("good", "hooli"),
        raw("good", "hooli", cost_usd="9"),
        raw("bad", "hooli", input_tokens=-1),
        raw("late", "hooli"),
    ]
    body = json.dumps({"events": rows}).encode()
    status, told = speak(backend, f"Content-Length: {len(body)}", body=body)
    assert (status, told["accepted"], told["duplicates"]) == (200, 2, 1)
    assert [(one["index"], one["event_id"]) for one in told["rejected"]] == [(2, "raw-bad")]
    status, told = speak(backend, f"Content-Length: {len(body)}", body=body)
    assert (status, told["accepted"], told["duplicates"]) == (200, 0, 3)
    spend = backend.store.spend("hooli", 0, 4e9)
    assert (spend.calls, spend.cost_nano) == (2, 1_000_000_000)


def chunked(data: bytes, size: int = 65536) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"


def test_a_body_of_100_megabytes_is_refused_before_it_is_sent(backend: Backend) -> None:
    status, problem = speak(backend, f"Content-Length: {100 * 1024 * 1024}")
    assert (status, problem["status"], problem["title"]) == (413, 413, "The body is invalid")


@pytest.mark.parametrize("length", [f"Content-Length: {100 * 1024 * 1024}", "Transfer-Encoding: chunked"])
def test_without_a_key_no_byte_of_the_body_is_waited_for(backend: Backend, length: str) -> None:
    status, problem = speak(backend, length, key="tl_000000000000_" + "x" * 43)
    assert (status, problem["status"]) == (401, 401)


def test_a_body_without_a_length_is_taken_up_to_the_same_size(backend: Backend) -> None:
    status, told = speak(backend, "Transfer-Encoding: chunked", body=chunked(batch(1)))
    assert (status, told["accepted"]) == (200, 1)
    packed = gzip.compress(batch(2))
    status, told = speak(backend, "Transfer-Encoding: chunked", "Content-Encoding: gzip", body=chunked(packed))
    assert (status, told["accepted"]) == (200, 1)
    padded = batch(3) + b" " * (9 * 1024 * 1024)
    assert speak(backend, "Transfer-Encoding: chunked", body=chunked(padded))[0] == 413


def test_the_applications_own_limits_on_forms_are_not_those_of_reports(backend: Backend) -> None:
    body = batch(4) + b" " * 5_000_000
    status, told = speak(backend, f"Content-Length: {len(body)}", body=body)
    assert (status, told["accepted"]) == (200, 1)


def test_a_body_that_breaks_off_changes_nothing(backend: Backend) -> None:
    before = backend.store.spend("initech", 0, 4e9).calls
    body = batch(5)
    with socket.create_connection(("127.0.0.1", backend.server.port), PATIENCE) as connection:
        head = f"POST /token-limit/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {backend.token}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-10])
    whole = batch(6)
    status, told = speak(backend, f"Content-Length: {len(whole)}", body=whole)
    assert (status, told["accepted"]) == (200, 1)
    assert backend.store.spend("initech", 0, 4e9).calls == before + 1
