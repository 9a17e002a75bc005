"""How many events a second the ingest endpoints take, by store and size of the batch, over HTTP-free calls.

Usage: python benchmarks/ingest.py [--seconds S]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import psycopg

from token_limit_core.ingest.endpoints import EVENTS, Incoming, Ingest
from token_limit_core.ingest.keys import make_key
from token_limit_core.limits import Limit
from token_limit_core.stores import open_store

BATCHES = (1, 50, 500, 5000)
POSTGRES = os.environ.get("TOKEN_LIMIT_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
RUN = uuid.uuid4().hex[:12]
"""Tells this run's tenants, events and schema from others'."""


def bodies(size: int) -> Iterator[bytes]:
    """Make gzip bodies of new events, as a client would."""
    number = 0
    while True:
        events = [
            {
                "event_id": f"{RUN}-{size}-{number + n:012}",
                "tenant_id": f"bench-{RUN}-{n % 10}",
                "provider": "openai",
                "model": "gpt-4o-mini",
                "endpoint": "chat.completions",
                "input_tokens": 812,
                "output_tokens": 120,
                "total_tokens": 932,
                "cached_tokens": 0,
                "duration_ms": 812.5,
                "timestamp": time.time(),
                "request_id": f"req_{number + n}",
                "tags": {},
            }
            for n in range(size)
        ]
        number += size
        yield gzip.compress(json.dumps({"events": events}).encode(), 5)


def rate(url: str, size: int, seconds: float) -> float:
    """Return events per second, measured for about so long; making the bodies is left out."""
    store = open_store(url)
    ingest = Ingest(store)
    made = make_key("bench", ["*"], now=time.time())
    store.add_api_key(made.key)
    for n in range(10):
        store.set_limit(Limit(f"bench-{RUN}-{n}", 10**15), time.time())
    headers = {"authorization": f"Bearer {made.token}", "content-encoding": "gzip"}
    taken, spent = 0, 0.0
    for body in bodies(size):
        start = time.perf_counter()
        answer = ingest.answer(Incoming("POST", EVENTS, {}, headers, BytesIO(body).read))
        spent += time.perf_counter() - start
        assert json.loads(answer.body)["accepted"] == size, answer
        taken += size
        if spent > seconds:
            break
    store.close()
    return taken / spent


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """Make a schema for this run, and drop it at the end; nothing where no server answers."""
    schema = f"bench_{RUN}"
    try:
        connection = psycopg.connect(POSTGRES.replace("+psycopg", ""), autocommit=True, connect_timeout=2)
    except psycopg.OperationalError:
        yield {}
        return
    with connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            yield {"PostgreSQL": f"{POSTGRES}?options=-csearch_path%3D{schema}"}
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


def table(seconds: float) -> list[str]:
    """Measure every store that answers, and write a table."""
    lines = ["| store | " + " | ".join(f"batches of {size}" for size in BATCHES) + " |"]
    lines.append("|---" * (len(BATCHES) + 1) + "|")
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        stores = {"memory": "memory://", "SQLite": "sqlite:///{}/{}.db"} | server
        for name, url in stores.items():
            rates = [rate(url.format(folder, size), size, seconds) for size in BATCHES]
            lines.append(f"| {name} | " + " | ".join(f"{value:,.0f}" for value in rates) + " |")
    return lines


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    print("\n".join(table(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
