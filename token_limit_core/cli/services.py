"""The commands for other services: `keys` and `deliveries`, for `token-limit` and `flask token-limit`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import click

from ..ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS
from ..meter import Meter
from . import service_commands as commands


def peer_groups(
    get_meter: Callable[[], Meter], complaints: Callable[[], AbstractContextManager[None]]
) -> list[click.Command]:
    """Make the groups over the Meter that `get_meter` returns when a command runs."""

    @click.group()
    def keys() -> None:
        """Manage the API keys of the services that report here."""

    @keys.command("list")
    @click.option("--account", help="Only the keys of one account.")
    def list_keys(account: str | None) -> None:
        """List the keys, revoked ones included."""
        with complaints():
            click.echo(commands.list_keys(get_meter(), account))

    @keys.command()
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
    def create(account: str, tenants: tuple[str, ...], name: str, permissions: tuple[str, ...]) -> None:
        """Make a key for TENANTS: ids, beginnings such as 'eu-*', or '*'. Its token is shown once."""
        with complaints():
            click.echo(commands.create_key(get_meter(), account, tenants, name=name, permissions=permissions))

    @keys.command()
    @click.argument("key")
    def revoke(key: str) -> None:
        """Revoke a key, named as the list names it; it is refused at once."""
        with complaints():
            click.echo(commands.revoke_key(get_meter(), key))

    @click.group()
    def deliveries() -> None:
        """Look after the events on their way to a backend."""

    @deliveries.command()
    def status() -> None:
        """Count the events that wait, and those that the backend refused for good."""
        with complaints():
            click.echo(commands.show_deliveries(get_meter()))

    @deliveries.command()
    def retry() -> None:
        """Let the events that the backend refused be tried again."""
        with complaints():
            click.echo(commands.retry_deliveries(get_meter()))

    return [keys, deliveries]
