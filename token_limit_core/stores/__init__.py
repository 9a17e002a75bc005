"""Where limits and ledger live: memory, SQLite, PostgreSQL, MySQL, or a remote backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .contract import Store
from .urls import scheme_of

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..delivery.outbox import Outbox
    from ..delivery.transport import Transport

DEFAULT_STORE = "sqlite:///token_limit.db"


def store_of(config: MeterConfig) -> Store:
    """Return the store that a configuration means: the one it names, the remote backend, or a local file."""
    if not config.limits_are_remote:
        return open_store(DEFAULT_STORE if config.store is None else config.store)
    from ..delivery.remote_store import RemoteStore
    from ..delivery.spool import Spool

    spool = None if config.spool is None else Spool(config.spool)
    return RemoteStore(_transport_of(config), ttl=config.limit_check_cache_ttl, spool=spool, **_queue_of(config))


def outbox_of(config: MeterConfig, store: Store) -> Outbox | None:
    """Return what takes copies of a local store's events to the configured backend; None without one."""
    if config.url is None or config.limits_are_remote:
        return None
    from ..delivery.outbox import Outbox

    return Outbox(store, _transport_of(config), config.url, **_queue_of(config))


def _transport_of(config: MeterConfig) -> Transport:
    from ..delivery.transport import Transport, endpoints

    assert config.url is not None
    return Transport(endpoints(config.url, config.thresholds_url, config.check_url), config.api_key)


def _queue_of(config: MeterConfig) -> dict[str, Any]:
    names = ("flush_interval", "max_batch_size", "max_queue_size", "on_flush_error")
    return {name: getattr(config, name) for name in names}


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
        from .memory.store import MemoryStore

        return MemoryStore()
    from .sql.store import SqlStore  # imports SQLAlchemy, which a memory store does not need

    return SqlStore(value)
