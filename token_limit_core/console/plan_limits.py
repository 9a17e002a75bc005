"""Forms that add, change and remove a limit of a plan."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import LimitChanged
from ..limits import Limit
from ..management.plan_edits import draft_plan_limit, find_plan, find_plan_limit, version_of_plan
from ..stores.plans import Plan
from .context import Context
from .fields import COMMON, LIMIT_FIELDS, MORE, MOST_TEXT, blank, filled, is_used, texts_of
from .plans import stale, unknown_plan
from .web import Response, redirect

NOT_OF_PLANS = "effective_date"
"""The field that limits of plans do not have: a change of a plan holds at once."""

WHOLE = ""
"""The key of an error that belongs to no single field."""


def plan_limit(ctx: Context) -> Response:
    """Show the form of a new limit of a plan, or of one to edit."""
    plan, before = _found(ctx, ctx.params)
    if plan is None or (before is None and ctx.params.get("id")):
        return unknown_plan(ctx)
    texts = blank() if before is None else texts_of(before, ctx.now)
    return _page(ctx, plan, before, texts, {})


def save_plan_limit(ctx: Context) -> Response:
    """Save a limit of a plan, or show the form again with its errors and everything that was typed."""
    posted = {name: value.strip()[:MOST_TEXT] for name, value in ctx.request.form.items()}
    plan, before = _found(ctx, posted)
    if plan is None:
        return unknown_plan(ctx)
    texts = (blank() if before is None else texts_of(before, ctx.now)) | posted
    given = {name: texts[name] for name in LIMIT_FIELDS if name != NOT_OF_PLANS}
    limits, errors = draft_plan_limit(plan, given, ctx.now, before)
    if posted.get("version") != version_of_plan(plan):
        errors = {WHOLE: stale(), **errors}
    if errors:
        return _page(ctx, plan, before, texts, errors, 409 if WHOLE in errors else 400)
    try:
        ctx.store.set_plan(plan.name, limits, ctx.now, plan.markup, ctx.actor, expected=plan)
    except LimitChanged:
        plan, before = _found(ctx, posted)
        return unknown_plan(ctx) if plan is None else _page(ctx, plan, before, texts, {WHOLE: stale()}, 409)
    return redirect(ctx.url("plan", plan=plan.name, said="saved"))


def remove_plan_limit(ctx: Context) -> Response:
    """Remove a limit of a plan, with what its windows have counted."""
    plan, gone = _found(ctx, ctx.request.form)
    if plan is None or gone is None:
        return unknown_plan(ctx)
    left = [row for row in plan.limits if row != gone]
    try:
        if ctx.request.form.get("version") != version_of_plan(plan):
            raise LimitChanged("the plan was changed since it was shown")
        ctx.store.set_plan(plan.name, left, ctx.now, plan.markup, ctx.actor, expected=plan)
    except LimitChanged:
        return ctx.message(409, "Nothing was removed", "Another person has changed this plan since the page was shown.")
    return redirect(ctx.url("plan", plan=plan.name, said="removed"))


def _found(ctx: Context, names: Mapping[str, str]) -> tuple[Plan | None, Limit | None]:
    plan = find_plan(ctx.store, names.get("plan", ""))
    return plan, None if plan is None else find_plan_limit(plan, names.get("id", ""))


def _page(
    ctx: Context, plan: Plan, before: Limit | None, texts: Mapping[str, str], errors: Mapping[str, str],
    status: int = 200,
) -> Response:  # fmt: skip
    more = filled({name: field for name, field in MORE.items() if name != NOT_OF_PLANS}, texts)
    return ctx.page(
        "plan_limit.html",
        status,
        plan=plan,
        before=before,
        common=filled(COMMON, texts),
        more=more,
        is_open=is_used(more, errors),
        state=version_of_plan(plan),
        errors=errors,
    )
