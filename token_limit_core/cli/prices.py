"""The commands `prices`, what a model is priced as and why, and `reprice`, which corrects past prices."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ..meter import Meter, engine_of
from ..money import as_text
from ..pricing.explain import Explanation, amounts, explain, providers_of
from .output import file_options, write_rows
from .session import BY, with_meter, with_new_meter


@click.command()
@click.argument("model")
@click.option("--provider", help="Only at this provider, such as openai or azure.")
@with_new_meter
def prices(meter: Meter, model: str, provider: str | None) -> None:
    """Show what a model is priced as, and why: by your settings, by the price list, or by an assumption."""
    click.echo(show_prices(meter, model, provider))


@click.command()
@click.option("--since", required=True, help="An ISO date or time in UTC: calls from then on.")
@click.option("--book/--dry-run", default=False, show_default="--dry-run", help="Book the differences, or show them.")
@file_options
@with_meter
def reprice(meter: Meter, since: str, book: bool, as_json: bool, as_csv: bool) -> None:
    """Show what calls cost by today's prices where that differs, and book the differences with --book."""
    rows = [
        {
            "provider": row.provider,
            "model": row.model,
            "calls": row.calls,
            "cost_usd": as_text(row.before_usd),
            "new_cost_usd": as_text(row.after_usd),
            "charge_usd": as_text(row.charge_before_usd),
            "new_charge_usd": as_text(row.charge_after_usd),
        }
        for row in meter.reprice(since, book=book, by=BY)
    ]
    write_rows(rows, as_json, as_csv, none="Nothing differs.")


def show_prices(meter: Meter, model: str, provider: str | None) -> str:
    """Say what a model is priced as at a provider, or at each that is known to have it."""
    book, at = engine_of(meter).prices, meter.config.clock()
    names = [provider] if provider is not None else providers_of(book, model)
    return "\n\n".join("\n".join(_show(explain(book, name, model, at))) for name in names)


def _show(found: Explanation) -> Iterator[str]:
    yield f"{found.model} at {found.provider}"
    yield f"  {found.reason}"
    if found.price is None:
        return
    if found.price.free:
        yield "  free"
    for label, usd in amounts(found.price):
        yield f"  {label:<32} ${as_text(usd)}"
    yield f"  source: {found.price.source}, version: {found.price.version}"
