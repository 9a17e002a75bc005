"""Editing a plan by forms, one limit at a time. A plan is always written as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..limits import Limit
from ..runtime.language import translate
from ..stores.contract import Store
from ..stores.plans import Plan
from .edits import parse_limit, version_of


def find_plan(store: Store, name: str) -> Plan | None:
    """Return the plan of this name, with how many tenants are on it."""
    return next((plan for plan in store.plans() if plan.name == name), None)


def find_plan_limit(plan: Plan, number: str) -> Limit | None:
    """Return the limit of a plan with this id."""
    return next((row for row in plan.limits if str(row.id) == number), None)


def version_of_plan(plan: Plan) -> str:
    """Return the version of a plan's limits and markup: a form sends it along, and another one means a change."""
    return f"{version_of(plan.limits)} {plan.markup}"


def draft_plan_limit(
    plan: Plan, given: Mapping[str, Any], now: float, before: Limit | None = None
) -> tuple[list[Limit], dict[str, str]]:
    """Check a new limit of a plan, or with `before` a change of that one; nothing is saved.

    `given` has the keywords of `set_limit` as texts. Returns all limits that the plan then has, and the errors by
    keyword; with errors it cannot be saved.
    """
    limit, errors = parse_limit({**given, "plan": plan.name}, now)
    others = [row for row in plan.limits if row != before]
    if limit is None or errors:
        return list(plan.limits), errors
    if any(row.identity == limit.identity for row in others):
        problem = translate("The plan already has a limit for this window and these calls.")
        return list(plan.limits), {"frequency": problem}
    return [*others, limit], {}
