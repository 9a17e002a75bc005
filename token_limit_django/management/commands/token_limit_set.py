"""Set or remove a tenant's limit."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.errors import StoreError
from token_limit_core.limits import ENFORCE, FREQUENCIES, MODES, PER_MONTH, parse_amount, to_usd
from token_limit_core.scope import check_tenant
from token_limit_django.forms import FREQUENCY_LABELS, exact_usd, utc
from token_limit_django.meter import get_meter

BY = "token_limit_set"
"""What the history of changes says of the command line."""


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
        amount, frequency, remove = options["amount"], options["frequency"], options["remove"]
        if remove == (amount is not None):
            raise CommandError("amount: give an amount in US dollars, such as 25, or --remove; not both")
        try:
            tenant = check_tenant(options["tenant"])
            if remove:
                removed = get_meter().remove_limit(tenant, frequency, by=BY)
                self.stdout.write(f"{tenant}: {removed} limit{'s' if removed != 1 else ''} removed.")
                return
            usd = to_usd(parse_amount(amount, "amount"))
            limit = get_meter().set_limit(
                tenant, usd, frequency or PER_MONTH, options["effective_date"], mode=options["mode"], by=BY
            )
        except (ValueError, StoreError) as error:
            raise CommandError(str(error)) from error
        since = f" from {utc(limit.effective_from)}" if options["effective_date"] else ""
        self.stdout.write(
            f"{tenant}: {exact_usd(limit.amount)} {FREQUENCY_LABELS[limit.frequency]} ({limit.mode}){since}."
        )
