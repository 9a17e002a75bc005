"""The project's database restarts under load: no call is billed to nobody, and none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import requests

from tests.servers import serving
from tests.support import environment, postgres_database
from tests.waiting import wait_until
from token_limit_core.testing import FakeProvider

OUTAGE_SECONDS = 2.0
SITE = "tests.frameworks.django.outage"
SERVERS = {
    "gunicorn": (("gunicorn", "--threads=4", "--log-level=error", "--bind=127.0.0.1:{port}", f"{SITE}:wsgi"), "ask"),
    "uvicorn": (("uvicorn", "--log-level=error", "--host=127.0.0.1", "--port={port}", f"{SITE}:asgi"), "aask"),
}
SETUP = f"""
from {SITE} import Group
from django.core.management import call_command
call_command("migrate", verbosity=0)
for name in ("acme", "globex"):
    Group.objects.create(name=name)
"""


class Database:
    """A database that can be shut and opened again, as a restart does."""

    def __init__(self, admin: psycopg.Connection[Any], place: dict[str, Any]) -> None:
        self.admin, self.name, self.place = admin, place["NAME"], place

    def shut(self) -> None:
        self.admin.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.name])

    def open(self) -> None:
        self.admin.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def billed(self) -> Counter[str]:
        """Count the calls of the ledger by tenant."""
        own = {key.lower(): self.place[key] for key in ("HOST", "PORT", "USER", "PASSWORD")}
        with psycopg.connect(**own, dbname=self.name) as connection:
            return Counter(row[0] for row in connection.execute("SELECT tenant_id FROM token_limit_ledger"))


@pytest.fixture
def database() -> Iterator[Database]:
    with postgres_database() as (admin, place):
        yield Database(admin, place)


@pytest.mark.parametrize("kind", list(SERVERS))
def test_no_call_is_billed_to_nobody_after_a_restart_of_the_database(database: Database, kind: str) -> None:
    command, way = SERVERS[kind]
    over = threading.Event()
    statuses: Counter[int] = Counter()

    def load(url: str, tenant: str) -> None:
        with requests.Session() as session:
            session.headers["X-Group"] = tenant
            while not over.is_set():
                statuses[session.get(url, timeout=60).status_code] += 1

    with FakeProvider() as provider:
        env = {"OUTAGE_PROVIDER": provider.base_url, "OUTAGE_DATABASE": json.dumps(database.place)}
        subprocess.run([sys.executable, "-c", SETUP], env={**environment(), **env}, check=True, timeout=100)
        with serving(*command, env=env) as server:
            threads = [
                threading.Thread(target=load, args=(f"{server.url}/{way}/", name)) for name in ("acme", "globex")
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(provider.requests) >= 10)
            database.shut()
            before = len(provider.requests)
            time.sleep(OUTAGE_SECONDS)
            during = len(provider.requests) - before
            database.open()
            after = len(provider.requests)
            wait_until(lambda: len(provider.requests) >= after + 10)
            over.set()
            for thread in threads:
                thread.join(60)
            sent = len(provider.requests)
            wait_until(lambda: sum(database.billed().values()) >= sent)
    assert during > 0
    assert sum(database.billed().values()) == sent
    assert set(database.billed()) == {"acme", "globex"}
    assert statuses[200] == sent
