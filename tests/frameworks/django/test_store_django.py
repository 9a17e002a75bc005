from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from django.apps import apps
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import connections, router, transaction
from django.test import override_settings

from tests.waiting import wait_until
from token_limit_core.errors import StoreError
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call
from token_limit_django import models
from token_limit_django.conf import settings
from token_limit_django.meter import get_store
from token_limit_django.store import DjangoStore

from . import host

ROOT = Path(__file__).parents[3]
SQLITE = "django.db.backends.sqlite3"
TABLES = [
    "api_key", "counter", "delivery", "figures", "hold", "hold_item", "ledger", "limit", "limit_history", "notice",
    "plan", "refusal", "rollup", "tenant", "top_up", "user_rollup",
]  # fmt: skip
NOW = 1_800_000_000.0
KEPT = f"token_limit_kept_{uuid.uuid4().hex}"


def run(settings: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", host.__name__, json.dumps(settings), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def facts(settings: dict[str, Any], scenario: str) -> Any:
    done = run(settings, scenario)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sqlite(path: Path, name: str = "db", **options: Any) -> dict[str, Any]:
    return {"ENGINE": SQLITE, "NAME": str(path / f"{name}.sqlite3"), "OPTIONS": options}


@pytest.fixture
def postgres(postgres_url: str) -> dict[str, Any]:
    """Give the settings of a PostgreSQL database that is empty."""
    url = sqlalchemy.make_url(postgres_url)
    login = {"USER": url.username or "", "PASSWORD": url.password or "", "HOST": url.host or "", "PORT": url.port or ""}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        **login,
        "OPTIONS": dict(url.query),
    }


@pytest.fixture
def kept_connections(postgres: dict[str, Any], django_db_blocker: Any) -> Iterator[str]:
    """Give an alias with our tables on PostgreSQL whose connections are kept for ever."""
    alias, options = "kept", {**postgres["OPTIONS"], "application_name": KEPT}
    database = {**postgres, "CONN_MAX_AGE": None, "OPTIONS": options}
    connections.settings[alias] = connections.configure_settings({"default": database})["default"]
    with django_db_blocker.unblock():
        with connections[alias].schema_editor() as editor:
            for model in apps.get_app_config("token_limit").get_models():
                if not model._meta.proxy:
                    editor.create_model(model)
        connections[alias].close()
        yield alias
        connections[alias].close()
        del connections[alias], connections.settings[alias]


def backends(url: str, action: str = "pid") -> list[Any]:
    """Ask PostgreSQL about the connections of `kept_connections`."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        query = f"SELECT {action} FROM pg_stat_activity WHERE application_name = '{KEPT}'"
        return list(connection.execute(sqlalchemy.text(query)).scalars())


def spend(store: DjangoStore, call_id: str = "call") -> None:
    assert store.admit(Call(call_id, "acme", 10), NOW).admitted
    assert store.settle(call_id, LLMEvent(call_id, "acme", timestamp=NOW), 5, NOW) == "stored"


EXPECTED = {
    "after a read": "stored",
    "after a write": "stored",
    "in a thread": ["stored", None],
    "before a rollback": "stored",
    "rolled back": ["called, wrote", "read, called, wrote", "wrote"],
    "on the loop": ["stored", "stored"],
    "state": {"calls": 6, "settled": 6 * host.COST, "held": 0, "holds": 0},
}


def test_a_project_may_close_its_connections_around_a_call(tmp_path: Path) -> None:
    found = facts({"DATABASES": {"default": sqlite(tmp_path)}}, "connections_closed")
    assert found == {"calls": 2, "settled": 2 * host.COST, "held": 0, "holds": 0}


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_on_sqlite_no_transaction_of_the_project_is_in_the_way_nor_takes_a_call_along(
    tmp_path: Path, journal: str
) -> None:
    default = sqlite(tmp_path, timeout=1, init_command=f"PRAGMA journal_mode={journal}")
    found = facts({"DATABASES": {"default": default}}, "transactions")
    assert found == EXPECTED | {"tables": {"default": [], "token_limit": TABLES}}
    assert (tmp_path / "db.token_limit.sqlite3").exists()


def test_on_postgresql_no_transaction_of_the_project_is_in_the_way_nor_takes_a_call_along(
    postgres: dict[str, Any],
) -> None:
    found = facts({"DATABASES": {"default": {**postgres, "ATOMIC_REQUESTS": True}}}, "transactions")
    assert found == EXPECTED | {"tables": {"default": TABLES, "token_limit": TABLES}}  # one database, two connections


@pytest.mark.parametrize(("suite", "eager"), [("Eager", True), ("OwnConnection", False), ("OwnTransaction", False)])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_tests_of_a_user_run_under_djangos_own_runner(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, suite: str, eager: bool
) -> None:
    default = sqlite(tmp_path)
    if engine == "postgres":
        default = request.getfixturevalue("postgres")
        schema = default.pop("OPTIONS")["options"].partition("=")[2]
        default["TEST"] = {"NAME": schema}  # a name that nobody else has
    settings = {"DATABASES": {"default": default}, "TOKEN_LIMIT": {"EAGER": eager}}
    done = run(settings, "manage", "test", f"{__package__}.users_tests.{suite}")
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
    assert not list(tmp_path.iterdir())  # the tests kept away from the project's own data


def test_a_database_of_the_users_own_is_used_as_it_is(tmp_path: Path) -> None:
    databases = {"default": sqlite(tmp_path), "spend": sqlite(tmp_path, "spend"), "other": sqlite(tmp_path, "other")}
    settings = {"DATABASES": databases, "TOKEN_LIMIT": {"DATABASE": "spend"}}
    assert facts(settings, "everywhere") == {"default": [], "spend": TABLES, "other": []}


def test_a_second_alias_of_the_default_database_finds_the_tables_migrate_made(postgres: dict[str, Any]) -> None:
    settings = {"DATABASES": {"default": postgres, "token_limit": dict(postgres)}}
    assert facts(settings, "transactions")["state"] == EXPECTED["state"]


def test_our_own_file_follows_the_default_database_and_has_no_table_of_the_project(tmp_path: Path) -> None:
    assert facts({"DATABASES": {"default": sqlite(tmp_path)}}, "back_and_forth") == {
        "zero": {"default": [], "token_limit": []},
        "0001": {"default": [], "token_limit": TABLES},
        "others": ["django_migrations"],
    }


def test_a_store_of_another_kind_needs_no_alias(tmp_path: Path) -> None:
    settings = {"DATABASES": {"default": sqlite(tmp_path)}, "TOKEN_LIMIT": {"STORE": "memory://"}}
    assert facts(settings, "tables") == {"default": TABLES}
    assert [path.name for path in tmp_path.iterdir()] == ["db.sqlite3"]


@pytest.mark.django_db(databases="__all__")
def test_the_migration_makes_what_the_models_say() -> None:
    call_command("makemigrations", "token_limit", check=True, dry_run=True)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_the_models_are_read_and_written_where_the_store_keeps_them() -> None:
    DjangoStore().set_limit(Limit("acme", 25 * 10**9, effective_from=NOW), NOW)
    limit = models.Limit.objects.get(tenant_id="acme")
    assert router.db_for_write(models.Limit) == limit._state.db == "token_limit"
    assert (str(limit.limit_usd), str(limit)) == ("25.000000000", "acme: $25.00 per month")


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_an_operation_joins_a_transaction_on_our_own_alias_such_as_the_admins() -> None:
    store = DjangoStore()
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="token_limit"):
        store.set_limit(Limit("acme", 1, effective_from=NOW), NOW)
        raise ZeroDivisionError
    assert store.limits("acme") == []


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_request_keeps_its_connection_until_it_is_over() -> None:
    found: list[bool] = []

    def serve() -> None:
        connection = connections["token_limit"]
        request_started.send(sender=None)
        spend(DjangoStore())
        found.append(connection.connection is not None)
        request_finished.send(sender=None)
        found.append(connection.connection is not None)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert found == [True, False]


def test_missing_tables_are_told_with_the_cure(tmp_path: Path, django_db_blocker: Any) -> None:
    connections.settings["empty"] = connections.configure_settings({"default": sqlite(tmp_path)})["default"]
    store = DjangoStore("empty")
    try:
        with django_db_blocker.unblock(), pytest.raises(StoreError, match=r"'empty'.*run `manage.py migrate`"):
            store.check()
    finally:
        store.close()
        del connections["empty"], connections.settings["empty"]


def test_a_database_that_is_away_is_a_store_error(django_db_blocker: Any) -> None:
    away = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": 1}
    connections.settings["away"] = connections.configure_settings({"default": away})["default"]
    try:
        with django_db_blocker.unblock(), pytest.raises(StoreError, match="'away' failed: OperationalError"):
            spend(DjangoStore("away"))
    finally:
        del connections["away"], connections.settings["away"]


def test_a_row_the_engine_refuses_is_not_taken_for_an_outage(kept_connections: str) -> None:
    store = DjangoStore(kept_connections)
    with pytest.raises(Exception, match="too long") as caught:
        store.set_limit(Limit("x" * 300, 1, effective_from=NOW), NOW)
    assert not isinstance(caught.value, StoreError)  # it would be tried again for ever
    spend(store)


def test_a_kept_connection_that_died_is_replaced(kept_connections: str, postgres_url: str) -> None:
    store = DjangoStore(kept_connections)
    spend(store, "one")
    assert backends(postgres_url, "pg_terminate_backend(pid)") == [True]
    spend(store, "two")
    assert store.spend("acme", 0, 2 * NOW).calls == 2


async def test_closing_the_store_closes_the_connections_of_its_threads(
    kept_connections: str, postgres_url: str
) -> None:
    store = DjangoStore(kept_connections)
    await store.run_async(lambda: spend(store, "one"))
    spend(store, "two")
    assert backends(postgres_url)
    store.close()
    wait_until(lambda: backends(postgres_url) == [])  # the server ends a backend a moment after its client has left
    await store.run_async(lambda: spend(store, "three"))
    store.close()


@pytest.mark.django_db(databases="__all__", transaction=True)
async def test_a_store_that_other_settings_replace_closes_the_connections_of_its_threads() -> None:
    opened: list[Any] = []

    def work(store: Store) -> None:
        store.limits("acme")
        opened.append(connections[settings.DATABASE].connection)

    with override_settings(TOKEN_LIMIT={"ENABLED": False, "STORE_THREADS": 1}):
        store = get_store()
        await store.run_async(lambda: work(store))
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        opened[0].total_changes  # noqa: B018
