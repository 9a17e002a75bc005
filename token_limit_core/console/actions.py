"""What support does to one tenant: top up, suspend, resume, rename, change the plan. Each is a form of a few fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..limits import USD, in_force
from ..limits.filters import parse_filter
from ..runtime.faults import ConfigurationError
from ..runtime.language import translate
from ..stores.queries import TenantQuery
from ..stores.reports import TenantUsage
from ..wording import limit_line
from .context import Context, Right
from .fields import MOST_TEXT, Field, filled
from .pages import unknown_tenant
from .web import Response, redirect


class Action(NamedTuple):
    """A form on one tenant: what it says, its fields by name, what it does, and what is said when that is done.

    `run` takes the tenant's id and the fields as typed, and returns the tenant's id from then on. It raises
    `ConfigurationError` whose message begins with the name of the field.
    """

    right: Right
    title: str
    lead: str
    button: str
    fields: Callable[[Context, TenantUsage], dict[str, Field]]
    run: Callable[[Context, str, Mapping[str, str]], str]
    said: str
    is_danger: bool = False


def shown(path: str) -> Callable[[Context], Response]:
    """Make the handler that shows the form of an action."""

    def show(ctx: Context) -> Response:
        usage = _tenant(ctx, ctx.params.get("id", ""))
        return unknown_tenant(ctx) if usage is None else _form(ctx, path, usage, 200, {}, {})

    return show


def done(path: str) -> Callable[[Context], Response]:
    """Make the handler that carries an action out, or shows its form again with what is wrong."""
    action = ACTIONS[path]

    def do(ctx: Context) -> Response:
        typed = {name: value[:MOST_TEXT] for name, value in ctx.request.form.items()}
        usage = _tenant(ctx, typed.get("id", ""))
        if usage is None:
            return unknown_tenant(ctx)
        try:
            tenant_id = action.run(ctx, usage.tenant_id, typed)
        except ConfigurationError as error:
            field, _, problem = str(error).partition(": ")
            return _form(ctx, path, usage, 400, typed, {field: problem} if problem else {"": field})
        return redirect(ctx.url("tenant", id=tenant_id, said=action.said))

    return do


def _form(
    ctx: Context, path: str, usage: TenantUsage, status: int, typed: Mapping[str, str], errors: Mapping[str, str]
) -> Response:
    action = ACTIONS[path]
    fields = filled(action.fields(ctx, usage), typed)
    whole = [problem for name, problem in errors.items() if name not in fields]
    context = {"action": action, "path": f"tenant/{path}", "usage": usage, "fields": fields}
    return ctx.page("action.html", status, **context, errors=dict(errors), whole=whole)


def _tenant(ctx: Context, tenant_id: str) -> TenantUsage | None:
    rows = ctx.store.tenants(TenantQuery(tenant_id=tenant_id), ctx.now).rows
    return rows[0] if rows else None


def _no_fields(ctx: Context, usage: TenantUsage) -> dict[str, Field]:
    return {}


def _top_up_fields(ctx: Context, usage: TenantUsage) -> dict[str, Field]:
    limits = in_force(ctx.meter.limits(usage.tenant_id), ctx.now)
    options = {
        f"{row.frequency} {row.filter}": limit_line(row.amount, row.unit, row.frequency, row.filter)
        for row in limits
        if row.unit == USD and not row.each_user
    }
    hint = "Only the current window has more; the next one starts at the limit again. A total keeps it."
    return {
        "limit": Field("Limit", hint, next(iter(options), ""), options, "names"),
        "usd": Field("Amount in US dollars", "For example 10", kind="amount"),
    }


def _top_up(ctx: Context, tenant_id: str, typed: Mapping[str, str]) -> str:
    frequency, _, filter = typed.get("limit", "").partition(" ")
    if not frequency:
        raise ConfigurationError("limit: This tenant has no limit in US dollars that could be topped up.")
    if not typed.get("usd", "").strip():
        raise ConfigurationError("usd: Expected an amount in US dollars, for example 10.")
    ctx.meter.top_up(tenant_id, typed["usd"].strip(), frequency, **parse_filter(filter)._asdict(), by=ctx.actor)
    return tenant_id


def _suspend_fields(ctx: Context, usage: TenantUsage) -> dict[str, Field]:
    return {"reason": Field("Reason", "For the history; the tenant does not see it. May be empty.")}


def _suspend(ctx: Context, tenant_id: str, typed: Mapping[str, str]) -> str:
    ctx.meter.suspend(tenant_id, reason=typed.get("reason", "").strip(), by=ctx.actor)
    return tenant_id


def _resume(ctx: Context, tenant_id: str, typed: Mapping[str, str]) -> str:
    ctx.meter.resume(tenant_id, by=ctx.actor)
    return tenant_id


def _name_fields(ctx: Context, usage: TenantUsage) -> dict[str, Field]:
    hint = "What people call the tenant. The application may set it again with its next call."
    return {"name": Field("Name", hint, usage.name)}


def _name(ctx: Context, tenant_id: str, typed: Mapping[str, str]) -> str:
    ctx.meter.name_tenant(tenant_id, typed.get("name", "").strip(), by=ctx.actor)
    return tenant_id


def _move_fields(ctx: Context, usage: TenantUsage) -> dict[str, Field]:
    return {"new_id": Field("New id", "Exactly as your application names the tenant from now on.", usage.tenant_id)}


def _move(ctx: Context, tenant_id: str, typed: Mapping[str, str]) -> str:
    new_id = typed.get("new_id", "")
    ctx.meter.rename_tenant(tenant_id, new_id, by=ctx.actor)
    return new_id


def _plan_fields(ctx: Context, usage: TenantUsage) -> dict[str, Field]:
    options = {"": translate("No plan")} | {plan.name: plan.name for plan in ctx.store.plans()}
    return {"plan": Field("Plan", "Limits of the tenant’s own stay.", usage.plan, options, "names")}


def _plan(ctx: Context, tenant_id: str, typed: Mapping[str, str]) -> str:
    ctx.meter.assign_plan(tenant_id, ctx.known_plan(typed.get("plan", "")), by=ctx.actor)
    return tenant_id


ACTIONS: dict[str, Action] = {
    "top-up": Action(
        "edit limits", "Top up", "More for the current window, without changing the limit.", "Top up",
        _top_up_fields, _top_up, "topped-up",
    ),
    "plan": Action(
        "edit tenants", "Change the plan", "The limits of the plan hold from the next call on.", "Save",
        _plan_fields, _plan, "planned",
    ),
    "name": Action("edit tenants", "Rename", "The name that people read.", "Save", _name_fields, _name, "named"),
    "move": Action(
        "edit tenants", "Change the id", "Limits, events and history move to the new id. Do it while no call of the "
        "tenant is in flight.", "Change the id", _move_fields, _move, "moved", is_danger=True,
    ),
    "suspend": Action(
        "edit tenants", "Suspend", "Every call of this tenant is refused until it is resumed.", "Suspend",
        _suspend_fields, _suspend, "suspended", is_danger=True,
    ),
    "resume": Action(
        "edit tenants", "Resume", "The tenant may call again, within its limits.", "Resume", _no_fields, _resume,
        "resumed",
    ),
}  # fmt: skip
"""Every action by the last part of its path."""
