"""Where limits and ledger live: memory, SQLite, PostgreSQL, MySQL, or a remote backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .base import Store
from .urls import scheme_of

if TYPE_CHECKING:
    from ..config import MeterConfig

DEFAULT_STORE = "sqlite:///token_limit.db"


def store_of(config: MeterConfig) -> Store:
    """Return the store that a configuration means: the one it names, the remote backend, or a local file."""
    if not config.limits_are_remote:
        return open_store(DEFAULT_STORE if config.store is None else config.store)
    from ..spool import Spool
    from ..transport import Transport, endpoints
    from .remote import RemoteStore

    assert config.url is not None
    where = endpoints(config.url, config.thresholds_url, config.check_url)
    return RemoteStore(
        Transport(where, config.api_key),
        ttl=config.limit_check_cache_ttl,
        spool=None if config.spool is None else Spool(config.spool),
        on_flush_error=config.on_flush_error,
        flush_interval=config.flush_interval,
        max_batch_size=config.max_batch_size,
        max_queue_size=config.max_queue_size,
    )


def open_store(value: Store | str) -> Store:
    """Return the store a setting means: a `Store`, or a URL; nothing is opened before its first use.

    Raises `ConfigurationError` for an unknown scheme, a missing driver or a URL that cannot be read;
    `Store.check()` finds what only opening can tell.
    """
    if isinstance(value, Store):
        return value
    if not isinstance(value, str):
        raise ConfigurationError(f"store: {value!r} is neither a Store nor a URL such as sqlite:///token_limit.db")
    if scheme_of(value) == "memory":
        from .memory import MemoryStore

        return MemoryStore()
    from .sql import SqlStore  # imports SQLAlchemy, which a memory store does not need

    return SqlStore(value)
