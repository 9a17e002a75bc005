"""The primitives of the shared ledger algorithm, in the words of the ORM.

No SELECT FOR UPDATE: locks are taken by conditional updates, the same on every engine. A tenant's row is locked
before anything is written to its ledger, so look-before-insert is safe there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from django.db.models import Count, F, Model, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan

from token_limit_core import limits as core
from token_limit_core.limits import CounterKey
from token_limit_core.stores import records
from token_limit_core.stores.columns import batched, ledger_row, rollup_row, rollup_rows
from token_limit_core.stores.contract import Transaction
from token_limit_core.stores.records import Entry, Spend

from .models import Counter, Hold, HoldItem, LedgerEntry, Limit, Rollup, Tenant
from .peers import OrmPeers
from .reports import HOLD_COLUMNS, LIMIT_COLUMNS, OrmReports

M = TypeVar("M", bound=Model)


class OrmTransaction(OrmReports, OrmPeers, Transaction):
    """The primitives on one database alias."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def lock_tenant(self, tenant_id: str, now: float) -> bool:
        row = self._rows(Tenant).filter(id=tenant_id)
        lock = {"first_seen": F("first_seen")}
        if row.update(**lock):
            return False
        self._rows(Tenant).bulk_create([Tenant(id=tenant_id, first_seen=now)], ignore_conflicts=True)
        row.update(**lock)
        return True

    def limits(self, tenant_id: str) -> list[core.Limit]:
        rows = self._rows(Limit).filter(tenant_id=tenant_id).order_by("id")
        return [core.Limit(**row) for row in rows.values(*LIMIT_COLUMNS)]

    def insert_limit(self, limit: core.Limit) -> core.Limit:
        return replace(limit, id=self._rows(Limit).create(**_columns(limit)).id)

    def update_limit(self, limit: core.Limit) -> None:
        self._rows(Limit).filter(id=limit.id).update(**_columns(limit))

    def delete_limits(self, ids: Sequence[int]) -> None:
        # counters first: this waits for an admission in flight, whose hold items are then seen
        self._rows(Counter).filter(limit_id__in=ids).delete()
        self._rows(HoldItem).filter(limit_id__in=ids).delete()
        self._rows(Limit).filter(id__in=ids).delete()

    def counter(self, key: CounterKey) -> tuple[int, int] | None:
        return next(iter(self._counter(key).values_list("settled", "held")), None)

    def open_counter(self, key: CounterKey, window_end: int, settled: int) -> None:
        row = Counter(**key._asdict(), window_end=window_end, settled=settled)
        self._rows(Counter).bulk_create([row], ignore_conflicts=True)

    def take(self, key: CounterKey, amount: int, bounded: bool) -> bool:
        row = self._counter(key)
        if bounded:
            ceiling = Subquery(self._rows(Limit).filter(id=key.limit_id).values("amount"))
            row = row.filter(LessThan(F("settled") + F("held"), ceiling))
        return bool(row.update(held=F("held") + amount))

    def charge(self, key: CounterKey, settled: int, held: int) -> None:
        self._counter(key).update(settled=F("settled") + settled, held=F("held") + held)

    def insert_hold(self, hold: records.Hold) -> None:
        self._rows(Hold).bulk_create([Hold(**{name: getattr(hold, name) for name in HOLD_COLUMNS})])
        self._rows(HoldItem).bulk_create(
            HoldItem(call_id=hold.call_id, limit_id=key.limit_id, window_start=key.window_start, amount=hold.held)
            for key in hold.items
        )

    def hold(self, call_id: str) -> records.Hold | None:
        return next(iter(self._holds(self._rows(Hold).filter(call_id=call_id))), None)

    def close_hold(self, call_id: str, state: str, was: str = "open") -> bool:
        return bool(self._rows(Hold).filter(call_id=call_id, state=was).update(state=state))

    def renew_hold(self, call_id: str, expires_at: float) -> bool:
        return bool(self._rows(Hold).filter(call_id=call_id, state="open").update(expires_at=expires_at))

    def open_holds(self, tenant_id: str | None, expired_at: float | None = None) -> list[records.Hold]:
        rows = self._rows(Hold).filter(state="open").order_by("created_at", "call_id")
        if tenant_id is not None:
            rows = rows.filter(tenant_id=tenant_id)
        if expired_at is not None:
            rows = rows.filter(expires_at__lte=expired_at)
        return self._holds(rows)

    def insert_entry(self, entry: Entry) -> bool:
        event = entry.event
        if self._rows(LedgerEntry).filter(tenant_id=event.tenant_id, event_id=event.event_id).exists():
            return False
        self._rows(LedgerEntry).bulk_create([LedgerEntry(**ledger_row(entry))])
        return True

    def known_events(self, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
        rows = self._rows(LedgerEntry).filter(tenant_id=tenant_id)
        return {
            event_id
            for some in batched(event_ids)
            for event_id in rows.filter(event_id__in=some).values_list("event_id", flat=True)
        }

    def held_calls(self, call_ids: Sequence[str]) -> set[str]:
        return {
            call_id
            for some in batched(call_ids)
            for call_id in self._rows(Hold).filter(call_id__in=some).values_list("call_id", flat=True)
        }

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        self._rows(LedgerEntry).bulk_create([LedgerEntry(**ledger_row(entry)) for entry in entries], batch_size=500)

    def roll_up(self, entry: Entry) -> None:
        self._add_to_rollup(rollup_row(entry))

    def roll_up_all(self, entries: Sequence[Entry]) -> None:
        for row in rollup_rows(entries):
            self._add_to_rollup(row)

    def _add_to_rollup(self, row: dict[str, Any]) -> None:
        key = {name: row.pop(name) for name in ("tenant_id", "day", "provider", "model")}
        if not self._rows(Rollup).filter(**key).update(**{name: F(name) + more for name, more in row.items()}):
            self._rows(Rollup).bulk_create([Rollup(**key, **row)])

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        calls = Q(kind="call")
        rows = self._rows(LedgerEntry).filter(tenant_id=tenant_id, timestamp__gte=start, timestamp__lt=end)
        totals = rows.aggregate(
            calls=Count("id", filter=calls),
            unpriced=Count("id", filter=calls & Q(cost_nano=None)),
            **{name: Coalesce(Sum(name), 0) for name in ("input_tokens", "output_tokens", "cost_nano")},
        )
        return Spend(**totals)

    def prune(self, before: float) -> tuple[int, int, int]:
        closed = self._rows(Hold).filter(created_at__lt=before).exclude(state="open")
        events, _ = self._rows(LedgerEntry).filter(timestamp__lt=before).delete()
        self._rows(HoldItem).filter(call_id__in=closed.values("call_id")).delete()
        holds, _ = closed.delete()
        counters, _ = self._rows(Counter).filter(window_end__lte=before).delete()
        return events, holds, counters

    def _rows(self, model: type[M]) -> QuerySet[M]:
        return model._base_manager.using(self._alias)

    def _counter(self, key: CounterKey) -> QuerySet[Counter]:
        return self._rows(Counter).filter(**key._asdict())

    def _holds(self, rows: QuerySet[Hold]) -> list[records.Hold]:
        holds = {row["call_id"]: records.Hold(**row) for row in rows.values(*HOLD_COLUMNS)}
        items = self._rows(HoldItem).filter(call_id__in=rows.order_by().values("call_id")).order_by("limit_id")
        for call_id, limit_id, window_start in items.values_list("call_id", "limit_id", "window_start"):
            if call_id in holds:  # not one that came between the two queries
                hold = holds[call_id]
                key = CounterKey(hold.tenant_id, limit_id, window_start)
                holds[call_id] = hold._replace(items=(*hold.items, key))
        return list(holds.values())


def _columns(limit: core.Limit) -> dict[str, Any]:
    columns = asdict(limit)
    del columns["id"]
    return columns
