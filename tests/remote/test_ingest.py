"""The ingest endpoints: who may speak, what is taken, and what is said of the rest."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.ledgers import django_sqlite, memory, sql_sqlite
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_core.ingest.body import MOST_BYTES, MOST_UNPACKED
from token_limit_core.ingest.endpoints import CHECKS, EVENTS, THRESHOLDS, Incoming, Ingest
from token_limit_core.ingest.keys import PERMISSIONS, make_key
from token_limit_core.stores.contract import Store
from token_limit_core.stores.queries import EventQuery
from token_limit_core.testing.clock import Clock

CLOCK = Clock()
NOW = CLOCK()


def event(number: int = 1, **fields: Any) -> dict[str, Any]:
    row = {
        "event_id": f"00000000-0000-4000-8000-{number:012}",
        "tenant_id": "acme",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "endpoint": "chat.completions",
        "input_tokens": 1_000_000,
        "output_tokens": 0,
        "total_tokens": 1_000_000,
        "timestamp": NOW - 10,
        "tags": {},
    }
    return {name: value for name, value in {**row, **fields}.items() if value is not ...}


class Service:
    """A service that reports to an ingest over one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ingest = Ingest(store, CLOCK)
        self.token = self.key("acme", "eu-*")

    def key(self, *tenants: str, permissions: tuple[str, ...] = PERMISSIONS, account: str = "north") -> str:
        token, key = make_key(account, tenants, permissions=permissions, now=NOW)
        self.store.add_api_key(key)
        return token

    def send(
        self,
        method: str,
        endpoint: str,
        body: Any = None,
        token: str | None = "",
        query: dict[str, str] | None = None,
        **headers: str,
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        token = self.token if token == "" else token
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent.setdefault("authorization", f"Bearer {token}")
        rendered = self.ingest.answer(Incoming(method, endpoint, query or {}, sent, BytesIO(data).read))
        return rendered.status, json.loads(rendered.body)

    def post(self, *events: Any, **options: Any) -> tuple[int, Any]:
        return self.send("POST", EVENTS, {"events": list(events)}, **options)

    def spent(self, tenant_id: str = "acme") -> int:
        return self.store.spend(tenant_id, 0, NOW + 1000).cost_nano


@pytest.fixture(params=[memory, sql_sqlite, django_sqlite], ids=lambda kind: kind.__name__)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with request.param(request, tmp_path) as (store, _):
        yield Service(store)


def test_events_are_taken_once_and_priced_here_where_they_have_no_cost(service: Service) -> None:
    assert service.post(event(1), event(2, cost_usd="0.5")) == (200, {"accepted": 2, "duplicates": 0, "rejected": []})
    assert service.post(event(1), event(2, cost_usd="9")) == (200, {"accepted": 0, "duplicates": 2, "rejected": []})
    assert service.spent() == 150_000_000 + 500_000_000


UNPRICED = [
    {"model": "whisper-1", "tags": {"duration_unavailable": True}},
    {"model": "gpt-image-1", "image_count": 3},
    {"model": "gpt-4o-mini", "duration_seconds": 60.0},
    {"model": "gpt-4o-mini"},
    {"model": "gpt-9"},
]


@pytest.mark.parametrize("fields", UNPRICED, ids=str)
@pytest.mark.parametrize("base", [0, ...], ids=["zeros", "left out"])
def test_what_has_no_price_is_unpriced_and_not_free(service: Service, fields: dict[str, Any], base: Any) -> None:
    """Events have no None for the base counts, so that their zeros may be counts that nobody reported."""
    counts = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), base)
    assert service.post(event(1, **counts, **fields))[1]["accepted"] == 1
    spend = service.store.spend("acme", 0, NOW)
    assert (spend.cost_nano, spend.unpriced) == (0, 1)


FREE = [
    {"cost_usd": "0"},
    {"error": "RateLimitError 429"},
    {"model": "whisper-1", "duration_seconds": 0},
]


@pytest.mark.parametrize("fields", FREE, ids=str)
def test_what_is_known_to_cost_nothing_is_priced(service: Service, fields: dict[str, Any]) -> None:
    service.post(event(1, **{"input_tokens": 0, "total_tokens": 0, **fields}))
    assert service.store.spend("acme", 0, NOW).unpriced == 0


def test_a_model_that_is_priced_by_the_second_is_priced_by_its_seconds(service: Service) -> None:
    service.post(event(1, model="whisper-1", input_tokens=0, total_tokens=0, duration_seconds=60.0))
    assert service.spent() == 6_000_000


def test_no_text_that_a_sender_tells_is_kept(service: Service) -> None:
    told = {
        "fim_prefix": "def secret" * 100,
        "fim_suffix": "12 characters",
        "error": "AuthenticationError: Incorrect API key provided: sk-abc123",
    }
    kept = {"fim_prefix": "1000 characters", "fim_suffix": "12 characters", "error": "AuthenticationError"}
    own = {"error": "BadRequestError 400 context_length_exceeded", "timestamp": NOW - 5}
    assert service.post(event(1, **told), event(2, **own))[1]["accepted"] == 2
    second, first = (row.entry.event for row in service.store.events(EventQuery()))
    assert {name: getattr(first, name) for name in kept} == kept
    assert second.error == own["error"]


def test_the_same_id_of_another_tenant_is_another_event(service: Service) -> None:
    service.post(event(1), event(1, tenant_id="eu-1"))
    assert (service.spent(), service.spent("eu-1")) == (150_000_000, 150_000_000)


def test_a_gzip_body_is_unpacked(service: Service) -> None:
    body = gzip.compress(json.dumps({"events": [event(1)]}).encode())
    status, told = service.send("POST", EVENTS, body, content_encoding="gzip")
    assert (status, told["accepted"]) == (200, 1)


BAD = [
    ("event_id", {"event_id": ...}),
    ("event_id", {"event_id": "x" * 65}),
    ("event_id", {"event_id": 7}),
    ("event_id", {"event_id": "a\nb"}),
    ("tenant_id", {"tenant_id": "x" * 256}),
    ("tenant_id", {"tenant_id": 7}),
    ("tenant_id", {"tenant_id": "a\0b"}),
    ("tenant_id", {"tenant_id": "\ud800"}),
    ("timestamp", {"timestamp": ...}),
    ("timestamp", {"timestamp": NOW + 301}),
    ("timestamp", {"timestamp": NOW - 35 * 86400 - 1}),
    ("timestamp", {"timestamp": "now"}),
    ("timestamp", {"timestamp": True}),
    ("input_tokens", {"input_tokens": -1}),
    ("output_tokens", {"output_tokens": 1.5}),
    ("input_tokens", {"input_tokens": 10**30}),
    ("input_tokens", {"input_tokens": True}),
    ("reasoning_tokens", {"reasoning_tokens": "7"}),
    ("duration_ms", {"duration_ms": -1}),
    ("cost_usd", {"cost_usd": "-1"}),
    ("cost_usd", {"cost_usd": "NaN"}),
    ("cost_usd", {"cost_usd": "a lot"}),
    ("cost_usd", {"cost_usd": True}),
    ("cost_usd", {"cost_usd": "1e400"}),
    ("cost_usd", {"cost_usd": 1_000_001}),
    ("model", {"model": 5}),
    ("tags", {"tags": []}),
    ("tags", {"tags": {str(n): n for n in range(65)}}),
    ("tags", {"tags": {"long": "x" * 17_000}}),
]


@pytest.mark.parametrize(("field", "fields"), BAD, ids=[f"{n}-{name}" for n, (name, _) in enumerate(BAD)])
def test_a_bad_event_is_named_and_the_others_are_taken(service: Service, field: str, fields: dict[str, Any]) -> None:
    status, told = service.post(event(1), event(2, **fields), event(3))
    assert (status, told["accepted"]) == (200, 2)
    (rejected,) = told["rejected"]
    assert rejected["index"] == 1
    assert rejected["reason"].startswith(f"{field}: ")
    assert service.spent() == 300_000_000


@pytest.mark.parametrize("row", [5, None, "event", [], {}])
def test_what_is_no_event_is_rejected(service: Service, row: Any) -> None:
    status, told = service.post(row, event(2))
    assert (status, told["accepted"], told["rejected"][0]["index"]) == (200, 1, 0)


BODIES = [
    (b"", 400),
    (b"{", 400),
    (b"[]", 422),
    (b"{}", 422),
    (b'{"events": {}}', 422),
    (b'{"events": NaN}', 400),
    (b"[" * 100_000, 400),
    (b"\xff\xfe", 400),
    (b'{"events": []}' + b" " * MOST_BYTES, 413),
    (json.dumps({"events": [0] * 10_001}).encode(), 413),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=[f"{n}-{status}" for n, (_, status) in enumerate(BODIES)])
def test_a_body_that_cannot_be_read_is_refused_whole(service: Service, body: bytes, status: int) -> None:
    got, problem = service.send("POST", EVENTS, body)
    assert got == status
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert service.spent() == 0


def test_a_zip_bomb_is_refused_and_never_unpacked_whole(service: Service) -> None:
    bomb = gzip.compress(b"0" * (MOST_UNPACKED + 1))
    assert len(bomb) < 100_000
    assert service.send("POST", EVENTS, bomb, content_encoding="gzip")[0] == 413
    assert service.send("POST", EVENTS, b"no gzip", content_encoding="gzip")[0] == 400
    assert service.send("POST", EVENTS, gzip.compress(b"{}")[:-4], content_encoding="gzip")[0] == 400
    assert service.send("POST", EVENTS, b"", content_encoding="br")[0] == 415
    assert service.send("POST", EVENTS, b"", content_length=str(MOST_BYTES + 1))[0] == 413


@pytest.mark.parametrize("number", ["1" + "0" * 5000, "-1" + "0" * 5000, "1e5000"])
def test_a_huge_number_is_an_events_fault(service: Service, number: str) -> None:
    body = json.dumps({"events": [event(1, input_tokens="@"), event(2)]}).replace('"@"', number).encode()
    status, told = service.send("POST", EVENTS, body)
    assert (status, told["accepted"], len(told["rejected"])) == (200, 1, 1)


def test_both_ways_to_send_a_key_are_taken(service: Service) -> None:
    for headers in (
        {"authorization": f"Bearer {service.token}"},
        {"authorization": f"bearer  {service.token}"},
        {"x_api_key": f"Bearer {service.token}"},
        {"x_api_key": service.token},
    ):
        assert service.send("GET", CHECKS, token=None, query={"tenant_id": "acme"}, **headers)[0] == 200


def test_a_wrong_key_is_refused_before_the_body_is_read(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    revoked = service.key("acme")
    service.store.revoke_api_key(revoked.split("_")[1], NOW)
    forged = service.token[:-1] + ("A" if service.token[-1] != "A" else "B")

    def read(size: int) -> bytes:
        raise AssertionError("the body was read")

    for token in (None, "nonsense", "tl_000000000000_" + "x" * 43, revoked, forged):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        rendered = service.ingest.answer(Incoming("POST", EVENTS, {}, headers, read))
        assert rendered.status == 401
        assert rendered.headers["WWW-Authenticate"] == "Bearer"
        assert token is None or token not in caplog.text


def test_a_key_is_confined_to_its_tenants(service: Service) -> None:
    status, told = service.post(event(1), event(2, tenant_id="globex"), event(3, tenant_id="eu-7"))
    assert (status, told["accepted"]) == (200, 2)
    assert told["rejected"] == [
        {"index": 1, "event_id": event(2)["event_id"], "reason": "tenant_id: not one of the tenants of this API key"}
    ]
    assert service.post(event(4, tenant_id="globex"))[0] == 403
    assert service.send("GET", CHECKS, query={"tenant_id": "globex"})[0] == 403
    assert service.send("POST", THRESHOLDS, {"tenant_id": "globex", "limit_usd": 5})[0] == 403
    assert service.send("DELETE", THRESHOLDS, query={"tenant_id": "globex"})[0] == 403
    assert service.spent("globex") == 0


def test_events_of_nobody_need_a_key_for_all(service: Service) -> None:
    assert service.post(event(1, tenant_id=""))[0] == 403
    assert service.post(event(1, tenant_id=""), token=service.key("*"))[1]["accepted"] == 1


def test_a_key_is_confined_to_its_permissions(service: Service) -> None:
    token = service.key("acme", permissions=("ingest", "check"))
    assert service.send("POST", THRESHOLDS, {"tenant_id": "acme", "limit_usd": 5}, token=token)[0] == 403
    assert service.post(event(1), token=service.key("acme", permissions=("check",)))[0] == 403
    assert service.store.limits("acme") == []


def test_a_limit_is_set_and_the_check_tells_what_a_client_needs(service: Service) -> None:
    assert service.send("GET", CHECKS, query={"tenant_id": "acme"}) == (
        200,
        {"limit_exceeded": False, "remaining_tokens": None},
    )
    body = {"tenant_id": "acme", "limit_usd": 0.5, "frequency": "per_month", "effective_date": None}
    assert service.send("POST", THRESHOLDS, body)[0] == 200
    service.post(event(1))
    status, told = service.send("GET", CHECKS, query={"tenant_id": "acme"})
    assert (status, told["limit_exceeded"]) == (200, False)
    assert {name: Decimal(told[name]) for name in ("limit_usd", "spent_usd", "remaining_usd")} == {
        "limit_usd": Decimal("0.5"),
        "spent_usd": Decimal("0.15"),
        "remaining_usd": Decimal("0.35"),
    }
    assert told["resets_at"] > NOW
    service.post(event(2, cost_usd="0.35"))
    assert service.send("GET", CHECKS, query={"tenant_id": "acme"})[1]["limit_exceeded"] is True
    assert service.store.history("acme")[0].actor == f"key {service.token.split('_')[1]}"
    assert service.send("DELETE", THRESHOLDS, query={"tenant_id": "acme"}) == (200, {"removed": 1})


def test_a_limit_takes_every_keyword_of_set_limit(service: Service) -> None:
    keywords = {"unit": "tokens", "frequency": "per_week", "timezone": "Europe/Berlin", "user": "*", "model": "gpt-4*"}
    answer = service.send("POST", THRESHOLDS, {"tenant_id": "acme", "amount": 1000, "name": "Trial", **keywords})
    assert answer == (200, {"tenant_id": "acme", "amount": 1000, "unit": "tokens", "frequency": "per_week"})
    (limit,) = service.store.limits("acme")
    assert (limit.amount, limit.unit, limit.timezone, limit.filter, limit.name) == (
        1000, "tokens", "Europe/Berlin", "model=gpt-4*&user=*", "Trial",
    )  # fmt: skip
    query = {"tenant_id": "acme", "user": "*", "model": "gpt-5"}
    assert service.send("DELETE", THRESHOLDS, query=query) == (200, {"removed": 0})
    assert service.send("DELETE", THRESHOLDS, query={**query, "model": "gpt-4*"}) == (200, {"removed": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"limit_usd": -1},
        {"limit_usd": None},
        {"limit_usd": "much"},
        {"limit_usd": True},
        {"limit_usd": [1]},
        {"frequency": "per_decade"},
        {"frequency": 5},
        {"frequency": []},
        {"mode": "strictest"},
        {"mode": {}},
        {"unit": "bananas"},
        {"amount": "1e999999", "unit": "tokens", "limit_usd": None},
        {"timezone": "Mars/Olympus"},
        {"timezone": []},
        {"anchor": 32},
        {"anchor": {}},
        {"user": ["u1"]},
        {"model": " "},
        {"effective_date": "soon"},
        {"effective_date": 5},
        {"tenant_id": None},
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_is_refused(service: Service, fields: dict[str, Any]) -> None:
    status, problem = service.send("POST", THRESHOLDS, {"tenant_id": "acme", "limit_usd": 5, **fields})
    assert status == 422
    assert next(iter(fields)) in problem["detail"]
    assert service.store.limits("acme") == []


@pytest.mark.parametrize("tenant_id", ["", "x" * 256, "a\0b", "a\ud800"], ids=ascii)
def test_a_tenant_that_no_store_can_keep_has_no_limit(service: Service, tenant_id: str) -> None:
    token = service.key("*")
    assert service.send("POST", THRESHOLDS, {"tenant_id": tenant_id, "limit_usd": 5}, token=token)[0] == 422
    assert service.send("DELETE", THRESHOLDS, token=token, query={"tenant_id": tenant_id})[0] == 422
    nobody = tenant_id == ""  # a limit on the calls of nobody is set by `POST manage`
    assert service.send("GET", CHECKS, token=token, query={"tenant_id": tenant_id})[0] == (200 if nobody else 422)


def test_other_methods_and_endpoints_are_refused(service: Service) -> None:
    assert service.send("GET", EVENTS)[0] == 405
    assert service.send("PUT", THRESHOLDS)[0] == 405
    assert service.send("POST", "elsewhere")[0] == 404


def test_a_store_that_is_away_is_a_reason_to_come_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> Any:
        raise StoreError("away")

    monkeypatch.setattr(service.store, "record", away)
    status, problem = service.post(event(1))
    assert (status, problem["title"]) == (503, "The store cannot be reached")


def test_a_row_that_the_engine_refuses_does_not_keep_the_others_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = service.store.record

    def picky(entries: Any, now: float) -> Any:
        if any(row.event_id.endswith("2") for row, _ in entries):
            raise ValueError("no such row")
        return record(entries, now)

    monkeypatch.setattr(service.store, "record", picky)
    status, told = service.post(event(1), event(2), event(3))
    assert (status, told["accepted"]) == (200, 2)
    assert [row["event_id"] for row in told["rejected"]] == [event(2)["event_id"]]


def test_a_batch_of_the_largest_size_is_taken(service: Service) -> None:
    events = [event(n, cost_usd="0.001") for n in range(10_000)]
    assert service.post(*events)[1]["accepted"] == 10_000
    assert service.spent() == 10_000_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        {"account": ""},
        {"tenants": []},
        {"tenants": [" "]},
        {"tenants": ["x" * 256]},
        {"permissions": ()},
        {"permissions": ("everything",)},
    ],
    ids=str,
)
def test_a_key_that_nobody_could_use_is_not_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(arguments))}: "):
        make_key(**{"account": "north", "tenants": ["acme"], "now": NOW, **arguments})
