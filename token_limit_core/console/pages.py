"""The read-only pages, and the release of holds."""

from __future__ import annotations

from ..stores.queries import EventQuery, RefusalQuery, TenantQuery
from ..stores.reports import By
from ..wording import only_zone
from .bulk import CHANGES
from .charts import bars_of, chart_of
from .context import Context
from .queries import (
    FILTERS,
    KINDS,
    MARKS,
    PAGE,
    PERIODS,
    Asked,
    count_of,
    cursor,
    event_query,
    page_number,
    period,
    place,
    tenant_query,
)
from .web import Response, redirect

PARTS: tuple[tuple[By, str], ...] = (
    ("model", "Model"),
    ("provider", "Provider"),
    ("user", "User"),
    ("feature", "Feature"),
    ("session", "Session"),
)
"""What a tenant's spend is shown by, and the heading of each."""

MOST_PARTS = 20


def tenants(ctx: Context) -> Response:
    """List tenants with this month's spend against their limits."""
    query = tenant_query(ctx.params)
    page = ctx.store.tenants(query, ctx.now)
    plans = [plan.name for plan in ctx.store.plans()]
    return ctx.page(
        "tenants.html",
        query=query,
        page=page,
        number=page_number(ctx.params),
        size=PAGE,
        plans=plans,
        changes={name: label for name, (right, label) in CHANGES.items() if ctx.may(right)},
        changed=count_of(ctx.params.get("changed")),
        left=count_of(ctx.params.get("left")),
    )


def tenant(ctx: Context) -> Response:
    """Show one tenant: limits, spend by day and in parts, refusals, events, the latest changes."""
    tenant_id = ctx.params.get("id", "")
    found = ctx.store.tenants(TenantQuery(tenant_id=tenant_id), ctx.now).rows
    if not found:
        return unknown_tenant(ctx)
    chosen = period(ctx.params, ctx.now)
    shown = [row for row in ctx.meter.limits(tenant_id) if not row.ended(ctx.now)]
    by: By = next((name for name, _ in PARTS if name == ctx.params.get("by")), "model")
    return ctx.page(
        "tenant.html",
        usage=found[0],
        states={status.limit.id: status for status in found[0].limits},
        limits=shown,
        zone=only_zone(row.timezone for row in shown),
        chosen=chosen,
        periods=PERIODS,
        chart=chart_of(ctx.store.rollup(tenant_id, chosen.start, chosen.end), chosen.start, chosen.end),
        by=by,
        parts=PARTS,
        bars=bars_of(ctx.store.report(by, chosen.start, chosen.end, tenant_id)[:MOST_PARTS]),
        changes=ctx.store.history(tenant_id, size=5),
        holds=ctx.store.hold_page(tenant_id, size=1).total,
        refusals=ctx.store.refusals(RefusalQuery(tenant_id, chosen.start, size=5)),
        refused=sum(row.calls for row in ctx.store.refused(chosen.start, tenant_id)),
        events=ctx.store.events(EventQuery(tenant_id, start=chosen.start, size=5)),
    )


def unknown_tenant(ctx: Context) -> Response:
    """Answer that a tenant does not exist."""
    hint = "A tenant appears with its first event or limit. Ids are compared exactly."
    return ctx.message(404, "There is no such tenant", hint)


def holds(ctx: Context) -> Response:
    """List open holds with their age."""
    tenant_id = ctx.tenant_named(ctx.params.get("q", "")) or ctx.params.get("tenant")
    number = page_number(ctx.params)
    page = ctx.store.hold_page(tenant_id, (number - 1) * PAGE, PAGE)
    return ctx.page("holds.html", page=page, number=number, size=PAGE, tenant_id=tenant_id)


def release(ctx: Context) -> Response:
    """Release holds without a charge. A call that still ends is charged its real cost."""
    done = [ctx.store.release(call_id, ctx.now, ctx.actor) for call_id in ctx.request.chosen("call_id")]
    said = "partly" if any(done) else "late"
    tenant_id = ctx.request.form.get("tenant") or None
    return redirect(ctx.url("holds", tenant=tenant_id, said="released" if done and all(done) else said))


def events(ctx: Context) -> Response:
    """Show the ledger, newest first."""
    asked = asked_events(ctx)
    rows = [] if asked.errors else ctx.store.events(asked.query)
    older = place(rows[-1].cursor) if len(rows) == asked.query.size else None
    filters = {name: value for name, value in ctx.params.items() if name in FILTERS}
    return ctx.page(
        "events.html",
        status=400 if asked.errors else 200,
        rows=rows,
        asked=asked,
        marks=MARKS | KINDS,
        older=older,
        filters=filters,
        is_first=asked.query.after is None,
    )


def asked_events(ctx: Context) -> Asked:
    """Parse the filters of the event log; a tenant may be given by its name."""
    asked = event_query(ctx.params, ctx.now)
    tenant_id = asked.query.tenant_id and ctx.tenant_named(asked.query.tenant_id)
    return asked._replace(query=asked.query._replace(tenant_id=tenant_id))


def history(ctx: Context) -> Response:
    """Show who changed what, newest first."""
    after = cursor(ctx.params.get("after", ""))
    rows = ctx.changes(after, PAGE)
    older = place(rows[-1].cursor) if len(rows) == PAGE else None
    return ctx.page("history.html", rows=rows, older=older, is_first=after is None, filters=ctx.change_filters)
