"""The schema's versions: a table of one row says which version a database has, and steps lead to the next one.

To change the schema:

1. Change `tables.py`. A new table needs nothing else: it is made where it is missing.
2. To change a table that exists, append a step to `STEPS`. `add_column` and `rebuild` are its tools; a column that
   is added NOT NULL has a `server_default`.
3. Make the same change in `token_limit_django/models/`, with a migration of Django's.

A new database is made from `tables.py` at once; tests prove that all ways end in the same tables. SQLite and
PostgreSQL undo a step that fails; MySQL commits each statement by itself, so a step must do nothing where it was done
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    column,
    delete,
    func,
    insert,
    inspect,
    literal,
    null,
    select,
    table,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn

from ...runtime.faults import StoreBusy, StoreError
from . import tables
from .statements import totals_by_user
from .tables import metadata
from .transaction import BEGIN

Step = Callable[[Connection], None]


def _to_2(connection: Connection) -> None:
    """Limits with plans, filters, units and windows of every kind; top-ups; totals by user and feature."""
    for changed, names in _NEW_IN_2.items():
        for name in names:
            add_column(connection, metadata.tables[f"token_limit_{changed}"].c[name])
    drop_column(connection, tables.hold_item, "unit")
    rebuild(connection, tables.counter, {"subject": literal(""), "extra": literal(0), "extra_until": null()})
    replace_unique(connection, tables.limit)
    for one in (tables.tenant, tables.limit, tables.ledger, tables.rollup):
        add_indexes(connection, one)
    connection.execute(delete(tables.user_rollup))  # what an attempt before this one may have written
    connection.execute(insert(tables.user_rollup).from_select(*totals_by_user(connection.dialect.name)))


_NEW_IN_2 = {
    "tenant": ("plan", "suspended_at"),
    "limit": ("timezone", "anchor", "plan", "basis", "name"),
    "hold": ("tokens", "provider", "model", "user", "feature"),
    "hold_item": ("subject", "shared"),
    "ledger": ("requested_model", "charge_nano"),  # the totals by user add up the charge, which is new in 4
    "limit_history": ("unit", "plan", "note"),
}


def _to_3(connection: Connection) -> None:
    """Holds with the process that makes the call."""
    add_column(connection, tables.hold.c.process)


def _to_4(connection: Connection) -> None:
    """What tenants are billed, beside what providers take."""
    for changed, name in _NEW_IN_4.items():
        add_column(connection, metadata.tables[f"token_limit_{changed}"].c[name])
    for one in (tables.rollup, tables.user_rollup):
        connection.execute(update(one).values(charge_nano=one.c.cost_nano))


_NEW_IN_4 = {
    "tenant": "markup", "hold": "charge", "ledger": "charge_nano", "rollup": "charge_nano",
    "user_rollup": "charge_nano",
}  # fmt: skip


def _to_5(connection: Connection) -> None:
    """Counters with their next threshold; the first settle of one that is open works it out."""
    add_column(connection, tables.counter.c.notify_at)


STEPS: list[Step] = [_to_2, _to_3, _to_4, _to_5]
"""The first leads from version 1 to 2, the second to 3, and so on. A step that was released is never changed."""


def latest() -> int:
    """Return the schema version of this release."""
    return 1 + len(STEPS)


_schema = Table("token_limit_schema", MetaData(), Column("version", Integer, nullable=False))
_LOCK_NUMBER, _LOCK_NAME, _LOCK_SECONDS = 7463905411202, "token_limit_schema", 60


class SchemaTooNew(StoreError):
    """The tables were made by a newer release."""


def migrate(engine: Engine, shown: str) -> None:
    """Make the tables, or bring them to the version of this release, one process at a time.

    Tables that Django's migrations made are left to Django. Raises `SchemaTooNew` for tables of a newer release and
    `StoreBusy` when another process holds the lock for too long.
    """
    with engine.connect() as connection:
        if _is_up_to_date(connection, shown):
            return
    with _locked(engine) as connection:
        if not _is_up_to_date(connection, shown):  # another process may have been faster
            _upgrade(connection)


def _is_up_to_date(connection: Connection, shown: str) -> bool:
    names = set(inspect(connection).get_table_names())
    if "django_migrations" in names and connection.scalar(_BY_DJANGO):
        return True
    found = _version(connection, names)
    if found is not None and found > latest():
        raise SchemaTooNew(
            f"{shown} has tables of schema version {found}, and this release knows versions up to {latest()}; "
            "install the newer release of token-limit-suite that made them"
        )
    return found == latest() and names.issuperset(metadata.tables)


def _upgrade(connection: Connection) -> None:
    names = set(inspect(connection).get_table_names())
    found = _version(connection, names)
    if found is None:
        found = 1 if "token_limit_tenant" in names else latest()
        _schema.create(connection)
        connection.execute(insert(_schema).values(version=found))
    missing = [one for one in metadata.sorted_tables if one.name not in names]
    metadata.create_all(connection, missing, checkfirst=False)
    for version, step in enumerate(STEPS[found - 1 :], start=found + 1):
        step(connection)
        connection.execute(update(_schema).values(version=version))


_BY_DJANGO = select(func.count()).select_from(table("django_migrations")).where(column("app") == "token_limit")


def _version(connection: Connection, names: set[str]) -> int | None:
    """Read the version; None for a database without our tables, and for one from before there were versions."""
    return connection.scalar(select(_schema.c.version)) if _schema.name in names else None


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """Keep other processes out; on SQLite and PostgreSQL within a transaction, which MySQL does not have for tables."""
    dialect = engine.dialect.name
    with engine.connect() as connection:
        if dialect == "mysql":
            if connection.scalar(select(func.get_lock(_LOCK_NAME, _LOCK_SECONDS))) != 1:
                raise StoreBusy(f"another process has been changing the tables for {_LOCK_SECONDS} seconds")
            try:
                yield connection
            finally:
                connection.scalar(select(func.release_lock(_LOCK_NAME)))
            return
        connection.exec_driver_sql(BEGIN[dialect])
        try:
            if dialect == "postgresql":
                connection.scalar(select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


# -- tools of the steps -------------------------------------------------------------------------


def add_column(connection: Connection, new: Column[object]) -> None:
    """Add a column of `tables.py` to its table, unless it is there."""
    existing = {one["name"] for one in inspect(connection).get_columns(new.table.name)}
    if new.name not in existing:
        clause = CreateColumn(new).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {new.table.name} ADD COLUMN {clause}"))


def drop_column(connection: Connection, known: Table, name: str) -> None:
    """Drop a column that `tables.py` does not have any more."""
    if name in {one["name"] for one in inspect(connection).get_columns(known.name)}:
        connection.execute(text(f"ALTER TABLE {known.name} DROP COLUMN {name}"))


def rebuild(connection: Connection, new: Table, values: dict[str, ColumnElement[Any]]) -> None:
    """Give a table the form that `tables.py` has, such as another primary key, and keep its rows.

    `values` fill the columns that are new. Not for tables whose ids the engine counts up.
    """
    copy = table(f"{new.name}_old", *map(column, new.columns.keys()))
    inspector = inspect(connection)
    key = inspector.get_pk_constraint(new.name)["constrained_columns"]
    if key != list(new.primary_key.columns.keys()):
        connection.execute(text(f"DROP TABLE IF EXISTS {copy.name}"))
        connection.execute(text(f"CREATE TABLE {copy.name} AS SELECT * FROM {new.name}"))
        new.drop(connection)
        new.create(connection)
    elif not inspector.has_table(copy.name):
        return
    connection.execute(delete(new))  # what an attempt before this one may have copied
    copied = {one["name"] for one in inspect(connection).get_columns(copy.name)} | values.keys()
    names = [one.name for one in new.columns if one.name in copied]  # one of a later step has its default
    filled = [values.get(name, copy.c[name]) for name in names]
    connection.execute(insert(new).from_select(names, select(*filled).select_from(copy)))
    connection.execute(text(f"DROP TABLE {copy.name}"))


def add_indexes(connection: Connection, new: Table) -> None:
    """Make the indexes of `tables.py` that a table does not have."""
    existing = {one["name"] for one in inspect(connection).get_indexes(new.name)}
    for index in new.indexes:
        if index.name not in existing:
            index.create(connection)


def replace_unique(connection: Connection, new: Table) -> None:
    """Give a table the one unique constraint that `tables.py` has, in place of the one of the same name."""
    [wanted] = [one for one in new.constraints if isinstance(one, UniqueConstraint)]
    found = [one["column_names"] for one in inspect(connection).get_unique_constraints(new.name)]
    if found == [list(wanted.columns.keys())]:
        return
    if connection.dialect.name == "sqlite":
        _copy_counted(connection, new)
        return
    kind = "INDEX" if connection.dialect.name == "mysql" else "CONSTRAINT"
    if found:
        connection.execute(text(f"ALTER TABLE {new.name} DROP {kind} {wanted.name}"))
    columns = ", ".join(map(connection.dialect.identifier_preparer.quote, wanted.columns.keys()))
    # not SQLAlchemy's AddConstraint: it leaves the constraint out of tables that are made later in this process
    connection.execute(text(f"ALTER TABLE {new.name} ADD CONSTRAINT {wanted.name} UNIQUE ({columns})"))


def _copy_counted(connection: Connection, new: Table) -> None:
    """Make a table of SQLite's anew, which cannot change a constraint; its ids count on from where they were."""
    old = table(f"{new.name}_old", *map(column, new.columns.keys()))
    for index in inspect(connection).get_indexes(new.name):
        connection.execute(text(f"DROP INDEX {index['name']}"))
    connection.execute(text(f"ALTER TABLE {new.name} RENAME TO {old.name}"))
    new.create(connection)
    connection.execute(insert(new).from_select(new.columns.keys(), select(old)))
    connection.execute(text(f"DELETE FROM sqlite_sequence WHERE name = '{new.name}'"))
    connection.execute(text(f"UPDATE sqlite_sequence SET name = '{new.name}' WHERE name = '{old.name}'"))
    connection.execute(text(f"DROP TABLE {old.name}"))
