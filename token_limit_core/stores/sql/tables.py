"""The tables of the SQL store; the Django store has the same ones as models.

Times are unix seconds, so that neither a time zone setting nor a dialect can move a window; money is integer
nano-dollars; there are no foreign keys to the host's tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects.mysql import VARBINARY
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..columns import PLAN_WIDTH, WIDTHS


class _Utf8(TypeDecorator[str]):
    """Text kept as bytes: MySQL's collations ignore case or trailing spaces, and tenants differ by both."""

    impl = VARBINARY
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else value.encode()

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode()


_Id: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER keys count up by themselves there
_Tenant: TypeEngine[str] = String(255).with_variant(_Utf8(4 * 255), "mysql", "mariadb")

metadata: MetaData = MetaData()


def _table(name: str, *parts: Column[Any] | Index | UniqueConstraint, **options: Any) -> Table:
    return Table(
        f"token_limit_{name}", metadata, *parts, mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin", **options
    )


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0)


tenant: Table = _table(
    "tenant",
    Column("id", _Tenant, primary_key=True),
    Column("name", String(255), nullable=False, default=""),
    Column("first_seen", Double, nullable=False),
    Column("plan", String(PLAN_WIDTH)),
    Column("suspended_at", Double),
    Column("markup", String(32)),
    Index("token_limit_tenant_plan", "plan"),
)

plan: Table = _table(
    "plan",
    Column("name", String(PLAN_WIDTH), primary_key=True),
    Column("markup", String(32), nullable=False, default=""),
)

limit: Table = _table(
    "limit",
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("tenant_id", _Tenant, nullable=False, index=True),
    Column("frequency", String(16), nullable=False),
    Column("filter", String(255), nullable=False, default=""),
    Column("unit", String(16), nullable=False, default="usd"),
    Column("amount", BigInteger, nullable=False),
    Column("mode", String(16), nullable=False),
    Column("effective_from", Double, nullable=False),
    Column("effective_until", Double),
    Column("timezone", String(64), nullable=False, server_default="UTC"),
    Column("anchor", String(10), nullable=False, server_default=""),
    Column("plan", String(PLAN_WIDTH), nullable=False, server_default=""),
    Column("basis", String(16), nullable=False, server_default="charge"),
    Column("name", String(255), nullable=False, server_default=""),
    UniqueConstraint("tenant_id", "plan", "frequency", "filter", "effective_from", name="token_limit_limit_identity"),
    Index("token_limit_limit_plan", "plan"),
    sqlite_autoincrement=True,  # an id is never used twice: holds of a removed limit must not find a new one
)

counter: Table = _table(
    "counter",
    Column("tenant_id", _Tenant, primary_key=True),
    Column("limit_id", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", _Tenant, primary_key=True),
    Column("window_start", BigInteger, primary_key=True, autoincrement=False),
    Column("window_end", BigInteger, nullable=False),
    _count("settled"),
    _count("held"),
    _count("extra"),
    Column("extra_until", Double),
    Column("notify_at", BigInteger, nullable=False, server_default="0"),
)

top_up: Table = _table(
    "top_up",
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("tenant_id", _Tenant, nullable=False),
    Column("frequency", String(16), nullable=False),
    Column("filter", String(255), nullable=False, default=""),
    Column("subject", _Tenant, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("expires_at", Double),
    _count("left"),
    _count("lost"),
    _count("seen"),
    Index("token_limit_top_up_tenant", "tenant_id"),
)

hold: Table = _table(
    "hold",
    Column("call_id", String(64), primary_key=True),
    Column("tenant_id", _Tenant, nullable=False),
    Column("amount", BigInteger),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("provider", String(WIDTHS["provider"]), nullable=False, server_default=""),
    Column("model", String(WIDTHS["model"]), nullable=False, server_default=""),
    Column("user", String(WIDTHS["user"])),
    Column("feature", String(WIDTHS["feature"])),
    Column("process", String(255), nullable=False, server_default=""),
    Column("charge", BigInteger),
    Index("token_limit_hold_due", "state", "expires_at"),
    Index("token_limit_hold_tenant", "tenant_id", "state"),
)

hold_item: Table = _table(
    "hold_item",
    Column("call_id", String(64), primary_key=True),
    Column("limit_id", BigInteger, primary_key=True, autoincrement=False, index=True),
    Column("window_start", BigInteger, primary_key=True, autoincrement=False),
    _count("amount"),
    Column("subject", _Tenant, nullable=False, server_default=""),
    Column("shared", Boolean, nullable=False, server_default=false()),
)

ledger: Table = _table(
    "ledger",
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("tenant_id", _Tenant, nullable=False),
    Column("event_id", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("corrects", String(80)),
    Column("timestamp", Double, nullable=False),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("total_tokens"),
    _count("cached_tokens"),
    Column("cache_creation_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("stream", Boolean, nullable=False),
    Column("duration_ms", Double),
    *(Column(name, String(width)) for name, width in WIDTHS.items()),
    Column("details", JSON, nullable=False),
    Column("requested_model", String(WIDTHS["model"])),
    Column("charge_nano", BigInteger),
    UniqueConstraint("tenant_id", "event_id", name="token_limit_ledger_event"),
    Index("token_limit_ledger_tenant_time", "tenant_id", "timestamp"),
    Index("token_limit_ledger_time", "timestamp"),
    Index("token_limit_ledger_user_time", "tenant_id", "user", "timestamp"),
)

rollup: Table = _table(
    "rollup",
    Column("tenant_id", _Tenant, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("provider", String(WIDTHS["provider"]), primary_key=True),
    Column("model", String(WIDTHS["model"]), primary_key=True),
    _count("calls"),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cost_nano"),
    _count("unpriced"),
    Column("charge_nano", BigInteger, nullable=False, server_default="0"),
    Index("token_limit_rollup_day", "day"),
)

user_rollup: Table = _table(
    "user_rollup",
    Column("tenant_id", _Tenant, primary_key=True),
    Column("user", String(WIDTHS["user"]), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("feature", String(WIDTHS["feature"]), primary_key=True),
    _count("calls"),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cost_nano"),
    _count("unpriced"),
    Column("charge_nano", BigInteger, nullable=False, server_default="0"),
    Index("token_limit_user_rollup_day", "day"),
)

refusal: Table = _table(
    "refusal",
    Column("tenant_id", _Tenant, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),
    Column("limited_by", String(255), primary_key=True),
    _count("calls"),
    Column("last_at", Double, nullable=False),
    Column("model", String(WIDTHS["model"]), nullable=False, default=""),
    Column("endpoint", String(WIDTHS["endpoint"]), nullable=False, default=""),
    Column("user", String(WIDTHS["user"])),
    Column("feature", String(WIDTHS["feature"])),
    Index("token_limit_refusal_minute", "minute"),
)

notice: Table = _table(
    "notice",
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("tenant_id", _Tenant, nullable=False),
    Column("limit_id", BigInteger, nullable=False),
    Column("subject", _Tenant, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("round", Integer, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("body", Text, nullable=False),
    Column("due", Double, nullable=False),
    UniqueConstraint(
        "tenant_id", "limit_id", "subject", "window_start", "round", "percent", name="token_limit_notice_once"
    ),
    Index("token_limit_notice_due", "due"),
)

figures: Table = _table(
    "figures",
    Column("name", String(64), primary_key=True),
    Column("body", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("claimed_until", Double, nullable=False),
    Column("failure", String(255), nullable=False),
)

limit_history: Table = _table(
    "limit_history",
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("actor", String(255), nullable=False, default=""),
    Column("kind", String(16), nullable=False),
    Column("tenant_id", _Tenant, nullable=False),
    Column("frequency", String(16), nullable=False),
    Column("filter", String(255), nullable=False, default=""),
    Column("old_amount", BigInteger),
    Column("old_mode", String(16)),
    Column("new_amount", BigInteger),
    Column("new_mode", String(16)),
    Column("effective_from", Double),
    Column("unit", String(16), nullable=False, server_default="usd"),
    Column("plan", String(PLAN_WIDTH), nullable=False, server_default=""),
    Column("note", String(255), nullable=False, server_default=""),
    Index("token_limit_history_tenant_at", "tenant_id", "at"),
    Index("token_limit_history_at", "at"),
)

api_key: Table = _table(
    "api_key",
    Column("public_id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("account", _Tenant, nullable=False, index=True),
    Column("name", String(255), nullable=False, default=""),
    Column("tenants", JSON, nullable=False),
    Column("permissions", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

delivery: Table = _table(
    "delivery",
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("destination", String(255), nullable=False),
    Column("tenant_id", _Tenant, nullable=False),
    Column("event_id", String(80), nullable=False),
    Column("claimed_by", String(32)),
    Column("claimed_until", Double, nullable=False, default=0.0),
    Column("parked", Boolean, nullable=False, default=False),
    Index("token_limit_delivery_due", "destination", "parked", "id"),
    sqlite_autoincrement=True,
)
