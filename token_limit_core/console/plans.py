"""The plans: what each allows, and how many tenants are on it."""

from __future__ import annotations

from .context import Context
from .web import Response


def plans(ctx: Context) -> Response:
    """List the plans."""
    return ctx.page("plans.html", rows=ctx.store.plans())
