"""The command line: `token-limit`, and the same commands under `flask token-limit`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ..config import MeterConfig
from ..delivery.configured import DEFAULT_STORE
from ..limits import ENFORCE, MODES
from ..meter import Meter
from ..runtime.faults import StoreError
from ..windows import FREQUENCIES, PER_MONTH
from . import commands, prices
from .services import peer_groups


def commands_for(get_meter: Callable[[], Meter]) -> list[click.Command]:
    """Make the commands over the Meter that `get_meter` returns when one runs."""

    @click.command()
    @click.argument("tenant", required=False)
    @click.option("--json", "as_json", is_flag=True, help="Write JSON; money is in US dollars as text.")
    def usage(tenant: str | None, as_json: bool) -> None:
        """Show the spend of the current windows against their limits, and the totals of the month (UTC).

        Of one tenant, or of all that have a limit or an event.
        """
        with _complaints():
            usages = list(commands.usages(get_meter(), tenant))
        if as_json:
            click.echo(commands.usage_json(usages))
        elif usages:
            click.echo(commands.show_usage(usages))

    # a negative amount must arrive as an amount, to be refused as one
    @click.command("set", context_settings={"ignore_unknown_options": True})
    @click.argument("tenant")
    @click.argument("amount", required=False)
    @click.option("--frequency", type=click.Choice(FREQUENCIES), help=f"Calendar window in UTC (default: {PER_MONTH}).")
    @click.option(
        "--mode", type=click.Choice(MODES), default=ENFORCE, show_default=True, help="Refuse calls, or only record."
    )
    @click.option("--effective-date", help="When it begins: an ISO date, with or without a time, in UTC.")
    @click.option("--remove", is_flag=True, help="Remove the limits, or those of the given --frequency.")
    def set_limit(
        tenant: str, amount: str | None, frequency: str | None, mode: str, effective_date: str | None, remove: bool
    ) -> None:
        """Set a tenant's spend limit in US dollars, or remove it. It holds for the next call in every process."""
        with _complaints():
            done = commands.set_limit(
                get_meter(),
                tenant,
                amount,
                frequency=frequency,
                mode=mode,
                effective_date=effective_date,
                remove=remove,
            )
        click.echo(done)

    @click.command()
    @click.option(
        "--older-than",
        type=int,
        default=commands.DEFAULT_AGE,
        show_default=True,
        metavar="DAYS",
        help=f"At least {commands.SHORTEST_AGE}.",
    )
    def prune(older_than: int) -> None:
        """Delete old events, closed holds and past windows, and settle expired holds. Daily totals are kept."""
        with _complaints():
            click.echo(commands.prune(get_meter(), older_than))

    @click.command()
    def status() -> None:
        """Show whether the store answers, the calls in flight, and how each SDK stands in this process."""
        with _complaints():
            click.echo(commands.show_status(get_meter()))

    @click.command("prices")
    @click.argument("model")
    @click.option("--provider", help="Only at this provider, such as openai or azure.")
    def show_prices(model: str, provider: str | None) -> None:
        """Show what a model is priced as, and why: by your settings, by the price list, or by an assumption."""
        with _complaints():
            click.echo(prices.show_prices(get_meter(), model, provider))

    return [usage, set_limit, prune, status, show_prices, *peer_groups(get_meter, _complaints)]


@contextmanager
def _complaints() -> Iterator[None]:
    """Turn what a command cannot do into an error of the command line: 2 for its arguments, 1 for the store."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except StoreError as error:
        raise click.ClickException(str(error)) from error


@click.group()
@click.option(
    "--store",
    envvar="TOKEN_LIMIT_STORE",
    show_envvar=True,
    default=DEFAULT_STORE,
    show_default=True,
    metavar="URL",
    help="Where limits and ledger live.",
)
@click.option("--url", envvar="TOKEN_LIMIT_URL", show_envvar=True, help="The backend that events are delivered to.")
@click.option("--spool", envvar="TOKEN_LIMIT_SPOOL", show_envvar=True, help="The spool, in place of a store.")
@click.version_option(package_name="token-limit-suite")
@click.pass_context
def main(context: click.Context, store: str, url: str | None, spool: str | None) -> None:
    """Spend limits for LLM calls: who may spend how much, and what is spent.

    The key for a backend is read from TOKEN_LIMIT_API_KEY.
    """
    context.obj = {"store": store if spool is None else None, "url": url, "spool": spool}


def _meter() -> Meter:
    """Make a Meter over the store that the command line names, and close it when the command has ended."""
    context = click.get_current_context()
    with _complaints():
        config = MeterConfig(api_key=os.environ.get("TOKEN_LIMIT_API_KEY") or None, **context.obj)
        return context.find_root().with_resource(Meter(config))


for _command in commands_for(_meter):
    main.add_command(_command)


@main.command()
def demo() -> None:
    """Watch a limit at work, in this terminal: a provider on loopback answers, and nothing costs anything."""
    from .demo import play

    try:
        play(click.echo)
    except ImportError as error:
        raise click.ClickException(f"the demo calls the OpenAI SDK: pip install openai ({error})") from error
