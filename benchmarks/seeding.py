"""Large stores for the benchmarks: filled by a few INSERT ... SELECT on SQLite, PostgreSQL, MySQL and MariaDB.

Each tenant calls on 20 of the past 90 days, twice a day. Of ten tenants seven have a plan, two a limit of their own and
one has none. Tenant `t0` may have many calls more. Counters and roll-ups say what the ledger adds up to.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, NullPool, create_engine, insert, select, text

from token_limit_core.stores import Store, open_store
from token_limit_core.stores.entries import Spend
from token_limit_core.stores.sql.statements import SPENDS, columns_of, totals_by_user, whole
from token_limit_core.stores.sql.tables import ledger, rollup, user_rollup
from token_limit_core.windows import PER_MONTH, window_of

NOW = datetime(2026, 11, 28, 15, tzinfo=UTC).timestamp()
"""The clock of the benchmarks: late in a month, when there is most to add up."""

DAY = 86400
SPAN = 90 * DAY


class Size(NamedTuple):
    """How much a store holds: tenants, calls of each of them, and calls of the tenant `t0` besides."""

    tenants: int = 100_000
    calls: int = 40
    big: int = 1_000_000


_MONTH = window_of(PER_MONTH, NOW)
_LEDGER = """INSERT INTO token_limit_ledger (tenant_id, event_id, kind, timestamp, input_tokens, output_tokens,
    total_tokens, cached_tokens, cost_nano, stream, provider, model, endpoint, details, "user", feature, session_id)"""
_TENANTS = """
INSERT INTO token_limit_plan (name, markup) VALUES ('pro', '');
INSERT INTO token_limit_tenant (id, name, first_seen, plan)
    WITH RECURSIVE c(c) AS (SELECT {zero} UNION ALL SELECT c + 1 FROM c WHERE c + 1 < {tenants})
    SELECT 't' || c, 'Company ' || (c * 7919 % 100003), 0, CASE WHEN c % 10 < 7 THEN 'pro' END FROM c;
INSERT INTO token_limit_limit (tenant_id, plan, frequency, filter, unit, amount, mode, effective_from)
    VALUES ('', 'pro', 'per_month', '', 'usd', 8000000000, 'enforce', 0);
INSERT INTO token_limit_limit (tenant_id, plan, frequency, filter, unit, amount, mode, effective_from)
    VALUES ('', 'pro', 'per_day', '', 'usd', 2000000000, 'enforce', 0);
INSERT INTO token_limit_limit (tenant_id, frequency, filter, unit, amount, mode, effective_from)
    WITH RECURSIVE c(c) AS (SELECT {zero} UNION ALL SELECT c + 1 FROM c WHERE c + 1 < {tenants})
    SELECT 't' || c, 'per_month', '', 'usd', (1 + c % 13) * 1000000000, 'enforce', 0 FROM c WHERE c % 10 IN (7, 8);
"""
_CALLS = """
{ledger}
    WITH RECURSIVE c(c) AS (SELECT {zero} UNION ALL SELECT c + 1 FROM c WHERE c + 1 < {tenants}),
        k(k) AS (SELECT {zero} UNION ALL SELECT k + 1 FROM k WHERE k + 1 < {calls})
    SELECT 't' || c, 'e' || c || '-' || k, 'call', {now} - (c * 7919 + (k - k % 2) * 340007) % {span} - k % 2 * 60,
        900, 100, 1000, 0, CASE WHEN (c + k) % 500 = 7 THEN NULL ELSE (c * 31 + k * 17) % 1000 * 1000000 END, {false},
        CASE WHEN (c + k - k % 2) % 7 < 5 THEN 'openai' ELSE 'anthropic' END, 'm' || ((c + k - k % 2) % 7), 'chat',
        '{{}}', 'u' || ((c * 2 + (k - k % 2) % 4) % 30000),
        CASE (c + k - k % 2) % 4 WHEN 0 THEN 'chat' WHEN 1 THEN 'search' WHEN 2 THEN 'summary' END, 's' || (c % 5003)
    FROM c CROSS JOIN k;
"""
_BIG = """
{ledger}
    WITH RECURSIVE k(k) AS (SELECT {zero} UNION ALL SELECT k + 1 FROM k WHERE k + 1 < {big})
    SELECT 't0', 'b' || k, 'call', {now} - (k * 7 + 1) % {span}, 900, 100, 1000, 0, k % 1000 * 10000, {false},
        'openai', 'm' || (k % 7), 'chat', '{{}}', 'v' || (k % 200), CASE k % 2 WHEN 0 THEN 'chat' END, 's' || (k % 5003)
    FROM k;
"""
_SUMS = """
INSERT INTO token_limit_counter (tenant_id, limit_id, subject, window_start, window_end, settled, held, extra)
    SELECT l.tenant_id, l.id, '', {start}, {end}, SUM(r.cost_nano), 0, 0
    FROM token_limit_limit l JOIN token_limit_rollup r ON r.tenant_id = l.tenant_id AND r.day >= {start} / 86400
    WHERE l.plan = '' GROUP BY l.tenant_id, l.id;
INSERT INTO token_limit_counter (tenant_id, limit_id, subject, window_start, window_end, settled, held, extra)
    SELECT t.id, l.id, '', {start}, {end}, SUM(r.cost_nano), 0, 0
    FROM token_limit_limit l JOIN token_limit_tenant t ON t.plan = l.plan
        JOIN token_limit_rollup r ON r.tenant_id = t.id AND r.day >= {start} / 86400
    WHERE l.plan <> '' AND l.frequency = 'per_month' GROUP BY t.id, l.id;
INSERT INTO token_limit_refusal (tenant_id, minute, kind, limited_by, calls, last_at, model, endpoint)
    WITH RECURSIVE c(c) AS (SELECT {zero} UNION ALL SELECT c + 1 FROM c WHERE c + 1 < {tenants})
    SELECT 't' || c, {minute} - c * 7919 % 20160 * 60, 'exhausted', 'per_month', 1 + c % 3, {now}, 'm1', 'chat' FROM c;
INSERT INTO token_limit_limit_history (at, actor, kind, tenant_id, frequency, filter, new_amount, new_mode)
    SELECT {now} - id, 'sales', 'set', tenant_id, frequency, '', amount, mode FROM token_limit_limit;
INSERT INTO token_limit_hold (call_id, tenant_id, amount, created_at, expires_at, origin, state)
    SELECT 'h' || id, id, 1000000, {now} - 60, {now} + 840, 'call', 'open' FROM token_limit_tenant WHERE id LIKE 't7%';
"""


def fill(url: str, size: Size) -> Store:
    """Open the store of an SQLAlchemy URL, and fill it if it is empty."""
    store = open_store(url)
    store.check()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if not connection.scalar(text("SELECT COUNT(*) FROM token_limit_plan")):
            _fill(connection, size)
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            _analyze(connection)
    return store


def _fill(connection: Connection, size: Size) -> None:
    dialect = connection.dialect.name
    if dialect == "mysql":
        connection.execute(text("SET SESSION sql_mode = 'ANSI', max_recursive_iterations = 4000000000"))
    names: dict[str, Any] = {
        **size._asdict(), "ledger": _LEDGER, "now": f"{NOW:.0f}", "span": SPAN, "minute": int(NOW // 60) * 60,
        "start": _MONTH.start, "end": _MONTH.end, "false": "false" if dialect == "postgresql" else "0",
        "zero": "CAST(0 AS BIGINT)" if dialect == "postgresql" else "0",
    }  # fmt: skip
    for script in (_TENANTS, _CALLS if size.calls else "", _BIG if size.big else ""):
        _run(connection, script, names)
    columns, rows = totals_by_user(dialect)
    connection.execute(insert(user_rollup).from_select(columns, rows))
    key = (ledger.c.tenant_id, whole(ledger.c.timestamp / DAY, dialect), ledger.c.provider, ledger.c.model)
    names_of_rollup = ["tenant_id", "day", "provider", "model", *Spend._fields]
    assert set(names_of_rollup) == set(columns_of(rollup))
    connection.execute(insert(rollup).from_select(names_of_rollup, select(*key, *SPENDS).group_by(*key)))
    _run(connection, _SUMS, names)


def _run(connection: Connection, script: str, names: dict[str, Any]) -> None:
    for statement in script.format(**names).split(";"):
        if statement.strip():
            connection.exec_driver_sql(
                statement.replace("%", "%%") if connection.dialect.name != "sqlite" else statement
            )


def _analyze(connection: Connection) -> None:
    """Let the planner know the tables, as the servers do by themselves after a while."""
    for name in ("ledger", "rollup", "user_rollup", "tenant", "limit", "counter", "refusal", "limit_history", "hold"):
        word = "ANALYZE TABLE" if connection.dialect.name == "mysql" else "ANALYZE"
        connection.execute(text(f"{word} token_limit_{name}"))
