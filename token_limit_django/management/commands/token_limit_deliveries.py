"""Look after the events on their way to a backend."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli import service_commands as peer_commands
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_django.meter import get_meter

ACTIONS = {"status": peer_commands.show_deliveries, "retry": peer_commands.retry_deliveries}


class Command(BaseCommand):
    """`token_limit_deliveries retry`."""

    help = "Counts the events that wait for the backend or were refused by it, or lets the refused be tried again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=ACTIONS)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(ACTIONS[options["action"]](get_meter()))
        except (ConfigurationError, StoreError) as error:
            raise CommandError(str(error)) from error
