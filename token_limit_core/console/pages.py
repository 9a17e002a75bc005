"""The pages to look at, and the release of a hold."""

from __future__ import annotations

from ..stores.reports import TenantQuery
from .charts import chart_of
from .context import Visit
from .queries import FILTERS, MARKS, PAGE, PERIODS, cursor, event_query, page_number, period, place, tenant_query
from .web import Response, redirect


def tenants(visit: Visit) -> Response:
    """List tenants with this month's spend against their limits."""
    query = tenant_query(visit.params)
    page = visit.store.tenants(query, visit.now)
    return visit.page("tenants.html", query=query, page=page, number=page_number(visit.params), size=PAGE)


def tenant(visit: Visit) -> Response:
    """Show one tenant: limits, spend by day and by model, the latest changes."""
    tenant_id = visit.params.get("id", "")
    found = visit.store.tenants(TenantQuery(tenant_id=tenant_id), visit.now).rows
    if not found:
        return unknown_tenant(visit)
    chosen = period(visit.params, visit.now)
    limits = visit.store.limits(tenant_id)
    return visit.page(
        "tenant.html",
        usage=found[0],
        states={status.limit.id: status for status in found[0].limits},
        limits=[row for row in limits if not row.ended(visit.now)],
        chosen=chosen,
        periods=PERIODS,
        chart=chart_of(visit.store.rollup(tenant_id, chosen.start, chosen.end), chosen.start, chosen.end),
        changes=visit.store.history(tenant_id, size=5),
        holds=visit.store.hold_page(tenant_id, size=1).total,
    )


def unknown_tenant(visit: Visit) -> Response:
    """Say that a tenant is not there."""
    hint = "Tenants appear with their first event or limit; ids are compared exactly."
    return visit.message(404, "Nothing is known of this tenant", hint)


def holds(visit: Visit) -> Response:
    """List open holds with their age."""
    tenant_id = visit.params.get("tenant")
    number = page_number(visit.params)
    page = visit.store.hold_page(tenant_id, (number - 1) * PAGE, PAGE)
    return visit.page("holds.html", page=page, number=number, size=PAGE, tenant_id=tenant_id)


def release(visit: Visit) -> Response:
    """Give a hold back without a charge; a call that still ends is charged what it really cost."""
    form = visit.request.form
    call_id = form.get("call_id", "")
    done = visit.store.release(call_id, visit.now, visit.actor)
    tenant_id = form.get("tenant") or None
    return redirect(visit.url("holds", tenant=tenant_id, said="released" if done else "late"))


def events(visit: Visit) -> Response:
    """Show the ledger, newest first."""
    asked = event_query(visit.params, visit.now)
    rows = [] if asked.errors else visit.store.events(asked.query)
    older = place(rows[-1].cursor) if len(rows) == asked.query.size else None
    filters = {name: value for name, value in visit.params.items() if name in FILTERS}
    return visit.page(
        "events.html",
        status=400 if asked.errors else 200,
        rows=rows,
        asked=asked,
        marks=MARKS,
        older=older,
        filters=filters,
        is_first=asked.query.after is None,
    )


def history(visit: Visit) -> Response:
    """Show who changed what, newest first."""
    tenant_id = visit.params.get("tenant")
    after = cursor(visit.params.get("after", ""))
    rows = visit.store.history(tenant_id, after, PAGE)
    older = place(rows[-1].cursor) if len(rows) == PAGE else None
    return visit.page("history.html", rows=rows, older=older, is_first=after is None, tenant_id=tenant_id)
