"""The SQL store's own promises: URLs, laziness, faults, and what its rows say."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.support import environment
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.memory.store import MemoryStore
from token_limit_core.stores.records import HOLD_SECONDS, Call

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp()


# -- opening ------------------------------------------------------------------------------------


def test_a_store_object_is_taken_as_it_is() -> None:
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mongodb://localhost", "no known scheme"),
        ("redis://localhost", "names no ledger"),
        ("redis+cluster://:secret@localhost:7000?prefix=a", "names no ledger"),
        ("rediss://:secret@localhost/0?ledger=redis://u:secret@localhost", "names no ledger"),
        ("redis://:secret@localhost/0?ledger=memory://", "invalid ledger 'memory://'"),
        ("redis://:secret@localhost/0?ledger=postgresql+psycopg://u:secret@host", "must look like"),
        ("token_limit.db", "no known scheme"),
        ("", "no known scheme"),
        ("postgresql://u:secret@host/db", r"did you mean postgresql\+psycopg://"),
        ("mysql://u:secret@host/db", r"did you mean mysql\+pymysql://"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://relative.db", "names no file"),
        ("sqlite:///file:ledger.db?uri=true", "names no file"),
        ("postgresql+psycopg://u:secret@host", "must look like"),
        ("postgresql+psycopg://u:sec@ret@host/db", "must look like"),
        ("postgresql+psycopg://u:sec/ret@host/db", "must look like"),
        ("postgresql+psycopg://u:secret@host:port/db", "must look like"),
        (None, "expected a Store or a URL"),
        (Path("ledger.db"), "expected a Store or a URL"),
    ],
)
def test_a_wrong_store_setting_names_the_setting_and_the_cure(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^store: .*{message}") as caught:
        open_store(value)
    assert "sec" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_limit_core.stores.urls.find_spec", lambda name: None)
    with pytest.raises(
        ConfigurationError,
        match=r"store: 'mysql\+pymysql://u:\*\*\*@host/db' .* pip install 'token-limit-suite\[mysql\]'",
    ):
        open_store("mysql+pymysql://u:secret@host/db")


def test_importing_the_stores_and_using_memory_imports_no_sqlalchemy() -> None:
    script = (
        "import sys; from token_limit_core.stores import open_store; open_store('memory://').limits('a');"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environment())


def test_the_file_and_its_directory_are_made_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///new/deep/ledger.db")
    assert not (tmp_path / "new").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.check()
    store.close()
    with sqlite3.connect(tmp_path / "new/deep/ledger.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize("path", ["file/ledger.db", "directory"])
def test_a_file_that_cannot_be_opened_is_a_wrong_setting_at_start_and_a_store_error_later(
    tmp_path: Path, path: str
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/{path}")
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for start in (lambda: open_store(f"sqlite:///{tmp_path}/{path}"), store.check):
        with pytest.raises(
            ConfigurationError, match=rf"^store: 'sqlite:///{tmp_path}/{path}' cannot be opened .*give the"
        ):
            start()
    with pytest.raises(StoreError, match=rf"the store sqlite:///{tmp_path}/{path} failed: "):
        store.limits("acme")


def test_a_file_that_is_no_database_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is not a database, and long enough to be looked at" * 100)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        open_store(f"sqlite:///{tmp_path}/ledger.db").check()


def test_a_server_that_cannot_be_reached_is_a_store_error_without_the_password() -> None:
    store = open_store("postgresql+psycopg://someone:secret@127.0.0.1:1/db?password=secret&connect_timeout=3")
    for operation in (store.check, lambda: store.limits("acme"), lambda: store.admit(Call("a", "acme", 1), NOW)):
        with pytest.raises(
            StoreError, match=r"the store postgresql\+psycopg://someone:\*\*\*@127\.0\.0\.1:1/db"
        ) as caught:
            operation()
        assert "secret" not in str(caught.value)
    assert "secret" not in repr(store)


# -- conflicts ----------------------------------------------------------------------------------


def tried_again(monkeypatch: pytest.MonkeyPatch, release: Callable[[], None]) -> None:
    """Have `release` run in place of the pause before the second attempt."""
    monkeypatch.setattr("token_limit_core.stores.running.time.sleep", lambda seconds: release())


def test_a_locked_database_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"sqlite:///{tmp_path}/ledger.db?timeout=0")
    store.check()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.limits("acme") == []  # readers do not wait for writers
    tried_again(monkeypatch, other.rollback)
    assert store.set_limit(Limit("acme", 5), NOW).id
    other.execute("BEGIN IMMEDIATE")
    tried_again(monkeypatch, lambda: None)
    with pytest.raises(StoreError, match="database is locked"):
        store.admit(Call("a", "acme", 1), NOW)
    other.close()
    store.close()


def test_a_lock_that_times_out_on_postgresql_is_tried_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"{postgres_url}%20-clock_timeout%3D20ms")
    store.record([(LLMEvent("first", "acme", timestamp=NOW), 1)], NOW)
    engine = sqlalchemy.create_engine(postgres_url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as other:
        other.execute(sqlalchemy.text("UPDATE token_limit_tenant SET name = 'x'"))
        tried_again(monkeypatch, other.rollback)
        assert store.record([(LLMEvent("second", "acme", timestamp=NOW), 1)], NOW) == ["stored"]
    store.close()


def test_a_lost_connection_is_replaced(postgres_url: str) -> None:
    store = open_store(f"{postgres_url}&application_name=contract-lost")
    store.record([(LLMEvent("first", "acme", timestamp=NOW), 1)], NOW)
    engine = sqlalchemy.create_engine(postgres_url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'contract-lost'"
    with engine.connect() as other:
        assert other.execute(sqlalchemy.text(end)).scalars().all() == [True]
    assert store.record([(LLMEvent("second", "acme", timestamp=NOW), 1)], NOW) == ["stored"]
    store.close()


# -- rows ---------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(url: str) -> Any:
    store = open_store(url)
    yield store
    store.close()


def rows(url: str, table: str, order: str) -> list[dict[str, Any]]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        found = connection.execute(sqlalchemy.text(f"SELECT * FROM token_limit_{table} ORDER BY {order}"))
        return [dict(row._mapping) for row in found]


def details(row: dict[str, Any]) -> Any:
    value = row["details"]
    return json.loads(value) if isinstance(value, str) else value


def test_an_event_is_stored_whole_and_cut_to_fit(store: Store, url: str) -> None:
    event = LLMEvent(
        "e1",
        "acme",
        timestamp=NOW,
        provider="openai",
        model="m\0" + "\ud83d" * 300,
        endpoint="chat.completions",
        input_tokens=100,
        output_tokens=20,
        total_tokens=120,
        cached_tokens=60,
        reasoning_tokens=0,
        error="RateLimitError 429 " + "x" * 300,
        image_count=2,
        tags={"nan": float("nan"), "nul": "a\0b", "deep": [{"when": datetime(2027, 1, 1), 3: 4}], "none": None},
    )
    store.record([(event, 7)], NOW)
    [row] = rows(url, "ledger", "id")
    assert (row["tenant_id"], row["event_id"], row["kind"], row["corrects"]) == ("acme", "e1", "call", None)
    assert (row["timestamp"], row["cost_nano"], bool(row["stream"])) == (NOW, 7, False)
    assert [row[name] for name in ("input_tokens", "output_tokens", "total_tokens", "cached_tokens")] == [
        100,
        20,
        120,
        60,
    ]
    assert (row["reasoning_tokens"], row["cache_creation_tokens"], row["user"]) == (0, None, None)
    assert row["model"] == "m" + "?" * 254
    assert row["error"] == ("RateLimitError 429 " + "x" * 300)[:255]
    assert details(row) == {
        "image_count": 2,
        "tags": {"nan": "nan", "nul": "ab", "deep": [{"when": "2027-01-01 00:00:00", "3": 4}], "none": None},
    }


def test_a_row_the_engine_refuses_is_no_store_error_and_leaves_nothing_behind(store: Store) -> None:
    store.set_limit(Limit("acme", 100), NOW)
    store.admit(Call("a", "acme", 10), NOW)
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        store.admit(Call("a", "acme", 10), NOW)
    with pytest.raises((sqlalchemy.exc.DataError, OverflowError)):
        store.settle("a", LLMEvent("a", "acme", timestamp=NOW), 2**70, NOW)
    [status] = store.usage("acme", NOW)
    assert (status.settled, status.held, len(store.holds())) == (0, 10, 1)
    assert store.spend("acme", 0, 1e12).calls == 0


def test_an_expiry_and_its_correction_are_rows_of_their_own(store: Store, url: str) -> None:
    store.set_limit(Limit("acme", 100), NOW)
    store.admit(Call("a", "acme", 10), NOW)
    store.expire(NOW + HOLD_SECONDS)
    store.settle("a", LLMEvent("a", "acme", timestamp=NOW), 4, NOW + 1000)
    found = [(row["event_id"], row["kind"], row["corrects"], row["cost_nano"]) for row in rows(url, "ledger", "id")]
    assert found == [
        ("a/expired", "expiry", None, 10),
        ("a", "call", None, 4),
        ("a/correction", "correction", "a/expired", -10),
    ]
    assert details(rows(url, "ledger", "id")[0])["tags"] == {"estimated": True}
    assert [row["state"] for row in rows(url, "hold", "call_id")] == ["settled"]


def test_the_rollup_adds_up_per_tenant_day_provider_and_model(store: Store, url: str) -> None:
    day = int(NOW // 86400)

    def record(event_id: str, when: float, model: str, cost: int | None) -> None:
        event = LLMEvent(
            event_id, "acme", timestamp=when, provider="openai", model=model, input_tokens=3, output_tokens=2
        )
        store.record([(event, cost)], when)

    for number, (when, model, cost) in enumerate(
        [(NOW, "a", 5), (NOW, "a", None), (NOW, "b", 7), (NOW + 86400, "a", 11), (NOW, "a", 1)]
    ):
        record(f"e{number}", when, model, cost)
    record("e0", NOW, "a", 5)
    names = ("day", "model", "calls", "input_tokens", "output_tokens", "cost_nano", "unpriced")
    assert [tuple(row[name] for name in names) for row in rows(url, "rollup", "day, model")] == [
        (day, "a", 3, 9, 6, 6, 1),
        (day, "b", 1, 3, 2, 7, 0),
        (day + 1, "a", 1, 3, 2, 11, 0),
    ]


def test_removing_a_limit_takes_its_counters_and_hold_items_along(store: Store, url: str) -> None:
    for tenant in ("acme", "globex"):
        store.set_limit(Limit(tenant, 100), NOW)
        store.admit(Call(f"of-{tenant}", tenant, 10), NOW)
    store.remove_limit("acme", None, NOW)
    assert [row["tenant_id"] for row in rows(url, "counter", "tenant_id")] == ["globex"]
    assert [row["call_id"] for row in rows(url, "hold_item", "call_id")] == ["of-globex"]
    assert [row["tenant_id"] for row in rows(url, "limit", "id")] == ["globex"]
    assert [row["call_id"] for row in rows(url, "hold", "call_id")] == ["of-acme", "of-globex"]
