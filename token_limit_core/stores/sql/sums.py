"""Sums of the ledger of the SQL stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, case, func, or_, select

from ...limits.filters import Facts
from ..entries import REQUESTS_OF
from ..plans import Total, TotalsQuery
from .dialects import Texts
from .statements import CHARGE_NANO, IS_CALL, whole
from .tables import ledger

BATCH = 5000
"""Rows of the ledger that are read at a time."""

_THE_TENANT: Any = bindparam("the_tenant")
_FIRST = select(func.min(ledger.c.timestamp))
_FIRST_OF = _FIRST.where(ledger.c.tenant_id == _THE_TENANT)

_AMOUNTS = {
    "rows": func.count(),
    "calls": func.count(case((IS_CALL, 1))),
    "cost": func.coalesce(func.sum(ledger.c.cost_nano), 0),
    "tokens": func.coalesce(func.sum(ledger.c.total_tokens), 0),
    "requests": func.coalesce(func.sum(case(REQUESTS_OF, value=ledger.c.kind, else_=0)), 0),
    "charge": func.coalesce(func.sum(CHARGE_NANO), 0),
}
_COLUMNS_BY = {
    "provider": (ledger.c.provider,),
    "model": (ledger.c.model, ledger.c.requested_model),
    "user": (ledger.c.user,),
    "feature": (ledger.c.feature,),
}


def _facts(by: tuple[str, ...]) -> list[ColumnElement[Any]]:
    return [column for name in by for column in _COLUMNS_BY[name]]


@lru_cache(maxsize=10_000)
def _facts_of(by: tuple[str, ...], user: str | None, *values: str | None) -> Facts:
    names = [name for key in by for name in (("model", "requested") if key == "model" else (key,))]
    known = {"user": user, **dict(zip(names, values, strict=True))}
    return Facts(**{name: value for name, value in known.items() if value is not None})


def _between(of_tenant: bool, of_user: bool) -> list[ColumnElement[bool]]:
    conditions = [ledger.c.timestamp >= bindparam("the_start"), ledger.c.timestamp < bindparam("the_end")]
    if of_tenant:
        conditions.append(ledger.c.tenant_id == _THE_TENANT)
    if of_user:
        conditions.append(ledger.c.user == bindparam("the_user"))
    return conditions


@cache
def _totals(of_tenant: bool, of_user: bool, by: tuple[str, ...], seconds: int | None, dialect: str) -> Select[Any]:
    facts = _facts(by)
    times = [] if seconds is None else [whole(ledger.c.timestamp / seconds, dialect).label("length")]
    first = func.min(case((IS_CALL, ledger.c.timestamp)))
    rows = select(*times, *facts, *(amount.label(name) for name, amount in _AMOUNTS.items()), first.label("first"))
    rows = rows.where(*_between(of_tenant, of_user)).group_by(*times, *facts)
    return rows.order_by(*times)


@cache
def _rows(of_tenant: bool, of_user: bool, by: tuple[str, ...]) -> Select[Any]:
    after = or_(ledger.c.timestamp > bindparam("the_start"), ledger.c.id > bindparam("the_id"))
    rows = select(
        ledger.c.id,
        ledger.c.timestamp,
        ledger.c.kind,
        func.coalesce(ledger.c.cost_nano, 0),
        func.coalesce(CHARGE_NANO, 0),
        ledger.c.total_tokens,
        *_facts(by),
    )
    return rows.where(*_between(of_tenant, of_user), after).order_by(ledger.c.timestamp, ledger.c.id).limit(BATCH)


class SqlSums:
    """The queries that add up rows of the ledger, on one cursor."""

    _texts: Texts
    _rows: Callable[..., list[Any]]

    def totals(self, query: TotalsQuery) -> list[Total]:
        found: list[Total] = []
        of_tenant, of_user = query.tenant_id is not None, query.user is not None
        statement = _totals(of_tenant, of_user, query.by, query.seconds, self._texts.name)
        for row in self._rows(statement, _known(query)):
            length, values = (None, row) if query.seconds is None else (row[0], row[1:])
            *facts, rows, calls, cost, tokens, requests, charge, first = values
            start = 0.0 if length is None else float(int(length) * (query.seconds or 0))
            sums = (int(rows), int(calls), int(cost), int(tokens), int(requests), int(charge))  # some sum to Decimal
            found.append(
                Total(_facts_of(query.by, query.user, *facts), *sums, start, start if first is None else first)
            )
        return found

    def rows_between(self, query: TotalsQuery) -> Iterator[Total]:
        statement = _rows(query.tenant_id is not None, query.user is not None, query.by)
        known = {**_known(query), "the_id": -1}
        while True:
            batch = self._rows(statement, known)
            for _, at, kind, cost, charge, tokens, *facts in batch:
                counts = (1, int(kind == "call"), cost, tokens, REQUESTS_OF.get(kind, 0), charge)
                yield Total(_facts_of(query.by, query.user, *facts), *counts, at, at)
            if len(batch) < BATCH:
                return
            known = {**known, "the_start": batch[-1][1], "the_id": batch[-1][0]}

    def first_entry_at(self, tenant_id: str | None) -> float | None:
        statement = _FIRST if tenant_id is None else _FIRST_OF
        [(first,)] = self._rows(statement, {"the_tenant": tenant_id})
        return None if first is None else float(first)


def _known(query: TotalsQuery) -> Mapping[str, Any]:
    return {"the_tenant": query.tenant_id, "the_start": query.start, "the_end": query.end, "the_user": query.user}
