"""The commands `holds` and `reconcile`."""

from __future__ import annotations

import click

from ..meter import Meter
from ..runtime.faults import ConfigurationError
from ..stores.records import Drift, Hold
from ..wording import counted, dollars, limit_line, shown_id, span
from .session import BY, with_meter


@click.command()
@click.argument("tenant", required=False)
@click.option("--release", metavar="CALL_ID", help="Give the hold of a dead call back, without a charge.")
@with_meter
def holds(meter: Meter, tenant: str | None, release: str | None) -> None:
    """List the calls in flight of one tenant or all, with host and process id, or release one."""
    if release is not None:
        if not meter.release(release, by=BY):
            raise ConfigurationError(f"--release: there is no open hold {release!r}; the list names them all")
        click.echo(f"{release} is released. If the call still ends, it is charged what it cost.")
        return
    now = meter.config.clock()
    lines = [_hold_line(hold, now) for hold in meter.holds(tenant)]
    click.echo("\n".join(lines) or "There are no holds.")


@click.command()
@click.argument("tenant", required=False)
@click.option("--fix", is_flag=True, help="Correct the counters. Calls may go on meanwhile.")
@with_meter
def reconcile(meter: Meter, tenant: str | None, fix: bool) -> None:
    """Compare the counters of current windows with ledger and holds, of one tenant or all."""
    drifts = meter.reconcile(tenant, fix=fix)
    for drift in drifts:
        click.echo(_drift_line(drift))
    count = f"{len(drifts):,} counter{'s' if len(drifts) != 1 else ''}"
    if not drifts:
        click.echo("Counters, ledger and holds agree.")
    else:
        click.echo(f"{count} corrected." if fix else f"{count} to correct; use --fix.")


def _hold_line(hold: Hold, now: float) -> str:
    left = hold.expires_at - now
    expiry = f"expires in {span(left)}" if left > 0 else f"{span(-left)} overdue"
    parts = [f"{span(max(0, now - hold.created_at))} old", expiry, hold.process or "process unknown"]
    kind = "" if hold.origin == "call" else f" ({hold.origin})"
    return f"{hold.call_id}{kind}  {_payer(hold.tenant_id)}: {dollars(hold.amount)}, {', '.join(parts)}"


def _drift_line(drift: Drift) -> str:
    limit, unit = drift.limit, drift.limit.unit
    user = f", user {drift.subject}" if drift.subject else ""
    says = f"{counted(drift.settled, unit)} spent and {counted(drift.held, unit)} held"
    right = f"ledger and holds say {counted(drift.spent, unit)} and {counted(drift.in_flight, unit)}"
    line = limit_line(limit.amount, unit, limit.frequency, limit.filter)
    return f"{_payer(drift.tenant_id)}, {line}{user}: the counter says {says}; {right}"


def _payer(tenant_id: str) -> str:
    return shown_id(tenant_id) if tenant_id else "(no tenant)"
