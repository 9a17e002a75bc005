"""The plans: what each allows and how many tenants are on it, and the forms that make, change and remove them."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import LimitChanged
from ..management.parsing import parse_markup, parse_plan
from ..management.plan_edits import find_plan, version_of_plan
from ..runtime.faults import ConfigurationError
from ..runtime.language import translate
from ..stores.plans import Plan
from .context import Context
from .fields import MOST_TEXT, Field, filled
from .web import Response, redirect

FIELDS = {
    "plan": Field("Name", "1 to 64 characters, as your application names it, such as pro."),
    "markup": Field(
        "Markup in percent", "Added to what the provider charges, such as 20. Empty: nothing.", kind="amount"
    ),
}
"""The fields of a plan beside its limits. The name of a plan does not change."""


def plans(ctx: Context) -> Response:
    """List the plans."""
    return ctx.page("plans.html", rows=ctx.store.plans())


def plan(ctx: Context) -> Response:
    """Show the form of a new plan, or a plan to edit with its limits."""
    name = ctx.params.get("plan", "")
    found = find_plan(ctx.store, name) if name else None
    return unknown_plan(ctx) if name and found is None else _page(ctx, found)


def save_plan(ctx: Context) -> Response:
    """Make a plan without limits, or change the markup of one; its limits stay."""
    typed = {name: value.strip()[:MOST_TEXT] for name, value in ctx.request.form.items()}
    found = find_plan(ctx.store, typed.get("plan", ""))
    if "version" in typed and found is None:
        return unknown_plan(ctx)
    errors: dict[str, str] = {}
    if "version" not in typed and found is not None:
        errors["plan"] = translate("There is a plan of this name already. Choose another name.")
        found = None
    for parse, name in ((parse_plan, "plan"), (lambda text: parse_markup(text or None), "markup")):
        try:
            typed[name] = parse(typed.get(name, ""))
        except ConfigurationError as error:
            errors[name] = str(error).partition(": ")[2]
    if errors:
        return _page(ctx, found, 400, typed, errors)
    read = Plan(typed["plan"]) if found is None else found
    if found is not None and typed["version"] != version_of_plan(found):
        return _page(ctx, found, 409, typed, {"": stale()})
    try:
        ctx.store.set_plan(read.name, read.limits, ctx.now, typed["markup"], ctx.actor, expected=read)
    except LimitChanged:
        return _page(ctx, find_plan(ctx.store, read.name), 409, typed, {"": stale()})
    return redirect(ctx.url("plan", plan=read.name, said="saved"))


def remove_plan(ctx: Context) -> Response:
    """Remove a plan that no tenant is on."""
    try:
        done = ctx.store.remove_plan(ctx.request.form.get("plan", ""), ctx.now, ctx.actor)
    except ConfigurationError:
        return ctx.message(409, "Nothing was removed", "Tenants are on this plan. Put them on another plan first.")
    return redirect(ctx.url("plans", said="removed")) if done else unknown_plan(ctx)


def unknown_plan(ctx: Context) -> Response:
    """Answer that a plan does not exist."""
    return ctx.message(404, "There is no such plan", "It was removed, or its name is another.")


def stale() -> str:
    """Say that a plan is another by now, to a person whose form is out of date."""
    return translate("Another person has changed this plan since the form was shown. Save again to replace it.")


def _page(
    ctx: Context,
    plan: Plan | None,
    status: int = 200,
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response:
    known = {} if plan is None else {"markup": plan.markup}
    fields = {name: field for name, field in FIELDS.items() if plan is None or name != "plan"}
    state = "" if plan is None else version_of_plan(plan)
    shown = filled(fields, known if typed is None else typed)
    return ctx.page("plan.html", status, plan=plan, fields=shown, state=state, errors=errors or {})
