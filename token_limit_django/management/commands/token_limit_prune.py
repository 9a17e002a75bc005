"""Delete old rows of the ledger."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.errors import StoreError
from token_limit_core.stores.base import KEEP_SECONDS
from token_limit_django import service
from token_limit_django.meter import get_store

DAY = 86400
SHORTEST = KEEP_SECONDS // DAY


class Command(BaseCommand):
    """`token_limit_prune --older-than 365`."""

    help = "Deletes old events, closed holds and past windows, and settles expired holds. Daily totals are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=int, default=90, metavar="DAYS", help=f"at least {SHORTEST} (default: %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["older_than"]
        if days < SHORTEST:
            raise CommandError(
                f"--older-than: {days} is too short; give at least {SHORTEST} days, "
                "since open windows and late events still need the younger rows"
            )
        at = service.now()
        try:
            pruned = get_store().prune(at - days * DAY, at)
        except StoreError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Expired holds settled: {pruned.expired}. Deleted: events {pruned.events}, "
            f"closed holds {pruned.holds}, past windows {pruned.counters}."
        )
