"""The commands `report` and `refusals`."""

from __future__ import annotations

import click

from ..meter import Meter
from ..money import as_text
from ..stores.reports import BY as KINDS
from .output import file_options, iso, write_rows
from .session import with_meter


@click.command()
@click.option("--by", type=click.Choice(KINDS), default="day", show_default=True, help="What to sum by.")
@click.option("--tenant", help="Only this tenant; all without it.")
@click.option("--since", help="The first day, an ISO date in UTC (default: the first of the month).")
@click.option("--until", help="The day after the last one (default: now).")
@file_options
@with_meter
def report(
    meter: Meter, by: str, tenant: str | None, since: str | None, until: str | None, as_json: bool, as_csv: bool
) -> None:
    """Sum calls, tokens and money by day, model, provider, user, feature or session.

    `cost_usd` is what providers took, `charge_usd` what tenants are billed.
    """
    kind = next(name for name in KINDS if name == by)
    rows = [
        {
            by: row.key,
            "calls": row.calls,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "cost_usd": as_text(row.cost_usd),
            "charge_usd": as_text(row.charge_usd),
            "unpriced": row.unpriced,
        }
        for row in meter.report(kind, tenant_id=tenant, since=since, until=until)
    ]
    write_rows(rows, as_json, as_csv, none="Nothing was spent.")


@click.command()
@click.argument("tenant", required=False)
@click.option("--since", help="An ISO date or time in UTC (default: 24 hours ago).")
@file_options
@with_meter
def refusals(meter: Meter, tenant: str | None, since: str | None, as_json: bool, as_csv: bool) -> None:
    """List refused calls, of one tenant or all, counted by minute, kind and limit; the newest come first."""
    rows = [
        {
            "last_at": iso(row.last_at),
            "tenant": row.tenant_id,
            "calls": row.calls,
            "kind": row.kind,
            "limit": row.limited_by,
            "model": row.model,
            "endpoint": row.endpoint,
            "user": row.user,
            "feature": row.feature,
        }
        for row in meter.refusals(tenant, since)
    ]
    write_rows(rows, as_json, as_csv, none="No call was refused.")
