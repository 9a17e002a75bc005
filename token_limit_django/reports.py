"""The primitives of the reports, in the words of the ORM."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from django.db.models import Case, F, FloatField, Model, OuterRef, Q, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Cast, Coalesce, Greatest

from token_limit_core import limits as core
from token_limit_core.limits import CounterKey
from token_limit_core.stores import records
from token_limit_core.stores.columns import read_entry
from token_limit_core.stores.records import Spend
from token_limit_core.stores.reports import (
    Change,
    Cursor,
    DaySpend,
    EventQuery,
    Page,
    ReportsTransaction,
    StoredEntry,
    TenantQuery,
    current_days,
)
from token_limit_core.windows import PER_DAY

from .models import Counter, Hold, LedgerEntry, Limit, LimitChange, Rollup, Tenant

M = TypeVar("M", bound=Model)

LIMIT_COLUMNS = tuple(field.name for field in fields(core.Limit))
HOLD_COLUMNS = tuple(name for name in records.Hold._fields if name != "items")


class OrmReports(ReportsTransaction):
    """The primitives of the reports on one database alias."""

    if TYPE_CHECKING:

        def _rows(self, model: type[M]) -> QuerySet[M]: ...

    def tenant_page(self, query: TenantQuery, now: float) -> Page[tuple[str, str]]:
        found = self._rows(Tenant).all() if query.tenant_id is None else self._rows(Tenant).filter(id=query.tenant_id)
        if query.search:
            found = found.filter(Q(id__icontains=query.search) | Q(name__icontains=query.search))
        total = found.count()
        if query.sort == "spend":
            spent = self._spent(current_days(now)[0], OuterRef("id"))
            rows = found.order_by(Coalesce(spent, 0).desc(), "id")
        elif query.sort == "share":
            rows = found.order_by(Coalesce(self._share(now), -1.0).desc(), "id")
        else:
            rows = found.order_by("id")
        return Page(list(rows.values_list("id", "name")[query.offset : query.offset + query.size]), total)

    def limits_of(self, tenant_ids: Collection[str]) -> list[core.Limit]:
        rows = self._rows(Limit).filter(tenant_id__in=tenant_ids).order_by("id")
        return [core.Limit(**row) for row in rows.values(*LIMIT_COLUMNS)]

    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, tuple[int, int]]:
        rows = self._rows(Counter).filter(
            tenant_id__in={key.tenant_id for key in keys},
            limit_id__in={key.limit_id for key in keys},
            window_start__in={key.window_start for key in keys},
        )
        found = rows.values_list(*CounterKey._fields, "settled", "held")
        return {CounterKey(*key): (settled, held) for *key, settled, held in found}

    def spends(self, tenant_ids: Collection[str], days: range) -> dict[str, Spend]:
        rows = self._rows(Rollup).filter(tenant_id__in=tenant_ids, **_within(days)).values("tenant_id").order_by()
        sums = rows.annotate(**{f"sum_{name}": Sum(name) for name in Spend._fields})
        found = sums.values_list("tenant_id", *(f"sum_{name}" for name in Spend._fields))
        return {tenant_id: Spend(*map(int, total)) for tenant_id, *total in found}

    def rollup(self, tenant_id: str, days: range) -> list[DaySpend]:
        key = ("day", "provider", "model")
        rows = self._rows(Rollup).filter(tenant_id=tenant_id, **_within(days)).order_by(*key)
        found = rows.values_list(*key, *Spend._fields)
        return [DaySpend(day, provider, model, Spend(*total)) for day, provider, model, *total in found]

    def entries(self, query: EventQuery) -> list[StoredEntry]:
        rows = _newest(self._rows(LedgerEntry).filter(_conditions(query)), "timestamp", query.after)
        return [StoredEntry(row["id"], read_entry(row)) for row in rows.values()[: query.size]]

    def hold_page(self, tenant_id: str | None, offset: int, size: int) -> Page[records.Hold]:
        found = self._rows(Hold).filter(state="open")
        if tenant_id is not None:
            found = found.filter(tenant_id=tenant_id)
        rows = found.order_by("created_at", "call_id").values(*HOLD_COLUMNS)[offset : offset + size]
        return Page([records.Hold(**row) for row in rows], found.count())

    def insert_change(self, change: Change) -> None:
        row = change._asdict()
        del row["id"]
        self._rows(LimitChange).create(**row)

    def changes(self, tenant_id: str | None, after: Cursor | None, size: int) -> list[Change]:
        rows = self._rows(LimitChange).all()
        if tenant_id is not None:
            rows = rows.filter(tenant_id=tenant_id)
        return [Change(**row) for row in _newest(rows, "at", after).values(*Change._fields)[:size]]

    def _spent(self, days: range, tenant_id: OuterRef) -> Subquery:
        """Sum some days of each tenant: a look along its own part of the primary key."""
        rows = self._rows(Rollup).filter(tenant_id=tenant_id, **_within(days)).values("tenant_id").order_by()
        return Subquery(rows.annotate(total=Sum("cost_nano")).values("total"))

    def _share(self, now: float) -> Subquery:
        """Give the largest share of a limit that each tenant has spent; a limit of nothing is always used up."""
        month, day = (self._spent(days, OuterRef("tenant_id")) for days in current_days(now))
        spent = Coalesce(Case(When(frequency=PER_DAY, then=day), default=month), 0)
        part = Cast(Greatest(spent, 0), FloatField()) / F("amount")
        share = Case(When(amount=0, then=Value(1.0)), default=part)
        in_force = Q(effective_until=None) | Q(effective_until__gt=now)
        rows = self._rows(Limit).filter(in_force, tenant_id=OuterRef("id"), effective_from__lte=now)
        largest = rows.annotate(share=share).order_by(F("share").desc())
        return Subquery(largest.values("share")[:1], output_field=FloatField())


def _within(days: range) -> dict[str, int]:
    return {"day__gte": days.start, "day__lt": days.stop}


def _conditions(query: EventQuery) -> Q:
    conditions = {
        "tenant_id": query.tenant_id,
        "provider": query.provider,
        "model": query.model,
        "error__isnull": False if query.failed else None,
        "cost_nano__isnull": query.unpriced or None,
        "details__tags__estimated": query.estimated or None,
        "timestamp__gte": query.start,
        "timestamp__lt": query.end,
    }
    return Q(**{name: value for name, value in conditions.items() if value is not None})


def _newest(rows: QuerySet[M], time: str, after: Cursor | None) -> QuerySet[M]:
    if after is not None:
        earlier: dict[str, Any] = {f"{time}__lt": after.time}
        rows = rows.filter(Q(**earlier) | Q(**{time: after.time, "id__lt": after.id}), **{f"{time}__lte": after.time})
    return rows.order_by(f"-{time}", "-id")
