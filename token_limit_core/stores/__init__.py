"""The stores of limits and ledger: memory, SQLite, PostgreSQL, MySQL and Redis."""

from __future__ import annotations

from ..runtime.faults import ConfigurationError
from .contract import Store
from .urls import REDIS_SCHEMES, scheme_of


def open_store(value: Store | str, *, timeout: float = 30.0) -> Store:
    """Return the store a setting means: a `Store`, or a URL; nothing is opened before its first use.

    The store of a URL waits `timeout` seconds for locks and connections.

    Raises `ConfigurationError` for an unknown scheme, a missing driver or a URL that cannot be read;
    `Store.check()` finds what only opening can tell.
    """
    if isinstance(value, Store):
        return value
    if not isinstance(value, str):
        raise ConfigurationError(  # its value may have a password in it
            f"store: invalid value of type {type(value).__name__}; expected a Store or a URL, for example "
            "sqlite:///token_limit.db"
        )
    scheme = scheme_of(value)
    if scheme == "memory":
        from .memory.store import MemoryStore

        return MemoryStore()
    if scheme in REDIS_SCHEMES:
        from .redis.store import RedisStore

        return RedisStore(value, timeout=timeout)
    from .sql.store import SqlStore  # imports SQLAlchemy, which a memory store does not need

    return SqlStore(value, timeout=timeout)
