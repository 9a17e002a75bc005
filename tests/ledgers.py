"""Stores of every kind, fresh, in their own files and schemas."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import sqlalchemy

from tests.support import mysql_database, postgres_schema, redis_database, use_pymysql
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store


class Opened(NamedTuple):
    """A fresh store, and the spec by which `worker.py` opens the same one (None: not from another process)."""

    store: Store
    spec: str | None


Factory = Callable[..., AbstractContextManager[Opened]]
"""Opens a store, given the request, a folder for its files and, if not `fresh`, who lends the databases of servers."""

Make = Callable[[], AbstractContextManager[str]]
Lend = Callable[[str, Make], AbstractContextManager[str]]
"""Lends the URL of an empty database to a kind of store; the function makes one."""


def fresh(kind: str, make: Make) -> AbstractContextManager[str]:
    """Lend a database without any tables."""
    return make()


class Kept:
    """Lends each kind of store one database again and again, emptied: its tables take longer to make than a test."""

    def __init__(self) -> None:
        self._made = ExitStack()
        self._urls: dict[str, str] = {}

    @contextmanager
    def lend(self, kind: str, make: Make) -> Iterator[str]:
        if kind in self._urls and not self._urls[kind].startswith("redis"):
            delete_rows(self._urls[kind])
        elif kind not in self._urls:
            self._urls[kind] = self._made.enter_context(make())
        yield self._urls[kind]

    def close(self) -> None:
        self._made.close()


def delete_rows(url: str) -> None:
    """Delete every row of a database but the version of its tables."""
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).begin() as connection:
        for name in sqlalchemy.inspect(connection).get_table_names():
            if name != "token_limit_schema":
                connection.execute(sqlalchemy.text(f"DELETE FROM {name}"))


@contextmanager
def memory(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    yield Opened(open_store("memory://"), None)


@contextmanager
def sql_sqlite(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    with sql(f"sqlite:///{folder}/ledger.db") as opened:
        yield opened


@contextmanager
def sql_postgres(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    with lend("sql_postgres", postgres) as url, sql(url) as opened:
        yield opened


@contextmanager
def postgres() -> Iterator[str]:
    """Give the URL of an empty schema; commits need not wait for the disk, as no test kills the server."""
    with postgres_schema() as url:
        yield f"{url}%20-csynchronous_commit%3Doff"


@contextmanager
def sql_mysql(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    with lend("sql_mysql", mysql_database) as url, sql(url) as opened:
        yield opened


@contextmanager
def redis_sqlite(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    with emptied(lend("redis", redis_database)) as url, sql(f"{url}?ledger=sqlite:///{folder}/ledger.db") as opened:
        yield opened


@contextmanager
def redis_postgres(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    ledger = lend("redis_postgres", postgres)
    with ledger as database, emptied(lend("redis", redis_database)) as url, sql(f"{url}?ledger={database}") as opened:
        yield opened


@contextmanager
def emptied(lent: AbstractContextManager[str]) -> Iterator[str]:
    with lent as url, redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url


@contextmanager
def sql(url: str) -> Iterator[Opened]:
    store = open_store(url)
    yield Opened(store, url)
    store.close()


@contextmanager
def django_sqlite(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    from token_limit_django.databases import SQLITE_OPTIONS

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/ledger.db", "OPTIONS": SQLITE_OPTIONS}
    with django_orm(request, database) as opened:
        yield opened


@contextmanager
def django_postgres(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    with lend("django_postgres", postgres) as url, django_orm(request, django_database("postgresql", url)) as opened:
        yield opened


@contextmanager
def django_mysql(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    use_pymysql()
    with lend("django_mysql", mysql_database) as url, django_orm(request, django_database("mysql", url)) as opened:
        yield opened


def django_database(engine: str, url: str) -> dict[str, Any]:
    """Return the Django settings of the database that a SQLAlchemy URL names."""
    parts = sqlalchemy.make_url(url)
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": parts.database,
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.host or "",
        "PORT": parts.port or "",
        "OPTIONS": dict(parts.query),
    }


@contextmanager
def django_orm(request: pytest.FixtureRequest, database: dict[str, Any]) -> Iterator[Opened]:
    """Make the app's tables in a database of its own, under an alias that no other test has."""
    from django.apps import apps
    from django.db import connections

    from token_limit_django.store import DjangoStore

    spec = f"django:{json.dumps(database)}"
    alias = f"contract_{uuid.uuid4().hex}"
    connections.settings[alias] = connections.configure_settings({"default": database})["default"]
    with request.getfixturevalue("django_db_blocker").unblock():
        if not connections[alias].introspection.table_names():
            with connections[alias].schema_editor() as editor:
                for model in apps.get_app_config("token_limit").get_models():
                    if not model._meta.proxy:
                        editor.create_model(model)
        store = DjangoStore(alias)
        try:
            yield Opened(store, spec)
        finally:
            store.close()
            connections[alias].close()
            del connections[alias], connections.settings[alias]
