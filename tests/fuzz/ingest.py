"""Fuzz the ingest endpoints, guided by coverage: `nox -s fuzz`, with libFuzzer's options after `--`.

Every input goes to two backends of its own kind, in memory and on SQLite: each answers (no exception, no 500), their
answers agree, and the ledgers have exactly the events that the answers call accepted.
"""

from __future__ import annotations

import gzip
import json
import logging
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["token_limit_core", "json"]):
    from token_limit_core.events import FIELDS
    from token_limit_core.ingest.endpoints import CHECKS, EVENTS, THRESHOLDS, Incoming, Ingest
    from token_limit_core.ingest.keys import PERMISSIONS, make_key
    from token_limit_core.stores import open_store
    from token_limit_core.stores.contract import Store
    from token_limit_core.stores.queries import TenantQuery

NOW = 1_800_000_000.0
ANSWERS = (200, 400, 401, 403, 405, 413, 415, 422)
SEVERAL = 50  # executions between two new ledgers: their pages of events and of limits stay small
TELLING: list[Any] = [
    None, True, 0, -1, 1.5, 2**63, 10**30, 1e308, float("nan"), float("inf"), "", "a", "\0", "\ud800", "é" * 300,
    "0.5", "1e400", "-1", "NaN", [], {}, [[]], {"a": {"b": [1]}}, "anthropic", "openai", "gpt-4o-mini", NOW, str(NOW),
    "per_day", "observe", "2027-01-01", "eu-1", "acme",
]  # fmt: skip
HEADERS = ("authorization", "x-api-key", "content-length", "content-encoding")
LIMIT_FIELDS = ("tenant_id", "limit_usd", "frequency", "mode", "effective_date")


class Backend:
    """An ingest, its keys, and how many events its ledger has."""

    def __init__(self, store: Store, count: Callable[[], int]) -> None:
        self.count, self.ingest, self.store = count, Ingest(store, lambda: NOW), store
        self.tokens = []
        for tenants in (["*"], ["acme", "eu-*"]):
            token, key = make_key("fuzz", tenants, permissions=PERMISSIONS, now=NOW)
            store.add_api_key(key)
            self.tokens.append(token)

    def answer(self, method: str, endpoint: str, body: bytes, headers: Mapping[str, str], confined: bool) -> Any:
        before = self.count()
        sent = {"authorization": f"Bearer {self.tokens[confined]}", **headers}
        query = {"tenant_id": body[:20].decode("utf-8", "replace")}
        rendered = self.ingest.answer(Incoming(method, endpoint, query, sent, BytesIO(body).read))
        assert rendered.status in ANSWERS, rendered
        told = json.loads(rendered.body)
        taken = told["accepted"] if endpoint == EVENTS and rendered.status == 200 else 0
        assert self.count() - before == taken, (told, self.count() - before)
        return rendered.status, told


@contextmanager
def backends() -> Iterator[tuple[Backend, Backend]]:
    """Make one in memory and one on SQLite, both empty."""
    last = "SELECT coalesce(max(id), 0) FROM token_limit_ledger"
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/ledger.db")) as own:
        memory, sql = open_store("memory://"), open_store(f"sqlite:///{folder}/ledger.db")
        sql.check()
        yield (
            Backend(memory, lambda: memory_events(memory)),
            Backend(sql, lambda: int(own.execute(last).fetchone()[0])),
        )
        sql.close()


def memory_events(store: Store) -> int:
    """Count the events of a memory store."""
    rows = store.tenants(TenantQuery(size=10_000), NOW).rows
    return sum(store.spend(row.tenant_id, -1e12, 1e12).calls for row in rows)


def document(data: atheris.FuzzedDataProvider, names: tuple[str, ...]) -> dict[str, Any]:
    """Make an object of known fields whose values are telling ones, or any text or number."""
    fields: dict[str, Any] = {}
    for _ in range(data.ConsumeIntInRange(0, 6)):
        name = names[data.ConsumeIntInRange(0, len(names) - 1)]
        kind = data.ConsumeIntInRange(0, 5)
        if kind == 0:
            fields[name] = data.ConsumeUnicode(data.ConsumeIntInRange(0, 40))
        elif kind == 1:
            fields[name] = data.ConsumeInt(8)
        elif kind == 2:
            fields[name] = data.ConsumeFloat()
        else:
            fields[name] = TELLING[data.ConsumeIntInRange(0, len(TELLING) - 1)]
    return fields


def batch(data: atheris.FuzzedDataProvider) -> bytes:
    """Make a batch of events that are well but for some fields."""
    rows = []
    for _ in range(data.ConsumeIntInRange(0, 4)):
        well = {
            "event_id": str(data.ConsumeIntInRange(0, 255)),
            "tenant_id": "acme",
            "timestamp": NOW,
            "model": "gpt-4o",
        }
        rows.append({**well, **document(data, FIELDS)})
    return json.dumps({"events": rows}).encode()


class Target:
    """What the fuzzer calls."""

    def __init__(self) -> None:
        self.left, self.opened = 0, ExitStack()

    def __call__(self, given: bytes) -> None:
        if not self.left:
            self.opened.close()
            self.left, self.pair = SEVERAL, self.opened.enter_context(backends())
        self.left -= 1
        data = atheris.FuzzedDataProvider(given)
        shape, packed, confined = data.ConsumeIntInRange(0, 4), data.ConsumeBool(), data.ConsumeBool()
        headers = {"content-encoding": "gzip"} if packed else {}
        method, endpoint = "POST", EVENTS
        if shape == 0:
            headers |= {name: data.ConsumeBytes(20).decode("latin-1") for name in HEADERS if data.ConsumeBool()}
            method = ("POST", "GET", "DELETE")[data.ConsumeIntInRange(0, 2)]
            endpoint = (EVENTS, CHECKS, THRESHOLDS)[data.ConsumeIntInRange(0, 2)]
        if shape == 1:
            endpoint, body = THRESHOLDS, json.dumps(document(data, LIMIT_FIELDS)).encode()
        elif shape in (2, 3):
            body = batch(data)
        else:
            body = data.ConsumeBytes(data.remaining_bytes())
        if packed and shape != 4:
            body = gzip.compress(body, mtime=0)
        one, other = (backend.answer(method, endpoint, body, headers, confined) for backend in self.pair)
        assert one == other, (one, other)


def seeds(folder: Path) -> None:
    """Write inputs to start from: a whole batch as it is sent."""
    event = dict.fromkeys(FIELDS, 1) | {"event_id": "1", "tenant_id": "acme", "timestamp": NOW, "tags": {"a": 1}}
    body = json.dumps({"events": [event]}).encode()
    for place, text in enumerate([body, gzip.compress(body, mtime=0), b'{"tenant_id": "acme", "limit_usd": 5}']):
        (folder / str(place)).write_bytes(text + b"\0\0\4")


def main() -> None:
    """Run until libFuzzer has enough."""
    logging.disable(logging.CRITICAL)
    corpus = Path(tempfile.mkdtemp())
    seeds(corpus)
    atheris.Setup([*sys.argv, str(corpus)], Target())
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
