"""The versions of the SQL stores' tables: made, upgraded and refused, and the same as Django's migrations make."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import inspect, text

from tests.contract import old_schema
from tests.contract.old_schema import NOW
from tests.frameworks.django import host
from tests.ledgers import django_database
from tests.support import environment, mysql_database, postgres_schema
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.queries import EventQuery, TenantQuery
from token_limit_core.stores.records import Call
from token_limit_core.stores.sql import migrations

ROOT = Path(__file__).parents[2]
OURS = 1 + len(migrations.STEPS)
"""The version that this release makes."""

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/db.sqlite3"
    else:
        with {"postgresql": postgres_schema, "mysql": mysql_database}[request.param]() as url:
            yield url


def engine_of(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)


def version(url: str) -> list[int]:
    with engine_of(url).connect() as connection:
        return list(connection.execute(text("SELECT version FROM token_limit_schema")).scalars())


def used(store: Store) -> None:
    """Use what `old_schema` has written, by every kind of operation."""
    (status,) = store.usage("acme", NOW)
    assert (status.limit.id, status.limit.amount, status.settled, status.held) == (1, 1000, 40, 5)
    assert store.settle("open", LLMEvent("open", "acme", timestamp=NOW), 10, NOW) == "stored"
    assert store.settle("e1", LLMEvent("e1", "acme", timestamp=NOW), 10, NOW) == "duplicate"
    assert store.admit(Call("next", "ACME ", 1), NOW).admitted
    assert [(status.settled, status.held) for status in store.usage("acme", NOW)] == [(50, 0)]
    assert [row.entry.event.event_id for row in store.events(EventQuery("acme"))] == ["open", "e1"]
    old = store.events(EventQuery("acme"))[1].entry.event
    assert (old.user, old.tags, old.total_tokens, old.stream) == ("ü", {"a": 1}, 5, False)
    assert [row.tenant_id for row in store.tenants(TenantQuery(), NOW).rows] == ["ACME ", "acme"]
    assert [change.actor for change in store.history()] == ["ann"]
    assert [key.tenants for key in store.api_keys("north")] == [("acme",)]
    assert [claim.entry.event.event_id for claim in store.claim_deliveries("https://x/e", "me", NOW, NOW + 9, 5)] == [
        "e1"
    ]
    assert store.set_limit(Limit("new", 5), NOW).id == 3


def test_tables_of_before_there_were_versions_are_version_1_and_lose_nothing(url: str) -> None:
    old_schema.make(url)
    before = old_schema.rows(url)
    store = open_store(url)
    store.check()
    assert version(url) == [OURS]
    assert kept(old_schema.rows(url), before) == before
    used(store)
    store.close()


def kept(rows: Rows, before: Rows) -> Rows:
    """Leave out of rows the columns that there were not before."""
    for row in before["hold_item"]:
        row.pop("unit", None)  # each limit has its unit
    return {
        name: [{column: row[column] for column in old} for row, old in zip(rows[name], before[name], strict=True)]
        for name in before
    }


def test_older_tables_are_upgraded_on_first_use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old_schema.make(url)
    before = old_schema.rows(url)
    monkeypatch.setattr(migrations, "STEPS", [*migrations.STEPS, old_schema.step])
    for _ in range(2):
        store = open_store(url)
        assert [limit.amount for limit in store.limits("acme")] == [2000]
        store.close()
    assert version(url) == [OURS + 1]
    after = old_schema.rows(url)
    for row in before["limit"]:
        row["amount"] *= 2
    assert kept(after, before) == before
    assert {row["region"] for row in after["limit"]} == {"north"}
    assert {row["shard"] for row in after["counter"]} == {0}
    key = inspect(engine_of(url)).get_pk_constraint("token_limit_counter")["constrained_columns"]
    assert key == ["tenant_id", "limit_id", "subject", "window_start", "shard"]


def test_processes_upgrade_tables_once(url: str) -> None:
    old_schema.make(url)
    command = [sys.executable, "-m", old_schema.__name__, url]
    started = [subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE) for _ in range(3)]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert version(url) == [OURS + 1]
    assert {row["amount"] for row in old_schema.rows(url)["limit"]} == {2000}


def test_an_upgrade_that_was_cut_short_is_done_by_the_next(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old_schema.make(url)

    def cut_short(connection: sqlalchemy.Connection) -> None:
        migrations.add_column(connection, old_schema.later_limit.c.region)
        raise InterruptedError

    steps = migrations.STEPS
    monkeypatch.setattr(migrations, "STEPS", [*steps, cut_short])
    with pytest.raises((StoreError, InterruptedError)):
        open_store(url).limits("acme")
    monkeypatch.setattr(migrations, "STEPS", [*steps, old_schema.step])
    store = open_store(url)
    assert [limit.amount for limit in store.limits("acme")] == [2000]
    store.close()


def test_tables_of_a_newer_release_are_refused_with_a_sentence(url: str) -> None:
    store = open_store(url)
    store.check()
    store.close()
    with engine_of(url).begin() as connection:
        connection.execute(text("UPDATE token_limit_schema SET version = 99"))
    sentence = r"has tables of schema version 99, and this release knows versions up to \d+; install the newer release"
    with pytest.raises(ConfigurationError, match=sentence):
        store.check()
    for operation in (lambda: store.limits("acme"), lambda: store.admit(Call("a", "acme", 1), NOW)):
        with pytest.raises(StoreError, match=sentence):
            operation()


def shape(url: str) -> dict[str, Any]:
    """Describe our tables: columns with their kind of type, keys, and what is indexed."""
    inspector = inspect(engine_of(url))
    names = {name for name in inspector.get_table_names() if name.startswith("token_limit_")} - {"token_limit_schema"}
    return {name: shape_of(inspector, name) for name in names}


def shape_of(inspector: sqlalchemy.Inspector, name: str) -> dict[str, Any]:
    unique = [tuple(one["column_names"]) for one in inspector.get_unique_constraints(name)]
    indexes = [(tuple(one["column_names"]), bool(one["unique"])) for one in inspector.get_indexes(name)]
    key = inspector.get_pk_constraint(name)["constrained_columns"]
    return {
        "columns": {one["name"]: (kind(one["type"]), one["nullable"]) for one in inspector.get_columns(name)},
        "key": key,
        # PostgreSQL: Django indexes text twice, the second time for LIKE
        "indexes": {*indexes, *((columns, True) for columns in unique)} - {((*key,), False), ((*key,), True)},
    }


def kind(type_: Any) -> str:
    """Name a type by what it holds; each engine has several words for it."""
    text = str(type_).upper().partition(" COLLATE")[0]
    same = {"JSONB": "JSON", "TEXT": "JSON", "LONGTEXT": "JSON", "REAL": "DOUBLE", "DOUBLE PRECISION": "DOUBLE"}
    return {**same, "BOOL": "BOOLEAN", "TINYINT(1)": "BOOLEAN", "DOUBLE_PRECISION": "DOUBLE"}.get(text, text)


def test_django_makes_the_same_tables(url: str, tmp_path: Path) -> None:
    engine = sqlalchemy.make_url(url).get_backend_name()
    settings = {"DATABASES": {"default": django_database({"sqlite": "sqlite3"}.get(engine, engine), url)}}
    command = [sys.executable, "-m", host.__name__, json.dumps(settings), "manage", "migrate", "--verbosity=0"]
    migrated = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert migrated.returncode == 0, migrated.stderr
    made_by_django = f"sqlite:///{tmp_path}/db.token_limit.sqlite3" if engine == "sqlite" else url
    djangos = shape(made_by_django)
    store = open_store(made_by_django)
    assert store.limits("acme") == []  # and leaves them to Django
    assert "token_limit_schema" not in inspect(engine_of(made_by_django)).get_table_names()
    store.close()
    with engine_of(made_by_django).begin() as connection:
        for name in [*djangos, "django_migrations"]:
            connection.execute(text(f"DROP TABLE {name}"))
    store = open_store(made_by_django)
    store.check()
    store.close()
    assert shape(made_by_django) == djangos
