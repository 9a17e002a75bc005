"""The commands of limits: `set` and `preview`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from ..limits import BASES, ENFORCE, MODES, UNITS, USD, Limit
from ..management.edits import knows_tenant, parse_limit
from ..meter import Meter
from ..money import as_text
from ..runtime.faults import ConfigurationError
from ..windows import FREQUENCIES, PER_MONTH, UTC_ZONE
from ..wording import clock_time, limit_line
from .output import ProgressLine, iso, json_option
from .session import BY, require_store, with_meter, with_new_meter

NEGATIVE = {"ignore_unknown_options": True}
"""A negative amount must arrive as an amount, to be refused or booked as one."""

Command = Callable[..., Any]


def options(*rows: tuple[str, dict[str, Any]]) -> Callable[[Command], Command]:
    """Add options to a command in the order given."""

    def add(function: Command) -> Command:
        for name, settings in reversed(rows):
            function = click.option(name, **settings)(function)
        return function

    return add


frequency_option: Callable[[Command], Command] = options(
    ("--frequency", {"type": click.Choice(FREQUENCIES), "help": f"The window of the limit (default: {PER_MONTH})."})
)
filter_options: Callable[[Command], Command] = options(
    ("--user", {"help": "Only the calls of this user; '*' is each user on its own."}),
    ("--model", {"help": "Only calls of this model, or of a pattern such as 'gpt-4*'."}),
    ("--provider", {"help": "Only calls to this provider."}),
    ("--feature", {"help": "Only calls of this feature."}),
)
limit_options: Callable[[Command], Command] = options(
    ("--unit", {"type": click.Choice(UNITS), "default": USD, "show_default": True, "help": "What is counted."}),
    ("--mode", {"type": click.Choice(MODES), "default": ENFORCE, "show_default": True,
                "help": "Refuse calls, only record, or refuse what may cost more than is left."}),
    ("--timezone", {"help": "IANA time zone of the calendar, such as Europe/Berlin (default: UTC)."}),
    ("--anchor", {"help": "Where a month, week or year starts: a day of the month, or an ISO date."}),
    ("--basis", {"type": click.Choice(BASES), "help": "Count what the tenant is charged (default), or the cost."}),
    ("--name", {"help": "What people call the limit."}),
)  # fmt: skip


@click.command("set", context_settings=NEGATIVE)
@click.argument("tenant")
@click.argument("amount", required=False)
@frequency_option
@limit_options
@filter_options
@click.option("--effective-date", help="When it begins: an ISO date, with or without a time, in UTC.")
@click.option("--remove", is_flag=True, help="Remove the limits, or those of the given --frequency and filter.")
@with_new_meter
def set_limit(
    meter: Meter, /, tenant: str, amount: str | None, frequency: str | None, remove: bool, **keywords: str | None
) -> None:
    """Set a tenant's spend limit, or remove it. It holds for the next call in every process.

    AMOUNT is in US dollars, or in the --unit. TENANT '*' is all tenants together, '' the calls without a tenant.
    """
    if remove == (amount is not None):
        raise ConfigurationError("amount: give an amount in US dollars, such as 25, or --remove; not both")
    if amount is None:
        require_store(meter.store)
        filters = {name: keywords[name] for name in ("user", "model", "provider", "feature")}
        removed = meter.remove_limit(tenant, frequency, by=BY, **filters)
        exactly = "" if removed else " Ids are compared exactly."
        click.echo(f"{tenant}: {removed} limit{'s' if removed != 1 else ''} removed.{exactly}")
        return
    now = meter.config.clock()
    limit = read_limit(now, tenant_id=tenant, amount=amount, frequency=frequency, **keywords)
    known = knows_tenant(meter.store, tenant, now)
    click.echo(f"{tenant}: {_line(meter.store.set_limit(limit, now, BY), now)}.")
    if not known:
        click.echo(f"Nothing was known of {tenant!r}: make sure that this is what your application calls it.")


def read_limit(now: float, **typed: str | None) -> Limit:
    """Make a limit of what was typed. Raises `ConfigurationError` with a line for each argument that is invalid."""
    limit, errors = parse_limit(typed, now)
    if errors or limit is None:
        raise ConfigurationError("\n".join(f"{name}: {message}" for name, message in errors.items()))
    return limit


def _line(limit: Limit, now: float) -> str:
    zone = "" if limit.timezone == UTC_ZONE else limit.timezone
    anchor = limit.anchor and f"anchor {limit.anchor}"
    details = ", ".join(filter(None, (limit.mode, zone, anchor, limit.name)))
    since = f" from {clock_time(limit.effective_from)}" if limit.effective_from > now else ""
    return f"{limit_line(limit.amount, limit.unit, limit.frequency, limit.filter)} ({details}){since}"


@click.command(context_settings=NEGATIVE)
@click.argument("tenant")
@click.argument("amount")
@frequency_option
@limit_options
@filter_options
@click.option("--since", help="The first day to look at: an ISO date (default: the start of the current window).")
@json_option
@with_meter
def preview(
    meter: Meter, /, tenant: str, amount: str, since: str | None, as_json: bool, **keywords: str | None
) -> None:
    """Show what a limit would have done to the calls since a date. Nothing is saved."""
    read_limit(meter.config.clock(), tenant_id=tenant, amount=amount, **keywords)
    given: dict[str, Any] = {name: value for name, value in keywords.items() if value is not None}
    line = ProgressLine()
    found = meter.preview(tenant, amount, since=since, on_progress=line, **given)
    line.end()
    if as_json:
        shown = {"calls": found.calls, "refused": found.refused, "saved_usd": as_text(found.saved_usd)}
        click.echo(json.dumps({**shown, "first_at": iso(found.first_at)}, indent=2))
        return
    click.echo(f"Calls: {found.calls:,}. This limit would have refused {found.refused:,} of them.")
    if found.first_at is not None:
        click.echo(f"They cost ${as_text(found.saved_usd)}. The first was on {clock_time(found.first_at)}.")
