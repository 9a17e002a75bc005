"""The lists as JSON and as CSV. Money is US dollars as text, times are ISO 8601 in UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..cli.output import spend_dict, status_dict
from ..limits import Limit
from ..money import to_usd
from ..stores.queries import Cursor, TenantQuery
from ..stores.records import Hold
from ..stores.reports import KEY_KINDS, Change, DaySpend, StoredEntry, TenantUsage
from ..wording import moment
from .context import Context
from .pages import asked_events
from .queries import cursor, page_number, period, place, tenant_query
from .web import Response, error_response

BATCH = 500
R = TypeVar("R", StoredEntry, Change)


def tenants_json(ctx: Context) -> Response:
    """Return a page of tenants."""
    page = ctx.store.tenants(tenant_query(ctx.params), ctx.now)
    rows = [tenant_dict(row) for row in page.rows]
    return ctx.json({"page": page_number(ctx.params), "total": page.total, "tenants": rows})


def tenants_csv(ctx: Context) -> Response:
    """Return all tenants of a search in batches, in the order shown."""

    def rows() -> Iterator[list[Any]]:
        query = tenant_query(ctx.params)._replace(offset=0, size=BATCH)
        while found := ctx.store.tenants(query, ctx.now).rows:
            for row in found:
                month = row.month
                limits = {status.limit.frequency: status for status in row.limits}
                shown = [
                    amount for frequency in ("per_month", "per_day") for amount in _limit_cells(limits.get(frequency))
                ]
                yield [row.tenant_id, row.name, month.calls, usd(month.cost_nano), month.unpriced, *shown]
            query = query._replace(offset=query.offset + BATCH)

    limits = [f"{name}_{what}_usd" for name in ("month", "day") for what in ("limit", "spent", "held")]
    return ctx.csv("tenants", ["tenant", "name", "calls", "spent_usd", "unpriced", *limits], rows())


def tenant_json(ctx: Context) -> Response:
    """Return one tenant: limits, and spend by day and model."""
    tenant_id = ctx.params.get("id", "")
    found = ctx.store.tenants(TenantQuery(tenant_id=tenant_id), ctx.now).rows
    if not found:
        return error_response(ctx.request.path, 404, "There is no such tenant.")
    chosen = period(ctx.params, ctx.now)
    days = ctx.store.rollup(tenant_id, chosen.start, chosen.end)
    scheduled = [limit_dict(limit) for limit in ctx.store.limits(tenant_id) if limit.effective_from > ctx.now]
    rows = [{"day": _day(row), "provider": row.provider, "model": row.model, **spend_dict(row.total)} for row in days]
    return ctx.json({**tenant_dict(found[0]), "to_come": scheduled, "days": rows})


def tenant_csv(ctx: Context) -> Response:
    """Return a tenant's spend by day, provider and model."""
    chosen = period(ctx.params, ctx.now)
    days = ctx.store.rollup(ctx.params.get("id", ""), chosen.start, chosen.end)
    header = ["day", "provider", "model", "calls", "input_tokens", "output_tokens", "spent_usd", "unpriced"]
    rows = (
        [
            _day(row),
            row.provider,
            row.model,
            row.total.calls,
            row.total.input_tokens,
            row.total.output_tokens,
            usd(row.total.cost_nano),
            row.total.unpriced,
        ]
        for row in days
    )
    return ctx.csv("spend", header, rows)


def events_json(ctx: Context) -> Response:
    """Return a page of the event log, and the cursor of the next page."""
    asked = asked_events(ctx)
    if asked.errors:
        return _cannot_filter(ctx, asked.errors)
    rows = ctx.store.events(asked.query)
    return ctx.json({"events": [event_dict(row) for row in rows], "next": _next(rows, asked.query.size)})


def _cannot_filter(ctx: Context, errors: Mapping[str, str]) -> Response:
    return error_response(ctx.request.path, 400, " ".join(f"{name}: {error}" for name, error in errors.items()))


def events_csv(ctx: Context) -> Response:
    """Return all events of the filters."""
    asked = asked_events(ctx)
    if asked.errors:
        return _cannot_filter(ctx, asked.errors)
    names = ["tenant_id", "provider", "model", "endpoint", "input_tokens", "output_tokens", "cached_tokens"]
    more = ["error", "user", "feature", "session_id", "request_id", "event_id"]

    def rows() -> Iterator[list[Any]]:
        for row in _all(lambda after: ctx.store.events(asked.query._replace(after=after, size=BATCH))):
            event = row.entry.event
            cost = "" if row.entry.cost_nano is None else usd(row.entry.cost_nano)
            yield [
                iso(event.timestamp),
                row.entry.kind,
                *(getattr(event, name) for name in names),
                cost,
                *(getattr(event, name) for name in more),
            ]

    return ctx.csv("events", ["time", "kind", *names, "cost_usd", *more], rows())


def holds_json(ctx: Context) -> Response:
    """Return a page of open holds."""
    page = ctx.store.hold_page(ctx.params.get("tenant"), (page_number(ctx.params) - 1) * 50)
    return ctx.json({"total": page.total, "holds": [hold_dict(hold) for hold in page.rows]})


def holds_csv(ctx: Context) -> Response:
    """Return all open holds."""

    def rows() -> Iterator[list[Any]]:
        offset = 0
        while found := ctx.store.hold_page(ctx.params.get("tenant"), offset, BATCH).rows:
            yield from (list(hold_dict(hold).values()) for hold in found)
            offset += BATCH

    header = ["call_id", "tenant", "held_usd", "created_at", "expires_at", "origin", "process"]
    return ctx.csv("holds", header, rows())


def history_json(ctx: Context) -> Response:
    """Return a page of limit changes, and the cursor of the next page."""
    rows = ctx.changes(cursor(ctx.params.get("after", "")))
    return ctx.json({"changes": [change_dict(row) for row in rows], "next": _next(rows, 50)})


def history_csv(ctx: Context) -> Response:
    """Return all limit changes."""
    rows = _all(lambda after: ctx.changes(after, BATCH))
    header = list(change_dict(Change(0, "", "set", "", "")))
    return ctx.csv("changes", header, (list(change_dict(row).values()) for row in rows))


def tenant_dict(row: TenantUsage) -> dict[str, Any]:
    """Return a tenant's month and limits."""
    limits = [status_dict(status) for status in row.limits]
    return {"tenant": row.tenant_id, "name": row.name, "month": spend_dict(row.month), "limits": limits}


def limit_dict(limit: Limit) -> dict[str, Any]:
    """Return a limit that begins later."""
    begins = iso(limit.effective_from)
    return {"frequency": limit.frequency, "mode": limit.mode, "limit_usd": usd(limit.amount), "begins": begins}


def event_dict(row: StoredEntry) -> dict[str, Any]:
    """Return a ledger row in the form in which events are delivered."""
    cost = row.entry.cost_nano
    event = replace(row.entry.event, cost_usd=None if cost is None else to_usd(cost))
    return {**event.to_dict(), "time": iso(event.timestamp), "kind": row.entry.kind}


def hold_dict(hold: Hold) -> dict[str, Any]:
    """Return an open hold. The hold of an unpriced call has no amount."""
    return {
        "call_id": hold.call_id,
        "tenant": hold.tenant_id,
        "held_usd": None if hold.amount is None else usd(hold.amount),
        "created_at": iso(hold.created_at),
        "expires_at": iso(hold.expires_at),
        "origin": hold.origin,
        "process": hold.process,
    }


def change_dict(row: Change) -> dict[str, Any]:
    """Return a history row: a change of a limit (no amount means no limit), a released hold, or a change of a key."""
    return {
        "time": iso(row.at),
        "actor": row.actor,
        "kind": row.kind,
        "tenant": None if row.kind in KEY_KINDS else row.tenant_id,
        "frequency": row.frequency,
        "old_usd": None if row.old_amount is None else usd(row.old_amount),
        "old_mode": row.old_mode,
        "new_usd": None if row.new_amount is None else usd(row.new_amount),
        "new_mode": row.new_mode,
        "effective_from": None if row.effective_from is None else iso(row.effective_from),
        "api_key": row.filter if row.kind in KEY_KINDS else None,
    }


def iso(seconds: float) -> str:
    """Return a unix time as ISO 8601."""
    return moment(seconds).isoformat(timespec="milliseconds")


def usd(nano: int) -> str:
    """Return nano-dollars as US dollars, exactly."""
    return f"{to_usd(nano):f}"


def _day(row: DaySpend) -> str:
    return iso(row.day * 86400)[:10]


def _limit_cells(status: Any) -> list[Any]:
    if status is None:
        return ["", "", ""]
    return [usd(status.limit.amount), usd(status.settled), usd(status.held)]


def _next(rows: list[R], size: int) -> str | None:
    return place(rows[-1].cursor) if len(rows) == size else None


def _all(read: Callable[[Cursor | None], list[R]]) -> Iterator[R]:
    after: Cursor | None = None
    while rows := read(after):
        yield from rows
        after = rows[-1].cursor
