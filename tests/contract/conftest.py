"""The stores the contract holds for: each factory gives a fresh store and the spec another process opens it by."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy

from token_limit_core.stores import open_store
from token_limit_core.stores.base import Store

MYSQL = os.environ.get("TOKEN_LIMIT_TEST_MYSQL")
"""A server's URL such as mysql+pymysql://root@127.0.0.1/test; without it MySQL is left out."""


class Opened(NamedTuple):
    """A fresh store, and the spec by which `worker.py` opens the same one (None: not from another process)."""

    store: Store
    spec: str | None


Factory = Callable[[pytest.FixtureRequest], AbstractContextManager[Opened]]


@contextmanager
def memory(request: pytest.FixtureRequest) -> Iterator[Opened]:
    yield Opened(open_store("memory://"), None)


@contextmanager
def sql_sqlite(request: pytest.FixtureRequest) -> Iterator[Opened]:
    path: Path = request.getfixturevalue("tmp_path")
    with sql(f"sqlite:///{path}/ledger.db") as opened:
        yield opened


@contextmanager
def sql_postgres(request: pytest.FixtureRequest) -> Iterator[Opened]:
    with sql(postgres(request)) as opened:
        yield opened


def postgres(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty schema; commits need not wait for the disk, as no test kills the server."""
    url: str = request.getfixturevalue("postgres_url")
    return f"{url}%20-csynchronous_commit%3Doff"


@contextmanager
def sql_mysql(request: pytest.FixtureRequest) -> Iterator[Opened]:
    assert MYSQL
    engine = sqlalchemy.create_engine(MYSQL, poolclass=sqlalchemy.NullPool)
    name = f"contract_{uuid.uuid4().hex}"
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    with sql(engine.url.set(database=name).render_as_string(hide_password=False)) as opened:
        yield opened
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name}"))


@contextmanager
def sql(url: str) -> Iterator[Opened]:
    store = open_store(url)
    yield Opened(store, url)
    store.close()


@contextmanager
def django_sqlite(request: pytest.FixtureRequest) -> Iterator[Opened]:
    from token_limit_django.databases import SQLITE_OPTIONS

    path: Path = request.getfixturevalue("tmp_path")
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{path}/ledger.db", "OPTIONS": SQLITE_OPTIONS}
    with django_orm(request, database) as opened:
        yield opened


@contextmanager
def django_postgres(request: pytest.FixtureRequest) -> Iterator[Opened]:
    url = sqlalchemy.make_url(postgres(request))
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username or "",
        "PASSWORD": url.password or "",
        "HOST": url.host or "",
        "PORT": url.port or "",
        "OPTIONS": dict(url.query),
    }
    with django_orm(request, database) as opened:
        yield opened


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
        with connections[alias].schema_editor() as editor:
            for model in apps.get_app_config("token_limit").get_models():
                editor.create_model(model)
        store = DjangoStore(alias)
        try:
            yield Opened(store, spec)
        finally:
            store.close()
            connections[alias].close()
            del connections[alias], connections.settings[alias]


FACTORIES: list[Factory] = [memory, sql_sqlite, sql_postgres, django_sqlite, django_postgres]
if MYSQL:
    FACTORIES.append(sql_mysql)


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    with request.param(request) as opened:
        yield opened


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


@pytest.fixture
def spec(opened: Opened) -> str:
    if opened.spec is None:
        pytest.skip("this store lives in one process")
    return opened.spec
