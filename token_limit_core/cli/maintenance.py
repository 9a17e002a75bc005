"""The commands `prune` and `status`."""

from __future__ import annotations

import click

from ..meter import Meter
from ..stores.records import KEEP_SECONDS
from ..windows import DAY
from .session import with_meter

SHORTEST_AGE = KEEP_SECONDS // DAY
"""Days that pruning always keeps."""

POLICIES = ("on_unpriced", "on_no_tenant", "on_unguarded")
"""The settings that say what to do with what is not known."""


@click.command()
@click.option(
    "--older-than", type=click.IntRange(SHORTEST_AGE), default=90, show_default=True, metavar="DAYS",
    help=f"At least {SHORTEST_AGE}: open windows and late events need the younger rows.",
)  # fmt: skip
@with_meter
def prune(meter: Meter, older_than: int) -> None:
    """Delete old events, closed holds and past windows, and settle expired holds. Daily totals are kept."""
    at = meter.config.clock()
    pruned = meter.store.prune(at - older_than * DAY, at)
    click.echo(
        f"Expired holds settled: {pruned.expired}. Deleted: events {pruned.events}, "
        f"closed holds {pruned.holds}, past windows {pruned.counters}."
    )


@click.command()
@with_meter
def status(meter: Meter) -> None:
    """Show whether the store answers, the calls in flight, and how each SDK stands in this process."""
    meter.store.check()
    holds = len(meter.store.holds())
    status = meter.status()
    kept = "durable" if status["durable"] else "in this process only"
    lines = [f"store      {meter.store} ({kept}), answers", f"in flight  {holds} hold{'s' if holds != 1 else ''}"]
    for name, patch in sorted(status["patches"].items()):
        lines.append(f"{name:<10} {patch['state']:<18} {patch['sdk'] or ''} {patch['version'] or ''}".rstrip())
    config = meter.config
    policies = {name: getattr(config, name) for name in POLICIES}
    lines.append(f"policies   {', '.join(f'{name} {value}' for name, value in policies.items())}")
    if status["counts"]:
        lines.append(f"counted    {', '.join(f'{name} {times:,}' for name, times in sorted(status['counts'].items()))}")
    click.echo("\n".join(lines))
