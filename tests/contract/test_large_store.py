"""Lists stay quick at 100,000 tenants: few statements, and none that reads a whole large table."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.contract.calls import DAY, MONTH, NOW, limit_to, record
from tests.waiting import wait_until
from token_limit_core import Meter, MeterConfig
from token_limit_core.console.context import Context, Frame
from token_limit_core.console.routes import respond
from token_limit_core.console.web import Request
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.queries import EventQuery, TenantQuery
from token_limit_core.stores.reports import Standings

TENANTS = 100_000
FILL = f"""
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {TENANTS})
INSERT INTO token_limit_tenant (id, name, first_seen) SELECT printf('t%06d', i), '', 0 FROM n;
INSERT INTO token_limit_limit (tenant_id, frequency, filter, unit, amount, mode, effective_from)
    SELECT id, 'per_month', '', 'usd', 1000000, 'enforce', 0 FROM token_limit_tenant;
INSERT INTO token_limit_counter (tenant_id, limit_id, subject, window_start, window_end, settled, held, extra)
    SELECT tenant_id, id, '', {MONTH[0]:.0f}, {MONTH[1]:.0f}, id, 0, 0 FROM token_limit_limit;
INSERT INTO token_limit_rollup
        (tenant_id, day, provider, model, calls, input_tokens, output_tokens, cost_nano, unpriced)
    SELECT tenant_id, {NOW // DAY:.0f}, 'openai', 'm', 1, 1, 1, id, 0 FROM token_limit_limit;
INSERT INTO token_limit_ledger (tenant_id, event_id, kind, timestamp, input_tokens, output_tokens, total_tokens,
        cached_tokens, cost_nano, stream, provider, model, details)
    SELECT tenant_id, id, 'call', {NOW} - id, 1, 1, 2, 0, id, 0, 'openai', 'm', '{{}}' FROM token_limit_limit;
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    path = tmp_path_factory.mktemp("large") / "ledger.db"
    store = open_store(f"sqlite:///{path}")
    store.check()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FILL)
    store.close()  # `statements` sees the connections that are made from then on
    yield store, path
    store.close()


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Collect the queries that are sent to the engine, with their values."""
    seen: list[str] = []

    def trace(statement: str) -> None:
        if statement.startswith("SELECT"):
            seen.append(statement)

    def connected(connection: Any, record: object) -> None:
        connection.set_trace_callback(trace)

    store.close()  # what it has opened so far is not traced
    sqlalchemy.event.listen(sqlalchemy.Pool, "connect", connected)
    try:
        store.check()
        seen.clear()
        yield seen
    finally:
        sqlalchemy.event.remove(sqlalchemy.Pool, "connect", connected)
        store.close()


def plan(path: Path, seen: list[str]) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[3] for sql in seen for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]


@pytest.mark.parametrize(
    "query",
    [
        TenantQuery(),
        TenantQuery(offset=TENANTS - 50),
        TenantQuery("t09999"),
        TenantQuery(sort="name"),
        TenantQuery(sort="spend"),
        TenantQuery(sort="calls"),
        TenantQuery(sort="share", offset=50),
    ],
    ids=str,
)
def test_a_page_of_100_000_tenants_reads_only_the_list_of_tenants_whole(
    large: tuple[Store, Path], query: TenantQuery
) -> None:
    store, path = large
    with statements(store) as seen:
        page = store.tenants(query, NOW)
    assert page.total == (10 if query.search else TENANTS)
    assert len(page.rows) == (10 if query.search else 50)
    if query.sort in ("spend", "share"):
        assert page.rows[0].tenant_id == f"t{TENANTS - 1 - query.offset:06}"
    assert all(row.month.cost_nano == row.limits[0].settled for row in page.rows)
    # how many, which, their month, their limits, their counters; another order than that of ids needs all to know which
    assert len(seen) == (5 if query.sort == "id" else 4)
    scans = [step.split()[1] for step in plan(path, seen) if step.startswith("SCAN token_limit_")]
    assert set(scans) <= {"token_limit_tenant", *(["token_limit_limit"] if query.sort == "share" else [])}


def test_the_overview_of_a_large_store_shows_kept_figures_and_their_time(
    large: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path = large
    others = open_store(f"sqlite:///{path}")  # as another process
    times, adding, done = [NOW], threading.Semaphore(0), threading.Event()

    def overview(of: Store = store) -> str:
        meter = Meter(MeterConfig(store=of, clock=lambda: times[0], patches=[]))
        answer = respond(Context(Request("GET", ""), meter, "ann", Frame("base.html", ("csrf", ""))))
        assert answer.status == 200
        return b"".join([answer.body] if isinstance(answer.body, bytes) else answer.body).decode()

    def standings(now: float) -> Standings:
        adding.release()
        assert done.wait(60)
        return type(store).standings(store, now)

    monkeypatch.setattr(store, "standings", standings)
    monkeypatch.setattr(others, "standings", None)  # a second calculation would fail
    assert "The figures are being added up for the first time." in overview()
    assert adding.acquire(timeout=60)
    assert "The figures are being added up for the first time." in overview(others)
    done.set()
    wait_until(lambda: "Figures of" in overview(others))
    new = open_store(f"sqlite:///{path}")
    with statements(new) as seen:
        times[0] += 299
        assert "Newer ones" not in overview(new)
        assert len(seen) == 1
    times[0] += 1
    assert "Newer ones are being added up." in overview()
    assert adding.acquire(timeout=60)
    wait_until(lambda: "Newer ones" not in overview())
    times[0] += 300
    monkeypatch.setattr(store, "standings", lambda now: 1 // 0)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in production
    assert "Newer ones are being added up." in overview()
    wait_until(lambda: "Newer ones could not be added up: ZeroDivisionError" in overview(others))
    others.close()


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.events(EventQuery()),
        lambda store: store.events(EventQuery("t000007")),
        lambda store: store.events(EventQuery(start=NOW - 7 * DAY, after=(NOW - 900, 900))),
        lambda store: store.rollup("t000007", *MONTH),
        lambda store: store.hold_page().rows,
        lambda store: store.history(),
        lambda store: store.history("t000007"),
    ],
    ids=["events", "events-of-a-tenant", "later-events", "days", "holds", "history", "history-of-a-tenant"],
)
def test_other_lists_take_an_index_and_read_one_page(
    large: tuple[Store, Path], read: Callable[[Store], list[Any]]
) -> None:
    store, path = large
    with statements(store) as seen:
        assert len(read(store)) <= 50
    assert 1 <= len(seen) <= 2
    steps = plan(path, seen)
    assert not [step for step in steps if step.startswith("SCAN") and "USING" not in step], steps


def test_a_database_of_an_earlier_release_gets_the_new_table_on_first_use(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    earlier = open_store(url)
    record(earlier, 5)
    earlier.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("DROP TABLE token_limit_limit_history")
    store = open_store(url)
    limit_to(store, 10)
    assert len(store.history("acme")) == 1
    assert store.tenants(TenantQuery(), NOW).rows[0].month.cost_nano == 5
    store.close()
