"""The command `prices`: what a model is priced as, and why."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ..meter import Meter, engine_of
from ..money import as_text
from ..pricing.explain import Explanation, amounts, explain, providers_of
from .session import with_new_meter


@click.command()
@click.argument("model")
@click.option("--provider", help="Only at this provider, such as openai or azure.")
@with_new_meter
def prices(meter: Meter, model: str, provider: str | None) -> None:
    """Show what a model is priced as, and why: by your settings, by the price list, or by an assumption."""
    click.echo(show_prices(meter, model, provider))


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
