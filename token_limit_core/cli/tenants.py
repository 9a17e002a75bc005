"""The group `tenants`: names of tenants, and tenants that change."""

from __future__ import annotations

import click

from ..meter import Meter
from ..money import as_text, to_usd
from ..runtime.faults import ConfigurationError
from ..stores.queries import SORTS, TenantQuery
from .limits import NEGATIVE
from .output import file_options, iso, write_rows
from .session import BY, with_meter

MOST = 10_000


@click.group()
def tenants() -> None:
    """List, name, mark up, rename, merge and erase tenants."""


@tenants.command("list")
@click.option("--search", default="", help="Only tenants with this text in their id or name.")
@click.option("--sort", type=click.Choice(SORTS), default="id", show_default=True, help="The order.")
@click.option("--limit", "most", type=click.IntRange(1, MOST), default=100, show_default=True, help="How many at most.")
@file_options
@with_meter
def list_tenants(meter: Meter, search: str, sort: str, most: int, as_json: bool, as_csv: bool) -> None:
    """List tenants with their spend of this month (UTC)."""
    query = TenantQuery(search, next(name for name in SORTS if name == sort), 0, most)
    page = meter.store.tenants(query, meter.config.clock())
    rows = [
        {
            "tenant": row.tenant_id,
            "name": row.name,
            "plan": row.plan,
            "calls": row.month.calls,
            "cost_usd": as_text(to_usd(row.month.cost_nano)),
            "charge_usd": as_text(to_usd(row.month.charge_nano)),
            "suspended": iso(row.suspended_at),
        }
        for row in page.rows
    ]
    write_rows(rows, as_json, as_csv, none="There are no tenants.")
    if page.total > len(rows) and not (as_json or as_csv):
        click.echo(f"... and {page.total - len(rows):,} more; see --limit and --search.")


@tenants.command("name")
@click.argument("tenant")
@click.argument("name")
@with_meter
def name_tenant(meter: Meter, tenant: str, name: str) -> None:
    """Set the name of a tenant that people read."""
    done = meter.name_tenant(tenant, name, by=BY)
    click.echo(f"{tenant} is {'now' if done else 'already'} named {name!r}.")


@tenants.command("markup", context_settings=NEGATIVE)
@click.argument("tenant")
@click.argument("percent", required=False)
@click.option("--none", "no_markup", is_flag=True, help="Let the markup of the tenant's plan hold again.")
@with_meter
def set_markup(meter: Meter, tenant: str, percent: str | None, no_markup: bool) -> None:
    """Set the percent that a tenant is billed above what providers take. It holds for its next call."""
    if no_markup == (percent is not None):
        raise ConfigurationError("percent: give a percentage such as 20, or --none; not both")
    done = meter.set_markup(tenant, percent, by=BY)
    how = "by its plan" if percent is None else f"{percent} % above the cost"
    click.echo(f"{tenant} is {'now' if done else 'already'} billed {how}.")


@tenants.command("rename")
@click.argument("tenant")
@click.argument("new_id")
@with_meter
def rename_tenant(meter: Meter, tenant: str, new_id: str) -> None:
    """Give a tenant another id, with its ledger, limits, plan and history. No call of it may be in flight."""
    meter.rename_tenant(tenant, new_id, by=BY)
    click.echo(f"{tenant} is now {new_id}.")


@tenants.command("merge")
@click.argument("source")
@click.argument("target")
@click.confirmation_option(prompt="The source is gone then. Merge?")
@with_meter
def merge_tenants(meter: Meter, source: str, target: str) -> None:
    """Move what SOURCE has spent to TARGET, whose limits and plan hold for both. SOURCE is gone then."""
    meter.merge_tenants(source, target, by=BY)
    click.echo(f"{source} is merged into {target}.")


@tenants.command("erase")
@click.argument("tenant")
@click.option("--anonymise", is_flag=True, help="Keep amounts, models and times for the totals, under a made-up id.")
@click.confirmation_option(prompt="This cannot be undone. Erase?")
@with_meter
def erase_tenant(meter: Meter, tenant: str, anonymise: bool) -> None:
    """Delete every row of a tenant."""
    events = meter.erase_tenant(tenant, anonymise=anonymise, by=BY)
    click.echo(f"{tenant} is erased; it had {events:,} event{'s' if events != 1 else ''}.")
