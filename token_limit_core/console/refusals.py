"""Refused calls: who was refused, why and when, as a page, JSON and CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..limits import REFUSALS
from ..limits.references import parse_reference
from ..stores.queries import RefusalQuery
from ..stores.records import Refusal
from .context import Context
from .queries import PAGE, Dates, dates, page_number
from .tables import BATCH, iso
from .web import Response, error_response

FIELDS = ("reference", "tenant", "kind", "limit", "user", "from", "to")
HEADER = ("minute", "tenant", "kind", "limit", "calls", "last_at", "model", "endpoint", "user", "feature")


def refusals(ctx: Context) -> Response:
    """List refusals, newest first, with the form of their filters."""
    asked = _dates(ctx)
    query = _query(ctx, asked)
    rows = [] if asked.errors else _rows(ctx, asked, query._replace(size=PAGE + 1))
    number = page_number(ctx.params)
    return ctx.page(
        "refusals.html",
        status=400 if asked.errors else 200,
        rows=rows[:PAGE],
        asked=asked,
        kinds=REFUSALS,
        number=number,
        older=number + 1 if len(rows) > PAGE else None,
        filters={name: value for name, value in ctx.params.items() if name in FIELDS},
    )


def refusals_json(ctx: Context) -> Response:
    """Return a page of refusals."""
    asked = _dates(ctx)
    if asked.errors:
        return error_response(ctx.request.path, 400, " ".join(asked.errors.values()))
    rows = _rows(ctx, asked, _query(ctx, asked))
    return ctx.json({"page": page_number(ctx.params), "refusals": [refusal_dict(row) for row in rows]})


def refusals_csv(ctx: Context) -> Response:
    """Return all refusals of the filters."""
    asked = _dates(ctx)
    if asked.errors:
        return error_response(ctx.request.path, 400, " ".join(asked.errors.values()))

    def rows() -> Iterator[list[Any]]:
        query = _query(ctx, asked)._replace(offset=0, size=BATCH)
        while found := ctx.store.refusals(query):
            yield from (list(refusal_dict(row).values()) for row in found)
            query = query._replace(offset=query.offset + BATCH)

    return ctx.csv("refusals", HEADER, rows())


def refusal_dict(row: Refusal) -> dict[str, Any]:
    """Return the refusals of a minute for one reason, with what the last of the calls was."""
    values = (
        iso(row.minute), row.tenant_id, row.kind, row.limited_by, row.calls, iso(row.last_at), row.model,
        row.endpoint, row.user, row.feature,
    )  # fmt: skip
    return dict(zip(HEADER, values, strict=True))


def _dates(ctx: Context) -> Dates:
    asked = dates({name: ctx.params.get(name, "") for name in FIELDS}, ctx.now)
    text = asked.fields["reference"]
    if text and parse_reference(text) is None:
        asked.errors["reference"] = "This is not the reference of a refusal, such as exhausted.20270131T0900Z.9f86d081."
    return asked


def _rows(ctx: Context, asked: Dates, query: RefusalQuery) -> list[Refusal]:
    """Read refusals: those of a reference, where one was given, else those of the other filters."""
    found = parse_reference(asked.fields["reference"])
    if found is None:
        return ctx.store.refusals(query)
    # counted in the minute of the refusal, or in the one before its answer was written
    around = RefusalQuery(start=found.minute - 60, end=found.minute + 60, kind=found.kind, size=BATCH)
    return [row for row in ctx.store.refusals(around) if found.is_of(row.tenant_id)]


def _query(ctx: Context, asked: Dates) -> RefusalQuery:
    fields = asked.fields
    return RefusalQuery(
        tenant_id=ctx.tenant_named(fields["tenant"]),
        start=asked.start,
        end=asked.end,
        kind=fields["kind"] or None,
        limited_by=fields["limit"] or None,
        user=fields["user"] or None,
        offset=(page_number(ctx.params) - 1) * PAGE,
        size=PAGE,
    )
