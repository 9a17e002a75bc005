"""The command line: `token-limit`, and the same commands for `flask token-limit` and `manage.py token_limit`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import click

from ..config import MeterConfig
from ..delivery.configured import DEFAULT_STORE
from ..meter import Meter
from . import doctor, fake_provider, holds, limits, maintenance, plans, prices, reports, seed, services, tenants, usage
from .session import Source

COMMANDS: list[click.Command] = [
    usage.usage, limits.set_limit, limits.preview, plans.plans, plans.top_up, plans.adjust, plans.suspend,
    plans.resume, tenants.tenants, reports.report, reports.refusals, prices.prices, prices.reprice, maintenance.prune,
    maintenance.status, doctor.doctor, holds.holds, holds.reconcile, services.keys, services.deliveries,
    seed.seed,
]  # fmt: skip
"""The commands that work on a Meter."""


def group_for(
    name: str, get_meter: Callable[[], Meter], payer_of: Callable[[str], str | None] | None = None
) -> click.Group:
    """Make a group of the commands for an application; `Source` says what the two functions return."""
    return click.Group(name, COMMANDS, help="Spend limits.", context_settings={"obj": Source(get_meter, payer_of)})


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
    context.obj = Source(partial(_meter, context, store if spool is None else None, url, spool))


def _meter(context: click.Context, store: str | None, url: str | None, spool: str | None) -> Meter:
    """Make a Meter over the store that the command line names, and close it when the command has ended."""
    config = MeterConfig(api_key=os.environ.get("TOKEN_LIMIT_API_KEY") or None, store=store, url=url, spool=spool)
    return context.with_resource(Meter(config))


for _command in COMMANDS:
    main.add_command(_command)


main.add_command(fake_provider.fake_provider)


@main.command()
@click.option("--seed", "fills", is_flag=True, help="Fill an empty store with made-up tenants, to look at the pages.")
@click.option("--tenants", default=300, show_default=True, help="With --seed: how many tenants.")
@click.option("--days", default=90, show_default=True, help="With --seed: over how many days.")
@click.option("--events", default=100_000, show_default=True, help="With --seed: how many events.")
@click.pass_context
def demo(context: click.Context, fills: bool, tenants: int, days: int, events: int) -> None:
    """Watch a limit at work, in this terminal: a provider on loopback answers, and nothing costs anything."""
    from .demo import play

    if fills:
        context.invoke(seed.seed, tenants=tenants, days=days, events=events)
        return
    try:
        play(click.echo)
    except ImportError as error:
        raise click.ClickException(f"the demo calls the OpenAI SDK: pip install openai ({error})") from error
