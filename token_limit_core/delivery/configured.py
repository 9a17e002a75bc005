"""Open the store, the journal and the outbox of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..stores import open_store
from ..stores.contract import Store

if TYPE_CHECKING:
    from ..config import MeterConfig
    from .journal import Journal
    from .outbox import Outbox
    from .transport import Transport
    from .webhooks import Webhook

DEFAULT_STORE = "sqlite:///token_limit.db"


def store_of(config: MeterConfig) -> Store:
    """Return the store of a configuration: the one it names, else the remote backend, else a local file."""
    if not config.limits_are_remote:
        return open_store(DEFAULT_STORE if config.store is None else config.store, timeout=config.store_timeout)
    from .remote_store import RemoteStore
    from .spool import Spool

    spool = None if config.spool is None else Spool(config.spool)
    return RemoteStore(_transport_of(config), ttl=config.limit_check_cache_ttl, spool=spool, **_queue_of(config))


def journal_of(config: MeterConfig, store: Store) -> Journal | None:
    """Return the journal for settles that the store cannot take; None for a store that ends with the process.

    Ask again at each use: a test runner moves the databases of a project.
    """
    from . import journal

    if config.limits_are_remote or not store.durable:
        return None
    if config.journal is not None:
        return journal.journal_at(config.journal)
    return None if store.location is None else journal.journal_beside(store.location)


def outbox_of(config: MeterConfig, store: Store) -> Outbox | None:
    """Return the outbox that copies the events of a local store to the backend; None without a backend."""
    if config.url is None or config.limits_are_remote:
        return None
    from .outbox import Outbox

    return Outbox(store, _transport_of(config), config.url, **_queue_of(config))


def webhook_of(config: MeterConfig, store: Store) -> Webhook | None:
    """Return what delivers the notices of a local store; None without a URL, or where a backend keeps the limits."""
    if config.webhook_url is None or config.webhook_secret is None or config.limits_are_remote:
        return None
    from .webhooks import Webhook

    return Webhook(store, config.webhook_url, config.webhook_secret, config.clock)


def _transport_of(config: MeterConfig) -> Transport:
    from .addresses import endpoints
    from .transport import Transport

    assert config.url is not None
    return Transport(endpoints(config.url, config.thresholds_url, config.check_url), config.api_key)


def _queue_of(config: MeterConfig) -> dict[str, Any]:
    names = ("flush_interval", "max_batch_size", "max_queue_size", "on_flush_error")
    return {name: getattr(config, name) for name in names}
