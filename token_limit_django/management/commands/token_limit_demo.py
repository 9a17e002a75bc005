"""Fill an empty database with made-up tenants, to look at the pages."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli.seed import seed_and_tell
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_django.meter import get_meter


class Command(BaseCommand):
    """`token_limit_demo --tenants 300`."""

    help = "Fills an empty database with made-up tenants, plans, events and refusals, to look at the admin pages."

    def add_arguments(self, parser: CommandParser) -> None:
        for name, default in (("tenants", 300), ("days", 90), ("events", 100_000)):
            parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            sizes = (options[name] for name in ("tenants", "days", "events"))
            seed_and_tell(get_meter(), self.stdout.write, *sizes)
        except (ConfigurationError, StoreError) as error:
            raise CommandError(str(error)) from error
