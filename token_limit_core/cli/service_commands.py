"""What the command lines do with other services: the keys of those that report here, the deliveries to a backend."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ..delivery.queue import EventQueue
from ..ingest.keys import DEFAULT_PERMISSIONS, ApiKey, make_key
from ..meter import Meter, engine_of
from ..runtime.faults import ConfigurationError
from ..wording import utc
from .commands import BY


class Deliveries(Protocol):
    """What keeps events until a backend has them: an outbox, or a remote store."""

    queue: EventQueue

    @property
    def parked(self) -> int:
        """How many events the backend refused for good."""

    def unpark(self) -> int:
        """Let them be tried again; return how many."""


def list_keys(meter: Meter, account: str | None = None) -> str:
    """List the keys of an account, or all, revoked ones included."""
    keys = meter.store.api_keys(account)
    return "\n".join(map(_line, keys)) if keys else "There are no keys."


def create_key(
    meter: Meter,
    account: str,
    tenants: Collection[str],
    *,
    name: str = "",
    permissions: Collection[str] = DEFAULT_PERMISSIONS,
) -> str:
    """Make a key and give its token, which is shown this once."""
    token, key = make_key(account, tenants, name=name, permissions=permissions, now=meter.config.clock())
    meter.store.add_api_key(key, BY)
    return f"{_line(key)}\nThe token, which is shown only now:\n{token}"


def revoke_key(meter: Meter, key: str) -> str:
    """Revoke a key, named as the list names it; it is refused at once."""
    public_id = key.removeprefix("tl_").partition("_")[0]
    if meter.store.revoke_api_key(public_id, meter.config.clock(), BY):
        return f"tl_{public_id} is revoked."
    if meter.store.api_key(public_id) is None:
        raise ConfigurationError(f"key: there is no tl_{public_id}; the list names them all")
    return f"tl_{public_id} was revoked already."


def show_deliveries(meter: Meter) -> str:
    """Say how many events wait for the backend, and how many it refused for good."""
    keeper = _keeper(meter)
    return f"waiting {keeper.queue.pending:,}, parked {keeper.parked:,}"


def retry_deliveries(meter: Meter) -> str:
    """Let the events that the backend refused be tried again, say after a wrong key was mended."""
    keeper = _keeper(meter)
    freed = keeper.unpark()
    keeper.queue.flush_now(RETRY_SECONDS)
    return f"{freed:,} events were let go again; {show_deliveries(meter)}."


RETRY_SECONDS = 30.0


def _keeper(meter: Meter) -> Deliveries:
    outbox = engine_of(meter).outbox
    if outbox is not None:
        return outbox
    from ..delivery.remote_store import RemoteStore

    if isinstance(meter.store, RemoteStore):
        return meter.store
    raise ConfigurationError("url: there is no backend that events are delivered to")


def _line(key: ApiKey) -> str:
    named = f" ({key.name})" if key.name else ""
    state = f"made {utc(key.created_at)}" if key.revoked_at is None else f"revoked {utc(key.revoked_at)}"
    return (
        f"tl_{key.public_id}  {key.account}{named}: {', '.join(key.permissions)} for {', '.join(key.tenants)}; {state}"
    )
