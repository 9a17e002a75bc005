"""What the backend answers about a tenant: whether it may go on, and the state of its limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..limits import EVERYONE, OBSERVE, USD, LimitStatus, subject_of
from ..limits.filters import Facts
from ..limits.rows import limit_row, status_row
from ..money import to_usd
from ..stores.contract import Store
from ..stores.plans import Plan, Rules
from .keys import ApiKey

FACTS = ("user", "model", "provider", "feature")
"""What a check may tell of a call, as parameters of its query."""


def check_row(store: Store, key: ApiKey, tenant_id: str, query: Mapping[str, str], now: float) -> dict[str, Any]:
    """Answer whether a tenant may go on.

    Without facts of a call, only limits on all of a tenant's calls decide on `limit_exceeded`. `limits` has the state
    of every limit, for a client that compares them itself; those on all tenants together only for a key of all tenants.
    `limit_usd` and the like are those of the enforced limit with the least left. Amounts in US dollars are decimal
    texts, `resets_at` is unix seconds.
    """
    rules = _rules_of(store, tenant_id, now)
    facts = Facts(**{name: query[name] for name in FACTS if query.get(name)})
    states = store.usage(tenant_id, now, query.get("user") or None, everyone=True)
    deciding = [
        state for state in states if state.limit.mode != OBSERVE and subject_of(state.limit, facts) == state.subject
    ]
    told = states if key.covers(EVERYONE) else [state for state in states if state.limit.tenant_id != EVERYONE]
    return {
        "limit_exceeded": rules.suspended or any(state.settled >= state.ceiling for state in deciding),
        "remaining_tokens": None,
        **({"suspended": True} if rules.suspended else {}),
        **({"limits": [*map(status_row, told)]} if told else {}),
        **_tightest(state for state in deciding if state in told and state.limit.unit == USD),
    }


def _rules_of(store: Store, tenant_id: str, now: float) -> Rules:
    """Return the rules of a tenant, which is put on the default plan if it never had one."""
    rules = store.rules(tenant_id)
    if rules.plan is not None or tenant_id == EVERYONE or store.default_plan is None:
        return rules
    plan = store.default_plan(tenant_id)
    if plan is None:
        return rules
    store.assign_plan(tenant_id, plan, now, first=True)
    return store.rules(tenant_id)


def _tightest(states: Iterable[LimitStatus]) -> dict[str, Any]:
    found = min(states, key=lambda state: state.ceiling - state.settled - state.held, default=None)
    if found is None:
        return {}
    return {
        "limit_usd": f"{to_usd(found.ceiling):f}",
        "spent_usd": f"{found.spent_usd:f}",
        "remaining_usd": f"{found.remaining_usd:f}",
        "frequency": found.limit.frequency,
        "resets_at": found.resets_at,
    }


def usage_row(store: Store, tenant_id: str, user: str | None, now: float) -> dict[str, Any]:
    """Answer which limits a tenant has, and how much of each is used."""
    rules = store.rules(tenant_id)
    return {
        "tenant_id": tenant_id,
        "plan": rules.plan,
        "markup": rules.markup,
        "suspended": rules.suspended,
        "limits": [limit_row(row) for row in rules.limits if row.tenant_id != EVERYONE or tenant_id == EVERYONE],
        "usage": [status_row(state) for state in store.usage(tenant_id, now, user)],
    }


def plan_rows(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Write plans with their limits and the number of their tenants."""
    return [
        {"plan": plan.name, "markup": plan.markup, "tenants": plan.tenants, "limits": [*map(limit_row, plan.limits)]}
        for plan in plans
    ]
