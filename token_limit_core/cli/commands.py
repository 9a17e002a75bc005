"""What the command lines do and say, whichever of them asks: Django's, Flask's or `token-limit`.

A command is a function of a Meter that returns text. Raises `ConfigurationError` with a message that begins with the
argument at fault, and `StoreError` when the store cannot answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from ..limits import ENFORCE, LimitStatus
from ..management.edits import knows_tenant
from ..money import parse_typed_amount, to_usd
from ..runtime.faults import ConfigurationError
from ..scope import check_payer
from ..stores.records import KEEP_SECONDS, Refusal, Spend
from ..stores.reports import TenantQuery, TenantUsage
from ..windows import PER_MONTH, window_of
from ..wording import FREQUENCY_LABELS, dollars, exact_usd, utc

if TYPE_CHECKING:
    from ..meter import Meter

DAY = 86400
BY = "command line"
"""Who changed a limit, as the history of changes names it."""

SHORTEST_AGE = KEEP_SECONDS // DAY
"""Days that pruning always keeps."""

DEFAULT_AGE = 90
"""Days that pruning keeps unless told otherwise."""


TENANTS_AT_ONCE = 500
MOST_REFUSALS = 10_000
"""Rows of refusals that are read for a list of tenants; each is a minute's."""


def usages(meter: Meter, tenant_id: str | None = None) -> Iterator[TenantUsage]:
    """Read the usage of one tenant, or of all that have a limit in force or spent something this month, by id.

    Raises `ConfigurationError` for one that has neither a limit nor an event.
    """
    if tenant_id is not None:
        yield _usage_of(meter, tenant_id)
        return
    now = meter.config.clock()
    refused: dict[str, list[Refusal]] = {}
    for refusal in meter.store.refusals(None, now - DAY, MOST_REFUSALS):
        refused.setdefault(refusal.tenant_id, []).append(refusal)
    for offset in count(0, TENANTS_AT_ONCE):
        page = meter.store.tenants(TenantQuery(offset=offset, size=TENANTS_AT_ONCE), now)
        for usage in page.rows:
            if usage.limits or any(usage.month):
                yield usage._replace(refused=tuple(refused.get(usage.tenant_id, ())))
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
    refused = tuple(meter.store.refusals(tenant_id, now - DAY, MOST_REFUSALS))
    return TenantUsage(tenant_id, "", spent, tuple(meter.store.usage(tenant_id, now)), refused=refused)


def show_usage(usages: Iterable[TenantUsage]) -> str:
    """Write usages for people."""
    return "\n".join(line for usage in usages for line in _lines(usage))


def usage_json(usages: Iterable[TenantUsage]) -> str:
    """Write usages as JSON; money is in US dollars as text."""
    return json.dumps([_as_dict(usage) for usage in usages], indent=2)


def set_limit(
    meter: Meter,
    tenant: str,
    amount: str | None,
    *,
    frequency: str | None = None,
    mode: str = ENFORCE,
    effective_date: str | None = None,
    remove: bool = False,
) -> str:
    """Set a tenant's limit in US dollars per window, or remove its limits (those of one frequency, or all)."""
    if remove == (amount is not None):
        raise ConfigurationError("amount: give an amount in US dollars, such as 25, or --remove; not both")
    check_payer(tenant)
    if amount is None:
        removed = meter.remove_limit(tenant, frequency, by=BY)
        exactly = "" if removed else " Ids are compared exactly."
        return f"{tenant}: {removed} limit{'s' if removed != 1 else ''} removed.{exactly}"
    usd = to_usd(parse_typed_amount(amount, "amount"))
    known = knows_tenant(meter.store, tenant, meter.config.clock())
    limit = meter.set_limit(tenant, usd, frequency or PER_MONTH, effective_date, mode=mode, by=BY)
    since = f" from {utc(limit.effective_from)}" if limit.effective_from > meter.config.clock() else ""
    hint = "" if known else f"\nNothing was known of {tenant!r}: make sure that this is what your application calls it."
    return f"{tenant}: {exact_usd(limit.amount)} {FREQUENCY_LABELS[limit.frequency]} ({limit.mode}){since}.{hint}"


def prune(meter: Meter, days: int) -> str:
    """Delete rows older than this many days, and settle expired holds first."""
    if days < SHORTEST_AGE:
        raise ConfigurationError(
            f"--older-than: {days} is too short; give at least {SHORTEST_AGE} days, "
            "since open windows and late events still need the younger rows"
        )
    at = meter.config.clock()
    pruned = meter.store.prune(at - days * DAY, at)
    return (
        f"Expired holds settled: {pruned.expired}. Deleted: events {pruned.events}, "
        f"closed holds {pruned.holds}, past windows {pruned.counters}."
    )


POLICIES = ("on_unpriced", "on_no_tenant", "on_unguarded")
"""The settings that say what to do with what is not known."""


def show_status(meter: Meter) -> str:
    """Say where the ledger is, what is in flight, and how each SDK stands, with its version; opens the store."""
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
    return "\n".join(lines)


def _lines(usage: TenantUsage) -> Iterator[str]:
    month = usage.month
    unpriced = f", {month.unpriced:,} of them unpriced" if month.unpriced else ""
    yield f"{usage.tenant_id or '(no tenant)'}"
    yield f"  this month  {dollars(month.cost_nano)} in {month.calls:,} calls{unpriced}"
    if usage.refused:
        yield f"  refused     {_refused(usage.refused)}"
    for status in usage.limits:
        limit = status.limit
        held = f" and holds {dollars(status.held)}" if status.held else ""
        yield (
            f"  {FREQUENCY_LABELS[limit.frequency]:<10}  {dollars(status.settled)} of {exact_usd(limit.amount)}"
            f"{held} ({limit.mode}), resets {utc(status.window.end)}"
        )


def _refused(refused: Sequence[Refusal]) -> str:
    """Write refusals, newest first, in one line."""
    kinds: Counter[str] = Counter()
    for row in refused:
        kinds[row.kind] += row.calls
    last, calls = refused[0], kinds.total()
    shown = ", ".join(f"{times:,} {kind}" for kind, times in kinds.most_common())
    about = ", ".join(filter(None, (last.model, last.endpoint, last.user, last.feature)))
    return f"{calls:,} call{'s' if calls != 1 else ''} in 24 hours ({shown}); the last: {about}, {utc(last.last_at)}"


def _as_dict(usage: TenantUsage) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "tenant": usage.tenant_id,
        "month": spend_dict(usage.month),
        "limits": [status_dict(status) for status in usage.limits],
    }
    if usage.refused:
        shown["refused"] = [refusal._asdict() for refusal in usage.refused]
    return shown


def spend_dict(total: Spend) -> dict[str, Any]:
    """Give totals as JSON has them; money is US dollars as text."""
    return {
        "calls": total.calls,
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "spent_usd": f"{to_usd(total.cost_nano):f}",
        "unpriced": total.unpriced,
    }


def status_dict(status: LimitStatus) -> dict[str, Any]:
    """Give a limit and its current window as JSON has them; money is US dollars as text."""
    return {
        "frequency": status.limit.frequency,
        "mode": status.limit.mode,
        "limit_usd": f"{status.limit.limit_usd:f}",
        "spent_usd": f"{status.spent_usd:f}",
        "held_usd": f"{status.held_usd:f}",
        "remaining_usd": f"{status.remaining_usd:f}",
        "resets_at": datetime.fromtimestamp(status.window.end, UTC).isoformat(),
    }
