"""A database of schema version 1, from before there were version numbers, and a step that leads on from it.

`python -m tests.contract.old_schema URL` upgrades a database with that step, as another process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, literal, text

from token_limit_core.stores import open_store
from token_limit_core.stores.sql import migrations, tables

WORDS = {
    "sqlite": {
        "{tenant}": "VARCHAR(255)",
        "{id}": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
        "{double}": "DOUBLE",
        "{user}": '"user"',
        "{options}": "",
    },
    "postgresql": {
        "{tenant}": "VARCHAR(255)",
        "{id}": "BIGSERIAL PRIMARY KEY",
        "{double}": "DOUBLE PRECISION",
        "{user}": '"user"',
        "{options}": "",
    },
    "mysql": {
        "{tenant}": "VARBINARY(1020)",
        "{id}": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
        "{double}": "DOUBLE",
        "{user}": "`user`",
        "{options}": " CHARSET=utf8mb4 COLLATE utf8mb4_bin",
    },
}
NOW = 1_800_000_000.0
DAY = int(NOW // 86400)
MONTH = (1_798_761_600, 1_801_440_000)
ROWS: dict[str, list[dict[str, Any]]] = {
    "tenant": [{"id": "acme", "name": "Acme", "first_seen": NOW}, {"id": "ACME ", "name": "", "first_seen": NOW}],
    "limit": [
        {"tenant_id": tenant, "frequency": "per_month", "filter": "", "unit": "usd", "amount": 1000}
        | {"mode": "enforce", "effective_from": 0.0, "effective_until": None}
        for tenant in ("acme", "ACME ")
    ],
    "counter": [
        {"tenant_id": "acme", "limit_id": 1, "window_start": MONTH[0], "window_end": MONTH[1], "settled": 40, "held": 5}
    ],
    "hold": [
        {"call_id": "open", "tenant_id": "acme", "amount": 5, "created_at": NOW, "expires_at": NOW + 900}
        | {"origin": "call", "state": "open"}
    ],
    "hold_item": [{"call_id": "open", "limit_id": 1, "window_start": MONTH[0], "unit": "usd", "amount": 5}],
    "ledger": [
        {"tenant_id": "acme", "event_id": "e1", "kind": "call", "timestamp": NOW, "input_tokens": 3, "output_tokens": 2}
        | {"total_tokens": 5, "cached_tokens": 0, "cost_nano": 40, "stream": False, "provider": "openai", "model": "m"}
        | {"user": "ü", "details": '{"tags": {"a": 1}}'}
    ],
    "rollup": [
        {"tenant_id": "acme", "day": DAY, "provider": "openai", "model": "m", "calls": 1, "input_tokens": 3}
        | {"output_tokens": 2, "cost_nano": 40, "unpriced": 0}
    ],
    "limit_history": [
        {"at": NOW, "actor": "ann", "kind": "set", "tenant_id": "acme", "frequency": "per_month", "filter": ""}
        | {"new_amount": 1000, "new_mode": "enforce"}
    ],
    "api_key": [
        {"public_id": "0123456789ab", "digest": "d" * 64, "account": "north", "name": "", "tenants": '["acme"]'}
        | {"permissions": '["ingest"]', "created_at": NOW}
    ],
    "delivery": [
        {"destination": "https://x/e", "tenant_id": "acme", "event_id": "e1", "claimed_until": 0.0, "parked": False}
    ],
}


def make(url: str) -> None:
    """Make the tables of version 1, filled."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    ddl = Path(__file__).with_name("schema_1.sql").read_text()
    for blank, word in WORDS[engine.dialect.name].items():
        ddl = ddl.replace(blank, word)
    quote = engine.dialect.identifier_preparer.quote
    with engine.begin() as connection:
        for statement in ddl.split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        for name, rows in ROWS.items():
            for row in rows:
                columns, values = ", ".join(map(quote, row)), ", ".join(f":{column}" for column in row)
                connection.execute(text(f"INSERT INTO token_limit_{name} ({columns}) VALUES ({values})"), row)


def rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Read all rows of all tables, whatever columns these have."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return {
            name: [dict(row) for row in connection.execute(text(f"SELECT * FROM token_limit_{name}")).mappings()]
            for name in ROWS
        }


LATER = MetaData()
later_limit = Table(
    "token_limit_limit",
    LATER,
    Column("id", BigInteger, primary_key=True),
    Column("amount", BigInteger),
    Column("region", String(16), nullable=False, server_default="north"),
)
later_counter = Table(
    "token_limit_counter",
    LATER,
    *(column._copy() for column in tables.counter.columns),
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
)


def step(connection: Connection) -> None:
    """Lead to a version after ours with a column and a key more; twice the amounts tell how often it has run."""
    migrations.add_column(connection, later_limit.c.region)
    migrations.rebuild(connection, later_counter, {"shard": literal(0)})
    connection.execute(later_limit.update().values(amount=later_limit.c.amount * 2))


if __name__ == "__main__":
    migrations.STEPS.append(step)
    open_store(sys.argv[1]).limits("acme")
