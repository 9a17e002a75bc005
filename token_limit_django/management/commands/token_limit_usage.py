"""Show what tenants have spent against their limits."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli import commands
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_django.meter import get_meter


class Command(BaseCommand):
    """`token_limit_usage` or `token_limit_usage acme --json`."""

    help = "Shows the spend of the current windows against their limits, and the totals of the month (UTC)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", nargs="?", help="the tenant's id; all tenants without it")
        parser.add_argument("--json", action="store_true", help="write JSON; money is in US dollars as text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            usages = list(commands.usages(get_meter(), options["tenant"]))
        except (ConfigurationError, StoreError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(commands.usage_json(usages))
        elif usages:
            self.stdout.write(commands.show_usage(usages))
