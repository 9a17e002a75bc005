"""What differs between engines: the text of a statement, how values are passed and read, which errors are conflicts.

A statement is compiled to text once per dialect and parameter style. It then runs on any DB-API cursor, so that the
Django store runs the same SQL without SQLAlchemy's engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import JSON, Boolean, ClauseElement, Dialect, String, make_url
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

Convert = Callable[[Any], Any]

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""The supported dialects; drivers of one dialect that share its parameter style run the same text."""

CONFLICTS = {"40001", "40P01", "53300", "55P03", 1040, 1203, 1205, 1213}
"""PostgreSQL: serialisation failure, deadlock, too many connections, lock not available.

MySQL: too many connections, of the server and of the user, lock wait timeout, deadlock.
"""

NO_CONNECTION = ("too many clients", "too many connections", "remaining connection slots")
"""What PostgreSQL says when every connection is taken; psycopg has no code for an error while it connects."""

SQLITE_CONFLICTS = {5, 6}
"""SQLITE_BUSY and SQLITE_LOCKED, without their extensions."""


class Sql(NamedTuple):
    """A statement as text, ready for a driver."""

    text: str
    bind: Convert
    """From parameters by name to what the driver's `execute` takes."""

    columns: tuple[str, ...]
    """The names of the columns it returns."""

    readers: tuple[tuple[int, Convert], ...]
    """Which of these columns need a conversion, and which."""


class Texts:
    """The statements of one dialect and parameter style as text, each compiled when it is first used."""

    def __init__(self, name: str, paramstyle: str | None) -> None:
        self.name = name
        style = {} if paramstyle is None else {"paramstyle": paramstyle}
        self._dialect: Dialect = make_url(f"{DRIVERS[name]}://").get_dialect()(**style)
        self._known: dict[Any, Sql] = {}

    def of(self, statement: ClauseElement) -> Sql:
        """Return the text of a statement that is used again and again."""
        try:
            return self._known[statement]
        except KeyError:
            sql = self._known[statement] = self.once(statement)
            return sql

    def message(self, statements: Sequence[ClauseElement]) -> Sql:
        """Return several statements in one text, for a driver that sends it as one message; rows are the last one's."""
        key = tuple(statements)
        if key not in self._known:
            *others, last = map(self.once, key)
            binds = [sql.bind for sql in (*others, last)]
            joined = "; ".join(sql.text for sql in (*others, last))
            self._known[key] = last._replace(
                text=joined, bind=lambda row: reduce(lambda row, bind: bind(row), binds, row)
            )
        return self._known[key]

    def once(self, statement: ClauseElement) -> Sql:
        """Return the text of a statement that is built for one question."""
        compiled = statement.compile(dialect=self._dialect)
        assert isinstance(compiled, SQLCompiler)
        columns = tuple(statement.exported_columns) if hasattr(statement, "exported_columns") else ()
        readers = [(place, _reader(column.type, self._dialect)) for place, column in enumerate(columns)]
        return Sql(
            compiled.string,
            self._binder(compiled),
            tuple(column.name for column in columns),
            tuple((place, read) for place, read in readers if read is not None),
        )

    def _binder(self, compiled: SQLCompiler) -> Convert:
        """Return what puts parameters into the driver's form; constants of the statement are filled in."""
        constants: dict[str, Any] = {}
        writers: dict[str, Convert] = {}
        for name, bind in compiled.binds.items():
            write = _writer(bind.type, self._dialect)
            if not bind.required:
                value = bind.effective_value
                constants[name] = value if write is None else write(value)
            elif write is not None:
                writers[name] = write
        names = compiled.positiontup
        if names is None:
            return _by_name(constants, writers)
        return _by_place(tuple(names), constants, writers)


@cache
def texts(name: str, paramstyle: str | None = None) -> Texts:
    """Return the texts of a dialect; `paramstyle` replaces the one of its usual driver."""
    return Texts(name, paramstyle)


def is_conflict(error: BaseException | None) -> bool:
    """Return whether a driver's error may pass by itself.

    That is a deadlock, a serialisation failure, a lock that was not given in time, or a server whose connections are
    all taken.
    """
    code: Any = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in SQLITE_CONFLICTS
    code = getattr(error, "sqlstate", None)
    if code is None and error is not None and error.args:
        code = error.args[0]
    return code in CONFLICTS or any(words in str(error) for words in NO_CONNECTION)


def _by_name(constants: dict[str, Any], writers: dict[str, Convert]) -> Convert:
    if not constants and not writers:
        return lambda row: row

    def bind(row: Mapping[str, Any]) -> dict[str, Any]:
        written = {name: write(row[name]) for name, write in writers.items()}
        return {**row, **constants, **written}

    return bind


def _by_place(names: tuple[str, ...], constants: dict[str, Any], writers: dict[str, Convert]) -> Convert:
    named = _by_name(constants, writers)
    if not names:
        return lambda row: ()
    if len(names) == 1:
        (name,) = names
        return lambda row: (named(row)[name],)
    places = itemgetter(*names)
    if not constants and not writers:
        return places
    return lambda row: places(named(row))


def _writer(type_: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    if isinstance(type_, (String, JSON.JSONIndexType, JSON.JSONPathType)):
        return type_.dialect_impl(dialect).bind_processor(dialect)
    return None  # drivers take bools and numbers as they are; JSON columns are given text


def _reader(type_: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    if isinstance(type_, JSON):
        return _read_json
    if isinstance(type_, Boolean):
        return bool
    if isinstance(type_, String):  # bytes on MySQL, where tenants are kept as such
        return type_.dialect_impl(dialect).result_processor(dialect, None)
    return None  # drivers give numbers as they are


def _read_json(value: Any) -> Any:
    """Return the value of a JSON column; some drivers parse it by themselves."""
    return json.loads(value) if isinstance(value, (str, bytes)) else value
