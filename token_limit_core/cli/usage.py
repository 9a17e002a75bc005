"""The command `usage`: what tenants have spent against their limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import click

from ..limits import LimitStatus
from ..meter import Meter
from ..money import to_usd
from ..runtime.faults import ConfigurationError
from ..stores.queries import RefusalQuery, TenantQuery
from ..stores.records import Refusal
from ..stores.reports import TenantUsage
from ..windows import DAY, PER_MONTH, window_of
from ..wording import FREQUENCY_LABELS, calls_in_words, clock_time, counted, dollars, exact, filter_in_words
from .output import json_option, spend_dict, status_dict
from .session import with_meter

TENANTS_AT_ONCE = 500
MOST_REFUSALS = 10_000
"""Rows of refusals that are read for a list of tenants; each is a minute's."""


@click.command()
@click.argument("tenant", required=False)
@json_option
@with_meter
def usage(meter: Meter, tenant: str | None, as_json: bool) -> None:
    """Show the spend of the current windows against their limits, and the totals of the month (UTC).

    Of one tenant, or of all that have a limit or an event.
    """
    found = list(usages(meter, tenant))
    if as_json:
        click.echo(json.dumps([_as_dict(one) for one in found], indent=2))
    elif found:
        click.echo(show_usage(found))


def usages(meter: Meter, tenant_id: str | None = None) -> Iterator[TenantUsage]:
    """Read the usage of one tenant, or of all that have a limit in force or spent something this month, by id.

    Raises `ConfigurationError` for one that has neither a limit nor an event.
    """
    if tenant_id is not None:
        yield _usage_of(meter, tenant_id)
        return
    now = meter.config.clock()
    refused: dict[str, list[Refusal]] = {}
    for refusal in meter.store.refusals(RefusalQuery(start=now - DAY, size=MOST_REFUSALS)):
        refused.setdefault(refusal.tenant_id, []).append(refusal)
    for offset in count(0, TENANTS_AT_ONCE):
        page = meter.store.tenants(TenantQuery(offset=offset, size=TENANTS_AT_ONCE), now)
        for one in page.rows:
            if one.limits or any(one.month):
                yield one._replace(refused=tuple(refused.get(one.tenant_id, ())))
        if offset + TENANTS_AT_ONCE >= page.total:
            return


def _usage_of(meter: Meter, tenant_id: str) -> TenantUsage:
    now = meter.config.clock()
    month = window_of(PER_MONTH, now)
    spent = meter.store.spend(tenant_id, month.start, month.end)
    if not any(spent) and not meter.limits(tenant_id):
        raise ConfigurationError(
            f"tenant: {tenant_id!r} has no limit and no event this month; ids are compared exactly"
        )
    refused = tuple(meter.store.refusals(RefusalQuery(tenant_id, now - DAY, size=MOST_REFUSALS)))
    return TenantUsage(tenant_id, "", spent, tuple(meter.store.usage(tenant_id, now)), refused=refused)


def show_usage(usages: Iterable[TenantUsage]) -> str:
    """Write usages for people."""
    return "\n".join(line for usage in usages for line in _lines(usage))


def _lines(usage: TenantUsage) -> Iterator[str]:
    month = usage.month
    unpriced = f", {month.unpriced:,} of them unpriced" if month.unpriced else ""
    yield f"{usage.tenant_id or '(no tenant)'}"
    charged = f", charged {dollars(month.charge_nano)}" if month.charge_nano != month.cost_nano else ""
    yield f"  this month  {dollars(month.cost_nano)} in {calls_in_words(month.calls)}{unpriced}{charged}"
    if usage.refused:
        yield f"  refused     {_refused(usage.refused)}"
    yield from map(_limit, usage.limits)


def _limit(status: LimitStatus) -> str:
    limit = status.limit
    held = f" and holds {counted(status.held, limit.unit)}" if status.held else ""
    topped_up = f" + {exact(status.extra, limit.unit)}" if status.extra else ""
    whom = filter_in_words(limit.filter)
    if status.subject:
        whom = whom.replace("each user", f"user {status.subject}")
    details = ", ".join(filter(None, (limit.mode, whom, limit.plan and f"plan {limit.plan}", limit.name)))
    reset = "" if status.resets_at is None else f", resets {clock_time(status.resets_at)}"
    return (
        f"  {FREQUENCY_LABELS[limit.frequency]:<10}  {counted(status.settled, limit.unit)} of "
        f"{exact(limit.amount, limit.unit)}{topped_up}{held} ({details}){reset}"
    )


def _refused(refused: Sequence[Refusal]) -> str:
    """Write refusals, newest first, in one line."""
    kinds: Counter[str] = Counter()
    for row in refused:
        kinds[row.kind] += row.calls
    last, calls = refused[0], kinds.total()
    shown = ", ".join(f"{times:,} {kind}" for kind, times in kinds.most_common())
    about = ", ".join(filter(None, (last.model, last.endpoint, last.user, last.feature)))
    at = clock_time(last.last_at)
    return f"{calls:,} call{'s' if calls != 1 else ''} in 24 hours ({shown}); the last: {about}, {at}"


def _as_dict(usage: TenantUsage) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "tenant": usage.tenant_id,
        "month": spend_dict(usage.month),
        "limits": [status_dict(status) for status in usage.limits],
    }
    if usage.month.charge_nano != usage.month.cost_nano:
        shown["month"]["charged_usd"] = f"{to_usd(usage.month.charge_nano):f}"
    if usage.refused:
        shown["refused"] = [refusal._asdict() for refusal in usage.refused]
    return shown
