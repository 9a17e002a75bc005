"""Change many tenants of a list at once: their plan, their limits, or whether they are suspended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from ..limits import Limit
from ..management.parsing import MOST_COUNTED
from ..money import MAX_LIMIT_USD, to_nano
from ..runtime.faults import ConfigurationError
from .context import Context, Right
from .web import Response, redirect

MOST_PERCENT = 10_000

CHANGES: dict[str, tuple[Right, str]] = {
    "raise": ("edit limits", "Raise limits by percent"),
    "remove": ("remove limits", "Remove limits"),
    "plan": ("edit tenants", "Change the plan"),
    "suspend": ("edit tenants", "Suspend"),
    "resume": ("edit tenants", "Resume"),
}
"""Every change by its name: the right that it needs, and what it is called."""

_Change = Callable[[str], bool]
"""Changes one tenant; False where it was so already, or where there was nothing to change."""


def change(ctx: Context) -> Response:
    """Ask whether the chosen tenants are to be changed; once that is confirmed, change them."""
    form = ctx.request.form
    name, chosen = form.get("change", ""), ctx.request.chosen("id")
    if name not in CHANGES or not ctx.may(CHANGES[name][0]):
        return ctx.message(400, "There is no such change", "Choose one in the list of tenants.")
    if not chosen:
        return ctx.message(400, "No tenant is chosen", "Tick the tenants in the list, then choose what to change.")
    context: dict[str, Any] = {"name": name, "label": CHANGES[name][1], "chosen": chosen, "value": form.get(name, "")}
    try:
        apply = _change_of(ctx, name, form.get(name, "").strip())
        if not form.get("confirmed"):
            return ctx.page("bulk.html", **context, problem=None)
        done = sum([apply(tenant_id) for tenant_id in chosen])
    except ConfigurationError as error:
        return ctx.page("bulk.html", 400, **context, problem=str(error).partition(": ")[2] or str(error))
    return redirect(ctx.url("tenants", changed=done, left=len(chosen) - done))


def _change_of(ctx: Context, name: str, value: str) -> _Change:
    """Make the change of one tenant. Raises `ConfigurationError` for a value that cannot be used."""
    meter, by = ctx.meter, ctx.actor
    if name == "suspend":
        return lambda tenant_id: meter.suspend(tenant_id, by=by)
    if name == "resume":
        return lambda tenant_id: meter.resume(tenant_id, by=by)
    if name == "remove":
        return lambda tenant_id: meter.remove_limit(tenant_id, by=by) > 0
    if name == "raise":
        percent = _percent(value)
        return lambda tenant_id: _raise(ctx, tenant_id, percent)
    plan = ctx.known_plan(value)
    return lambda tenant_id: meter.assign_plan(tenant_id, plan, by=by)


def _percent(text: str) -> Decimal:
    try:
        percent = Decimal(text.removesuffix("%").strip())
    except InvalidOperation:
        percent = Decimal("NaN")
    if not percent.is_finite() or not -100 <= percent <= MOST_PERCENT or not percent:
        raise ConfigurationError(f"raise: “{text}” is not a percentage from -100 to {MOST_PERCENT:,} such as 20")
    return percent


def _raise(ctx: Context, tenant_id: str, percent: Decimal) -> bool:
    """Raise the tenant's own limits; those of its plan stay."""
    limits = [limit for limit in ctx.store.limits(tenant_id) if not limit.ended(ctx.now)]
    for limit in limits:
        ctx.store.set_limit(_raised(limit, percent), ctx.now, by=ctx.actor)
    return bool(limits)


def _raised(limit: Limit, percent: Decimal) -> Limit:
    most = to_nano(MAX_LIMIT_USD) if limit.unit == "usd" else MOST_COUNTED
    amount = int(limit.amount * (100 + percent) / 100)
    if amount > most:
        raise ConfigurationError(f"raise: a limit of “{limit.tenant_id}” would be larger than any limit may be")
    return replace(limit, amount=amount)
