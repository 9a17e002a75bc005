"""Show what a model is priced as, and why."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from token_limit_core.cli.prices import show_prices
from token_limit_django.meter import get_meter


class Command(BaseCommand):
    """`token_limit_prices gpt-4o --provider azure`."""

    help = "Shows what a model is priced as, and why: by your settings, by the price list, or by an assumption."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="the model's name")
        parser.add_argument("--provider", help="only at this provider, such as openai or azure")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(show_prices(get_meter(), options["model"], options["provider"]))
