"""The ingest endpoint under whatever comes over the wire: an answer each time, never a 500, never half a truth."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.remote.test_ingest import CLOCK, NOW, event
from token_limit_core.events import FIELDS
from token_limit_core.ingest.endpoints import EVENTS, MANAGE, THRESHOLDS, Incoming, Ingest
from token_limit_core.ingest.keys import PERMISSIONS, make_key
from token_limit_core.ingest.manage import OPERATIONS
from token_limit_core.stores import open_store
from token_limit_core.stores.queries import TenantQuery

EXAMPLES = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, -1, 2**63, 1e308, float("nan"), float("inf")])
LEAVES = st.none() | st.booleans() | NUMBERS | st.text()
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
CHANGES = st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=5), JSON, max_size=4)
ROWS = st.builds(lambda number, changes: {**event(number), **changes}, st.integers(0, 9), CHANGES)


def deliver(body: bytes, encoding: str, endpoint: str = EVENTS) -> tuple[int, Any, int]:
    """Send a body to a new backend; return the answer, and how many events its ledger has then."""
    store = open_store("memory://")
    token, key = make_key("tests", ["*"], permissions=PERMISSIONS, now=NOW)
    store.add_api_key(key)
    headers = {"authorization": f"Bearer {token}", "content-encoding": encoding}
    rendered = Ingest(store, CLOCK).answer(Incoming("POST", endpoint, {}, headers, BytesIO(body).read))
    calls = sum(
        store.spend(row.tenant_id, -1e12, 1e12).calls for row in store.tenants(TenantQuery(size=1000), NOW).rows
    )
    return rendered.status, json.loads(rendered.body), calls


def check(status: int, told: Any, calls: int) -> None:
    assert status in (200, 400, 403, 413, 415, 422)
    assert calls == (told["accepted"] if status == 200 else 0)


@EXAMPLES
@given(JSON)
def test_any_json(document: Any) -> None:
    check(*deliver(json.dumps(document).encode("utf-8", "replace"), "identity"))


@EXAMPLES
@given(st.lists(ROWS | JSON, max_size=6))
def test_batches_with_anything_in_their_fields(rows: list[Any]) -> None:
    body = json.dumps({"events": rows}).encode()
    status, told, calls = deliver(gzip.compress(body), "gzip")
    check(status, told, calls)
    if status == 200:
        assert told["accepted"] + told["duplicates"] + len(told["rejected"]) == len(rows)


@EXAMPLES
@given(st.binary(max_size=300), st.sampled_from(["identity", "gzip"]))
def test_random_bytes(body: bytes, encoding: str) -> None:
    check(*deliver(body, encoding))


@EXAMPLES
@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_damaged_gzip(rows: list[Any], data: st.DataObject) -> None:
    body = bytearray(gzip.compress(json.dumps({"events": rows}).encode()))
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        del body[place:]
    else:
        body[place] ^= 255
    check(*deliver(bytes(body), "gzip"))


@EXAMPLES
@given(st.dictionaries(st.sampled_from(["tenant_id", "limit_usd", "frequency", "mode", "effective_date"]), JSON))
def test_limits_of_anything(fields: dict[str, Any]) -> None:
    body = {"tenant_id": "acme", "limit_usd": 5, **fields}
    status, _, _ = deliver(json.dumps(body).encode("utf-8", "replace"), "identity", THRESHOLDS)
    assert status in (200, 400, 403, 422)


MANAGED = st.dictionaries(
    st.sampled_from(
        sorted({"tenant_id", "plan", "by", *(name for one in OPERATIONS.values() for name in one.keywords)})
    ),
    JSON | st.sampled_from(["acme", "*", "", "pro", "25", "-1", "per_day", "total", "2027-03-01", [{"amount": 5}]]),
)


@EXAMPLES
@given(st.sampled_from(sorted(OPERATIONS)), MANAGED)
def test_anything_to_be_done(do: str, fields: dict[str, Any]) -> None:
    body = {"tenant_id": "acme", "do": do, **fields}
    status, _, calls = deliver(json.dumps(body).encode("utf-8", "replace"), "identity", MANAGE)
    assert status in (200, 400, 403, 409, 422)
    assert calls == 0


def test_values_that_lie_deep_in_each_other() -> None:
    for depth in (100, 900, 960, 990, 5000, 100_000):
        nest = "[" * depth + "]" * depth
        body = json.dumps({"events": [event(1, tags={"a": "@"}), event(2)]}).replace('"@"', nest)
        check(*deliver(body.encode(), "identity"))
