"""Delete old rows of the ledger."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli import commands
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_django.meter import get_meter


class Command(BaseCommand):
    """`token_limit_prune --older-than 365`."""

    help = "Deletes old events, closed holds and past windows, and settles expired holds. Daily totals are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=int,
            default=commands.DEFAULT_AGE,
            metavar="DAYS",
            help=f"at least {commands.SHORTEST_AGE} (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(commands.prune(get_meter(), options["older_than"]))
        except (ConfigurationError, StoreError) as error:
            raise CommandError(str(error)) from error
