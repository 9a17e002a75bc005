"""Set or remove a tenant's limit."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli import commands
from token_limit_core.errors import StoreError
from token_limit_core.limits import ENFORCE, MODES
from token_limit_core.windows import FREQUENCIES, PER_MONTH
from token_limit_django.meter import get_meter


class Command(BaseCommand):
    """`token_limit_set acme 25`."""

    help = "Sets a tenant's spend limit in US dollars, or removes it. It holds for the next call in every process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="the tenant's id, as the application names it")
        parser.add_argument("amount", nargs="?", help="US dollars per window, such as 25 or 9.99")
        parser.add_argument("--frequency", choices=FREQUENCIES, help=f"calendar window in UTC (default: {PER_MONTH})")
        parser.add_argument(
            "--mode", choices=MODES, default=ENFORCE, help="refuse calls, or only record (default: %(default)s)"
        )
        parser.add_argument("--effective-date", help="when it begins: an ISO date, with or without a time, in UTC")
        parser.add_argument(
            "--remove", action="store_true", help="remove the limits, or those of the given --frequency"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("tenant", "amount", "frequency", "mode", "effective_date", "remove")
        try:
            self.stdout.write(commands.set_limit(get_meter(), **{name: options[name] for name in names}))
        except (ValueError, StoreError) as error:
            raise CommandError(str(error)) from error
