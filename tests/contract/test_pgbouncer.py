"""The SQL stores behind PgBouncer in transaction mode: any statement may run on another connection of the server.

So nothing may be prepared by name, and no state of a session may be relied on. (psycopg/psycopg#280, #1151, #935)
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy

from tests.ledgers import django_database, django_orm, sql
from tests.servers import Server, end, free_port
from tests.support import POSTGRES, unavailable
from token_limit_core import Meter, MeterConfig
from token_limit_core.stores.contract import Store

THREADS, CALLS = 8, 15
SETTINGS = """
[databases]
{name} = host={host} port={port} dbname={name} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {{port}}
auth_type = any
pool_mode = transaction
default_pool_size = 3
unix_socket_dir =
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def database() -> Iterator[sqlalchemy.URL]:
    """Create an empty database of PostgreSQL; drop it at the end."""
    engine = sqlalchemy.create_engine(
        POSTGRES, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
    )
    name = f"test_{uuid.uuid4().hex}"
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    except sqlalchemy.exc.OperationalError as error:
        unavailable(f"PostgreSQL cannot be reached at {engine.url!r} (TOKEN_LIMIT_TEST_POSTGRES): {error.orig}")
    yield engine.url.set(database=name)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[sqlalchemy.URL]:
    """Start PgBouncer in front of an empty database, and return the URL there."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        unavailable("pgbouncer is not installed")
    command = [program, "-q", "pgbouncer.ini"]
    if os.getuid() == 0:  # it refuses to run as root
        command = ["setpriv", "--reuid=nobody", "--clear-groups", *command]
        for folder in (tmp_path, *tmp_path.parents[:-2]):
            folder.chmod(0o755)
    with database() as behind:
        port = free_port()
        known = {"name": behind.database, "host": behind.host, "port": behind.port or 5432, "user": behind.username}
        (tmp_path / "pgbouncer.ini").write_text(SETTINGS.format(**known).format(port=port))
        server = Server(command, port, tmp_path, {}, None)
        yield behind.set(host="127.0.0.1", port=port)
        end(server.process)


@pytest.fixture(params=["sql", "django"])
def store(request: pytest.FixtureRequest, url: sqlalchemy.URL) -> Iterator[Store]:
    text = url.render_as_string(hide_password=False)
    opening = sql(text) if request.param == "sql" else django_orm(request, django_database("postgresql", text))
    with opening as opened:
        yield opened.store


def test_every_call_is_admitted_and_charged(store: Store) -> None:
    with Meter(MeterConfig(store=store)) as meter:
        meter.set_limit("acme", 1000)

        def work(number: int) -> None:
            for _ in range(CALLS):
                meter.track_manually(
                    provider="openai", model="gpt-4o-mini", input_tokens=1000, output_tokens=0, tenant_id="acme"
                )
                with meter.for_tenant("acme"):
                    meter.check_limit()

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))
        assert meter.flush(5)
        assert meter.usage("acme")[0].spent_usd == Decimal("0.00015") * THREADS * CALLS
