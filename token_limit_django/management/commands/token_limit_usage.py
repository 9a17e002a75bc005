"""Show what tenants have spent against their limits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from token_limit_core.errors import StoreError
from token_limit_core.limits import show_usd, to_usd
from token_limit_django import service
from token_limit_django.conf import settings
from token_limit_django.forms import FREQUENCY_LABELS, utc
from token_limit_django.meter import get_store
from token_limit_django.service import TenantUsage


class Command(BaseCommand):
    """`token_limit_usage` or `token_limit_usage acme --json`."""

    help = "Shows the spend of the current windows against their limits, and the totals of the month (UTC)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", nargs="?", help="the tenant's id; all tenants without it")
        parser.add_argument("--json", action="store_true", help="write JSON; money is in US dollars as text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            usages = list(_usages(options["tenant"]))
        except (StoreError, Error) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(usage) for usage in usages], indent=2))
            return
        for usage in usages:
            self.stdout.write("\n".join(_lines(usage)))


def _usages(tenant: str | None) -> Iterable[TenantUsage]:
    if tenant is not None:
        usage = service.usage_of(tenant)
        if not any(usage.month) and not get_store().limits(tenant):
            raise CommandError(f"tenant: {tenant!r} has no limit and no event this month; ids are compared exactly")
        return [usage]
    if settings.STORE is not None:
        raise CommandError("tenant: name one; only the store in the project's database can list all of them")
    return service.usage_of_all()


def _lines(usage: TenantUsage) -> Iterable[str]:
    month = usage.month
    unpriced = f", {month.unpriced:,} of them unpriced" if month.unpriced else ""
    yield f"{usage.tenant_id or '(no tenant)'}"
    yield f"  this month  {show_usd(to_usd(month.cost_nano))} in {month.calls:,} calls{unpriced}"
    for status in usage.limits:
        limit = status.limit
        held = f" and holds {show_usd(status.held_usd)}" if status.held else ""
        yield (
            f"  {FREQUENCY_LABELS[limit.frequency]:<10}  {show_usd(status.spent_usd)} of {show_usd(limit.limit_usd)}"
            f"{held} ({limit.mode}), resets {utc(status.window.end)}"
        )


def _as_dict(usage: TenantUsage) -> dict[str, Any]:
    month = usage.month
    return {
        "tenant": usage.tenant_id,
        "month": {
            "calls": month.calls,
            "input_tokens": month.input_tokens,
            "output_tokens": month.output_tokens,
            "spent_usd": f"{to_usd(month.cost_nano):f}",
            "unpriced": month.unpriced,
        },
        "limits": [
            {
                "frequency": status.limit.frequency,
                "mode": status.limit.mode,
                "limit_usd": f"{status.limit.limit_usd:f}",
                "spent_usd": f"{status.spent_usd:f}",
                "held_usd": f"{status.held_usd:f}",
                "remaining_usd": f"{status.remaining_usd:f}",
                "resets_at": datetime.fromtimestamp(status.window.end, UTC).isoformat(),
            }
            for status in usage.limits
        ],
    }
