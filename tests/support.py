"""What several test suites need: PostgreSQL, MariaDB or MySQL, Redis, a browser, the environment of a process."""

from __future__ import annotations

import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

POSTGRES = os.environ.get("TOKEN_LIMIT_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
MYSQL = os.environ.get("TOKEN_LIMIT_TEST_MYSQL", "mysql+pymysql://root@127.0.0.1:3306")
REDIS = os.environ.get("TOKEN_LIMIT_TEST_REDIS", "redis://127.0.0.1:6379/0")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def environment() -> dict[str, str]:
    """Let a new process import what this one imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def unavailable(reason: str) -> NoReturn:
    """Skip where the machine lacks something; fail on CI, where it has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def postgres_schema() -> Iterator[str]:
    """Create an empty schema and give the SQLAlchemy URL that works in it; drop it at the end."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(POSTGRES, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 5})
    name = f"test_{uuid.uuid4().hex}"
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.schema.CreateSchema(name))
    except sqlalchemy.exc.OperationalError as error:
        unavailable(f"PostgreSQL cannot be reached at {engine.url!r} (TOKEN_LIMIT_TEST_POSTGRES): {error.orig}")
    try:
        yield f"{POSTGRES}?options=-csearch_path%3D{name}"
    finally:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.schema.DropSchema(name, cascade=True))


@contextmanager
def postgres_database() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Create an empty database, and give an administrator's connection and its place in Django's words; drop it."""
    import psycopg
    import sqlalchemy

    url = sqlalchemy.make_url(POSTGRES)
    place = {"HOST": url.host, "PORT": url.port, "USER": url.username, "PASSWORD": url.password or ""}
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    try:
        admin = psycopg.connect(**options, dbname=url.database, connect_timeout=5, autocommit=True)
    except psycopg.OperationalError as error:
        unavailable(f"PostgreSQL cannot be reached at {url!r} (TOKEN_LIMIT_TEST_POSTGRES): {error}")
    name = f"test_{uuid.uuid4().hex}"
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield admin, {**place, "NAME": name}
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def mysql_database() -> Iterator[str]:
    """Create an empty MariaDB or MySQL database and give the SQLAlchemy URL that works in it; drop it at the end."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(MYSQL, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 5})
    name = f"test_{uuid.uuid4().hex}"
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    except sqlalchemy.exc.OperationalError as error:
        unavailable(f"MySQL cannot be reached at {engine.url!r} (TOKEN_LIMIT_TEST_MYSQL): {error.orig}")
    try:
        yield engine.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name}"))


def use_pymysql() -> None:
    """Run Django's MySQL backend on PyMySQL, which passes for the driver that Django asks for."""
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()


def require_chromium() -> str:
    """Return the path of the machine's Chromium."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    unavailable(f"no browser found: none of {', '.join(BROWSERS)} is on the PATH")


def redis_url() -> str:
    """Return the URL of a Redis server that answers; keys in it need a prefix of the test's own."""
    import redis

    try:
        with redis.Redis.from_url(REDIS, socket_connect_timeout=5) as client:
            client.ping()
    except redis.ConnectionError as error:
        unavailable(f"Redis cannot be reached at {REDIS} (TOKEN_LIMIT_TEST_REDIS): {error}")
    return REDIS


@contextmanager
def redis_database() -> Iterator[str]:
    """Claim an empty logical database of the Redis server and give its URL; empty it at the end.

    For libraries whose keys cannot have a prefix. The claim is a key in the database of TOKEN_LIMIT_TEST_REDIS.
    """
    import redis

    base = redis_url()
    with redis.Redis.from_url(base) as claims:
        for number in range(1, int(claims.config_get("databases")["databases"])):
            url, claim = re.sub(r"/\d*$", f"/{number}", base), f"token-limit-test-database-{number}"
            if not claims.set(claim, os.getpid(), nx=True, ex=600):
                continue
            try:
                with redis.Redis.from_url(url) as database:
                    if database.dbsize() > 0:
                        continue
                    yield url
                    database.flushdb()
                    return
            finally:
                claims.delete(claim)
    unavailable(f"every database of Redis at {base} is in use")
