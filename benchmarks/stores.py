"""What a store adds to the statements that it runs: one admitted and settled call, and 1,000 recorded events.

Usage: python benchmarks/stores.py [--rounds N]

The statements are recorded once from `SqlStore` on SQLite. "By hand" runs them on a bare sqlite3 cursor, with new ids.
The subjects take turns in one process, each on a file of its own. A figure is CPU time, and its ratio to "by hand".
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

from stats import compare
from token_limit_core import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores import Store, open_store
from token_limit_core.stores.records import Call
from token_limit_core.stores.sql import store as sql_store

TENANT, NOW = "tenant", time.time()
NANO = 10**9
BATCH = 1000
numbers = itertools.count()


def new_id() -> str:
    """Return an id that was not used before."""
    return f"47c01b60-42a1-40e8-ac39-{next(numbers):012}"


def event_of(call_id: str) -> LLMEvent:
    """Return the event of a call."""
    return LLMEvent(
        event_id=call_id,
        tenant_id=TENANT,
        provider="openai",
        model="gpt-4o-mini-2024-07-18",
        endpoint="chat.completions",
        input_tokens=412,
        output_tokens=100,
        total_tokens=512,
        cached_tokens=128,
        reasoning_tokens=0,
        duration_ms=812.5,
        timestamp=NOW,
        request_id="req_1",
        price_version="genai-prices",
        service_tier="default",
        tags={"requested_model": "gpt-4o-mini"},
    )


def call(store: Store) -> None:
    """Admit and settle one call."""
    call_id = new_id()
    admitted = Call(call_id, TENANT, 122_400, tokens=513, provider="openai", model="gpt-4o-mini")
    assert store.admit(admitted, NOW).admitted
    store.settle(call_id, event_of(call_id), 112_200, NOW)


def record(store: Store) -> None:
    """Record a batch of events that had no admission."""
    store.record([(event_of(new_id()), 112_200) for _ in range(BATCH)], NOW)


class Recorder:
    """A cursor that keeps what is run on it."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.statements: list[tuple[str, str, Any]] = []

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run a statement."""
        self.statements.append(("execute", sql, values))
        return self._cursor.execute(sql, values)

    def executemany(self, sql: str, rows: Any) -> Any:
        """Run a statement for each row."""
        self.statements.append(("executemany", sql, list(rows)))
        return self._cursor.executemany(sql, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def recorded(path: Path, work: Callable[[Store], None]) -> list[tuple[str, str, Any]]:
    """Return the statements of `work` on a store whose windows are open."""
    store = prepared(open_store(f"sqlite:///{path}"))
    call(store)
    recorders: list[Recorder] = []
    original = sql_store._cursor_of

    def recording(connection: Any, dialect: str) -> Recorder:
        recorders.append(Recorder(original(connection, dialect)))
        return recorders[-1]

    store.close()
    sql_store._cursor_of = recording
    try:
        work(store)
    finally:
        sql_store._cursor_of = original
        store.close()
    return [statement for recorder in recorders for statement in recorder.statements]


def prepared(store: Store) -> Store:
    """Give the tenant a limit that is never reached."""
    store.set_limit(Limit(TENANT, 10**9 * NANO), NOW)
    return store


def by_hand(path: Path, work: Callable[[Store], None]) -> Callable[[int], None]:
    """Return what runs the statements of `work` on a bare cursor, each time with new ids."""
    statements = recorded(path, work)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    cursor = connection.cursor()
    known = {value for _, _, values in statements for value in _flat(values) if _is_id(value)}

    def run(times: int) -> None:
        for _ in range(times):
            ids = {old: new_id() for old in known}
            for method, sql, values in statements:
                getattr(cursor, method)(sql, _renamed(values, ids))
                if sql.startswith("SELECT"):
                    cursor.fetchall()

    return run


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, (list, tuple)) else (value,)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("47c01b60-")


def _renamed(values: Any, ids: dict[str, str]) -> Any:
    return [
        _renamed(value, ids)
        if isinstance(value, (list, tuple))
        else ids.get(value, value)
        if isinstance(value, str)
        else value
        for value in values
    ]


def django_store(path: Path) -> Store:
    """Return Django's store on a file beside this one."""
    settings.configure(
        INSTALLED_APPS=["token_limit_django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from token_limit_django.store import DjangoStore

    return prepared(DjangoStore())


_run: Callable[[int], None]


def subject(run: Callable[[int], None]) -> Callable[[], Any]:
    """Let `workload` do this while the subject has its turn."""

    @contextmanager
    def turn() -> Iterator[None]:
        global _run
        _run = run
        yield

    return turn


def workload(times: int) -> None:
    """Do what the subject of this turn does."""
    _run(times)


def repeated(work: Callable[[Store], None], store: Store) -> Callable[[int], None]:
    """Return what does the work on a store so many times."""

    def run(times: int) -> None:
        for _ in range(times):
            work(store)

    return run


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    print("| work | subject | CPU microseconds | times |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        in_django = django_store(Path(folder) / "django.db")
        for work, operations in ((call, 50), (record, 1)):
            plain = prepared(open_store(f"sqlite:///{Path(folder) / work.__name__}.db"))
            subjects = {
                "by hand": subject(by_hand(Path(folder) / f"{work.__name__}-by-hand.db", work)),
                "SqlStore": subject(repeated(work, plain)),
                "DjangoStore": subject(repeated(work, in_django)),
            }
            results = compare(subjects, workload, operations, rounds)
            base = results["by hand"].total
            for name, found in results.items():
                print(f"| {work.__name__} | {name} | {found.total:,.0f} | {found.total / base:.1f} |", flush=True)
            plain.close()
        in_django.close()


if __name__ == "__main__":
    main()
