"""The commands of plans and money: `plans`, `top-up`, `adjust`, `suspend` and `resume`."""

from __future__ import annotations

import click

from ..management.parsing import parse_signed_usd
from ..meter import Meter
from ..money import parse_typed_amount, to_usd
from ..runtime.faults import ConfigurationError
from ..stores.plans import Plan
from ..windows import PER_MONTH
from ..wording import clock_time, counted, dollars, exact, exact_usd, limit_in_words, limit_line
from .limits import NEGATIVE, filter_options, frequency_option
from .output import file_options, write_rows
from .session import BY, with_meter, with_new_meter


@click.group()
def plans() -> None:
    """Manage plans: named sets of limits that tenants are put on."""


@plans.command("list")
@file_options
@with_meter
def list_plans(meter: Meter, as_json: bool, as_csv: bool) -> None:
    """List the plans, their limits, and how many tenants are on each."""
    rows = [
        {"plan": plan.name, "tenants": plan.tenants, "markup": plan.markup, "limits": _limits(plan)}
        for plan in meter.store.plans()
    ]
    write_rows(rows, as_json, as_csv, none="There are no plans.")


def _limits(plan: Plan) -> str:
    return "; ".join(
        f"{limit_line(limit.amount, limit.unit, limit.frequency, limit.filter)} ({limit.mode})" for limit in plan.limits
    )


@plans.command("set", context_settings=NEGATIVE)
@click.argument("plan")
@click.argument("limits", nargs=-1, required=True)
@click.option("--markup", help="Percent that is added to what the provider takes.")
@with_new_meter
def set_plan(meter: Meter, plan: str, limits: tuple[str, ...], markup: str | None) -> None:
    """Create or replace a plan. It holds for all tenants on it at their next call.

    Each of LIMITS is an amount, followed by keywords of the limit: '25', '5,user=*',
    '100000,unit=tokens,frequency=per_day'.
    """
    saved = meter.set_plan(plan, [_keywords(text) for text in limits], markup=markup, by=BY)
    click.echo(f"{saved.name}: {_limits(saved)}{f', markup {saved.markup} %' if saved.markup else ''}.")


def _keywords(text: str) -> dict[str, str]:
    """Read a limit such as `25,frequency=per_day,user=*`."""
    amount, *others = text.split(",")
    keywords = {"amount": amount.removeprefix("amount=").strip()}
    for pair in others:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(
                f"limits: invalid value {text!r}; expected an amount and keywords, for example '5,frequency=per_day'"
            )
        keywords[name.strip()] = value.strip()
    return keywords


@plans.command("remove")
@click.argument("plan")
@with_meter
def remove_plan(meter: Meter, plan: str) -> None:
    """Remove a plan that no tenant is on."""
    if not meter.store.remove_plan(plan, meter.config.clock(), BY):
        raise ConfigurationError(f"plan: there is no plan {plan!r}; `plans list` shows them")
    click.echo(f"{plan} is removed.")


@plans.command("assign")
@click.argument("tenant")
@click.argument("plan", required=False)
@click.option("--none", "no_plan", is_flag=True, help="Take the tenant off its plan.")
@with_meter
def assign_plan(meter: Meter, tenant: str, plan: str | None, no_plan: bool) -> None:
    """Put a tenant on a plan. Its own limit replaces the plan's of the same window and filter."""
    if no_plan == (plan is not None):
        raise ConfigurationError("plan: give the name of a plan, or --none; not both")
    done = meter.assign_plan(tenant, plan, by=BY)
    click.echo(f"{tenant} is {'now' if done else 'already'} on {'no plan' if plan is None else f'plan {plan}'}.")


@click.command("top-up", context_settings=NEGATIVE)
@click.argument("tenant")
@click.argument("usd")
@frequency_option
@filter_options
@click.option("--expires-at", help="For a total: when the rest of it is lost, an ISO date in UTC.")
@with_meter
def top_up(meter: Meter, /, tenant: str, usd: str, frequency: str | None, **keywords: str | None) -> None:
    """Raise the ceiling of the current window of a limit, in US dollars; on a total it stays."""
    amount = parse_typed_amount(usd, "usd")
    status = meter.top_up(tenant, to_usd(amount), frequency or PER_MONTH, by=BY, **keywords)
    limit, ends = status.limit, "" if status.resets_at is None else f" until {clock_time(status.resets_at)}"
    ceiling = exact(status.ceiling, limit.unit)
    click.echo(
        f"{tenant}: {exact_usd(amount)} added; the "
        f"{limit_in_words(limit.frequency, None, limit.filter, limit.name)} is {ceiling}{ends}, "
        f"{counted(status.settled, limit.unit)} spent."
    )


@click.command(context_settings=NEGATIVE)
@click.argument("tenant")
@click.argument("usd")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--user", help="Count it for this user too.")
@click.option("--feature", help="Count it for this feature too.")
@with_meter
def adjust(meter: Meter, tenant: str, usd: str, reason: str, user: str | None, feature: str | None) -> None:
    """Book a correction of what a tenant has spent: -3.50 gives money back, 3.50 takes more."""
    meter.adjust(tenant, usd, reason=reason, user=user, feature=feature, by=BY)
    click.echo(f"{tenant}: {dollars(parse_signed_usd(usd))} booked.")


@click.command()
@click.argument("tenant")
@click.option("--reason", default="", help="Why, for the history.")
@with_meter
def suspend(meter: Meter, tenant: str, reason: str) -> None:
    """Refuse every call of a tenant from now on."""
    done = meter.suspend(tenant, reason=reason, by=BY)
    click.echo(f"{tenant} is {'suspended' if done else 'suspended already'}.")


@click.command()
@click.argument("tenant")
@with_meter
def resume(meter: Meter, tenant: str) -> None:
    """Let a suspended tenant call again."""
    done = meter.resume(tenant, by=BY)
    click.echo(f"{tenant} may call again." if done else f"{tenant} was not suspended.")
