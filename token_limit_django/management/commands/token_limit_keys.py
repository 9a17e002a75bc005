"""Manage the API keys of the services that report here."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli import service_commands as peer_commands
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_core.ingest.keys import DEFAULT_PERMISSIONS, PERMISSIONS
from token_limit_django.meter import get_meter


class Command(BaseCommand):
    """`token_limit_keys create north acme 'eu-*'`."""

    help = "Lists, makes and revokes the API keys of the services that report here. A token is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listed = actions.add_parser("list", help="list the keys, revoked ones included")
        listed.add_argument("--account", help="only the keys of one account")
        create = actions.add_parser("create", help="make a key and show its token, once")
        create.add_argument("account")
        create.add_argument("tenants", nargs="+", help="ids, beginnings such as 'eu-*', or '*'")
        create.add_argument("--name", default="", help="what the key is for")
        create.add_argument(
            "--permission",
            dest="permissions",
            action="append",
            choices=PERMISSIONS,
            help=f"may be repeated (default: {', '.join(DEFAULT_PERMISSIONS)})",
        )
        revoke = actions.add_parser("revoke", help="revoke a key; it is refused at once")
        revoke.add_argument("key", help="the key, as the list names it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(_answer(options))
        except (ConfigurationError, StoreError) as error:
            raise CommandError(str(error)) from error


def _answer(options: dict[str, Any]) -> str:
    meter = get_meter()
    if options["action"] == "list":
        return peer_commands.list_keys(meter, options["account"])
    if options["action"] == "revoke":
        return peer_commands.revoke_key(meter, options["key"])
    permissions = options["permissions"] or DEFAULT_PERMISSIONS
    return peer_commands.create_key(
        meter, options["account"], options["tenants"], name=options["name"], permissions=permissions
    )
