"""The groups `keys` and `deliveries`: the services that report here, and the events on their way to a backend."""

from __future__ import annotations

from typing import Protocol

import click

from ..delivery.queue import EventQueue
from ..ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS, ApiKey, make_key
from ..meter import Meter, engine_of
from ..runtime.faults import ConfigurationError
from ..wording import clock_time
from .session import BY, with_meter, with_new_meter

RETRY_SECONDS = 30.0


@click.group()
def keys() -> None:
    """Manage the API keys of the services that report here."""


@keys.command("list")
@click.option("--account", help="Only the keys of one account.")
@with_meter
def list_keys(meter: Meter, account: str | None) -> None:
    """List the keys, revoked ones included."""
    found = meter.store.api_keys(account)
    click.echo("\n".join(map(_line, found)) if found else "There are no keys.")


@keys.command("create")
@click.argument("account")
@click.argument("tenants", nargs=-1, required=True)
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--permission",
    "permissions",
    type=click.Choice(PERMISSIONS),
    multiple=True,
    default=DEFAULT_PERMISSIONS,
    show_default=True,
    help="What the key may do; may be repeated.",
)
@with_new_meter
def create_key(meter: Meter, account: str, tenants: tuple[str, ...], name: str, permissions: tuple[str, ...]) -> None:
    """Make a key for TENANTS: ids, beginnings such as 'eu-*', or '*'. Its token is shown once."""
    token, key = make_key(account, tenants, name=name, permissions=permissions, now=meter.config.clock())
    meter.store.add_api_key(key, BY)
    click.echo(f"{_line(key)}\nThe token, which is shown only now:\n{token}")


@keys.command("revoke")
@click.argument("key")
@with_meter
def revoke_key(meter: Meter, key: str) -> None:
    """Revoke a key, named as the list names it; it is refused at once."""
    public_id = key.removeprefix("tl_").partition("_")[0]
    if meter.store.revoke_api_key(public_id, meter.config.clock(), BY):
        click.echo(f"tl_{public_id} is revoked.")
    elif meter.store.api_key(public_id) is None:
        raise ConfigurationError(f"key: there is no tl_{public_id}; the list names them all")
    else:
        click.echo(f"tl_{public_id} was revoked already.")


def _line(key: ApiKey) -> str:
    named = f" ({key.name})" if key.name else ""
    state = f"made {clock_time(key.created_at)}" if key.revoked_at is None else f"revoked {clock_time(key.revoked_at)}"
    return (
        f"tl_{key.public_id}  {key.account}{named}: {', '.join(key.permissions)} for {', '.join(key.tenants)}; {state}"
    )


class Deliveries(Protocol):
    """What keeps events until a backend has them: an outbox, or a remote store."""

    queue: EventQueue

    @property
    def parked(self) -> int:
        """How many events the backend refused for good."""

    def unpark(self) -> int:
        """Let them be tried again; return how many."""


@click.group()
def deliveries() -> None:
    """Look after the events on their way to a backend."""


@deliveries.command("status")
@with_meter
def show_deliveries(meter: Meter) -> None:
    """Count the events that wait, and those that the backend refused for good."""
    click.echo(_counts(_keeper(meter)))


@deliveries.command("retry")
@with_meter
def retry_deliveries(meter: Meter) -> None:
    """Let the events that the backend refused be tried again, say after a wrong key was mended."""
    keeper = _keeper(meter)
    freed = keeper.unpark()
    keeper.queue.flush_now(RETRY_SECONDS)
    click.echo(f"{freed:,} events were let go again; {_counts(keeper)}.")


def _counts(keeper: Deliveries) -> str:
    return f"waiting {keeper.queue.pending:,}, parked {keeper.parked:,}"


def _keeper(meter: Meter) -> Deliveries:
    outbox = engine_of(meter).outbox
    if outbox is not None:
        return outbox
    from ..delivery.remote_store import RemoteStore

    if isinstance(meter.store, RemoteStore):
        return meter.store
    raise ConfigurationError("url: there is no backend that events are delivered to")
