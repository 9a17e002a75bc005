"""The database of our tables, and the alias for it.

The store commits its own transactions: a request that rolls back must not remove recorded spend. So it needs a
connection on which the host application never opens a transaction.

- SQLite locks the whole file: a reader of the host can block our write, and our write makes the host's next write
  fail. So the tables are in a separate file beside the default database, and `migrate` creates them there.
- On other engines a second connection to the same database is enough; `migrate` creates the tables on `default`.
- An alias of that name in DATABASES is used unchanged.
- EAGER, for tests inside a transaction, uses the default connection itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings as django_settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from .conf import settings

APP_LABEL = "token_limit"

SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",  # a concurrent upgrade from read lock to write lock fails at once
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
}

VENDORS = ("sqlite", "postgresql", "mysql")
"""The engines that the store supports, by Django's vendor name; MariaDB's is `mysql`."""

DEFAULT_TIMEOUTS = {
    "postgresql": {"connect_timeout": 10},
    "mysql": {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60},
}
"""Default timeouts of our connection, in seconds, against a server that hangs; the project's OPTIONS override them."""

_on_default: set[str] = set()
_files: set[str] = set()


def store_alias() -> str:
    """Return the alias the store reads and writes through."""
    return DEFAULT_DB_ALIAS if settings.EAGER or settings.STORE is not None else settings.DATABASE


def tables_alias() -> str:
    """Return the alias on which `migrate` creates the tables."""
    alias = store_alias()
    return DEFAULT_DB_ALIAS if alias in _on_default else alias


def add_alias() -> None:
    """Add our alias to the project's databases; opens no connection."""
    alias = store_alias()
    default = connections[DEFAULT_DB_ALIAS]
    if alias == DEFAULT_DB_ALIAS or default.vendor == "unknown":
        return
    databases = connections.settings
    if alias in databases:
        if default.vendor != "sqlite" and same_place(alias, DEFAULT_DB_ALIAS):
            _on_default.add(alias)
        return
    if default.vendor == "sqlite":
        added = _own_file(default.settings_dict)
        _files.add(alias)
    else:
        added = _own_connection(default.settings_dict)
        _on_default.add(alias)
    databases[alias] = connections.configure_settings({DEFAULT_DB_ALIAS: added})[DEFAULT_DB_ALIAS]
    django_settings.DATABASES[alias] = databases[alias]


def same_place(alias: str, other: str) -> bool:
    """Return whether two aliases have the same engine, host, port, name and PostgreSQL service."""
    return _place(connections[alias].settings_dict) == _place(connections[other].settings_dict)


def location_of(alias: str) -> str | None:
    """Return the identity of an alias's database across processes, without its password; None for one in memory."""
    if alias not in connections.settings:  # a project without databases; a system check reports it
        return None
    database = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        name = database["NAME"]
        return None if _in_memory(name) or str(name).startswith("file:") else os.path.abspath(name)
    return f"django:{_place(database)!r}"


def in_memory(alias: str) -> bool:
    """Return whether an SQLite alias is in memory."""
    return _in_memory(connections[alias].settings_dict["NAME"])


def unsupported(alias: str) -> str | None:
    """Return an error message for an alias with an unsupported engine; else None."""
    connection = connections[alias]
    if connection.vendor in VENDORS:
        return None
    engine = connection.settings_dict["ENGINE"]
    return f"DATABASES[{alias!r}]: invalid engine {engine!r}; expected SQLite, PostgreSQL, MySQL or MariaDB"


def migrate_along(*, using: str, verbosity: int = 1, **kwargs: Any) -> None:
    """Migrate our file after the default database: a receiver of `post_migrate`."""
    alias = store_alias()
    if using != DEFAULT_DB_ALIAS or alias not in _files or "plan" not in kwargs:  # `flush` also sends the signal
        return
    name = connections[alias].settings_dict["NAME"]
    if name != _beside(connections[DEFAULT_DB_ALIAS].settings_dict["NAME"]):
        return  # the test runner is creating default's test database; ours is next
    applied = MigrationRecorder(connections[DEFAULT_DB_ALIAS]).applied_migrations()
    executor = MigrationExecutor(connections[alias])
    targets = executor.loader.graph.leaf_nodes(APP_LABEL)
    if not any(app == APP_LABEL for app, _ in applied):
        targets = [(APP_LABEL, None)]
    if executor.migration_plan(targets):
        if verbosity >= 1:
            print(f"  Migrating {APP_LABEL} in {name}", file=kwargs.get("stdout"))
        executor.migrate(targets)


def _own_file(default: dict[str, Any]) -> dict[str, Any]:
    test = default["TEST"]["NAME"]
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _beside(default["NAME"]),
        "CONN_MAX_AGE": default["CONN_MAX_AGE"],
        "OPTIONS": {**SQLITE_OPTIONS, "timeout": settings.STORE_TIMEOUT},
        "TEST": {"NAME": None if test is None or _in_memory(test) else _beside(test)},
    }


def _own_connection(default: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in default["OPTIONS"].items() if name != "isolation_level"}
    for name, seconds in DEFAULT_TIMEOUTS.get(connections[DEFAULT_DB_ALIAS].vendor, {}).items():
        options.setdefault(name, seconds)
    return {
        **default,
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        "OPTIONS": options,  # conditional updates are safe on the engine's default isolation level
        "TEST": {"MIRROR": DEFAULT_DB_ALIAS},
    }


def _beside(name: str | Path) -> str:
    """Return the path of our file for a default database."""
    if _in_memory(name):
        # the name that the test runner uses, so that tests find the tables that `migrate` created
        return f"file:memorydb_{settings.DATABASE}?mode=memory&cache=shared"
    text = str(name)
    path = Path(unquote(urlsplit(text).path) if text.startswith("file:") else text)
    return str(path.with_name(f"{path.stem}.token_limit.sqlite3"))


def _in_memory(name: str | Path) -> bool:
    return not isinstance(name, Path) and (name == ":memory:" or "mode=memory" in name)


def _place(database: dict[str, Any]) -> tuple[Any, ...]:
    place = (database[key] for key in ("ENGINE", "HOST", "PORT", "NAME"))
    return (*map(str, place), database["OPTIONS"].get("service"))
