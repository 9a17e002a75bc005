"""The reports over the dictionaries of the memory store: plain scans, since one process holds what it can hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

from ...limits import CounterKey, Limit
from ...windows import PER_DAY
from ..records import NO_SPEND, Entry, Hold, Spend, add_spends
from ..reports import (
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

R = TypeVar("R", StoredEntry, Change)


class MemoryReports(ReportsTransaction):
    """The primitives of the reports on dictionaries."""

    if TYPE_CHECKING:
        _limits: dict[str, list[Limit]]
        _counters: dict[CounterKey, list[int]]
        holds: dict[str, Hold]
        ledger: dict[str, dict[str, Entry]]

        @property
        def _rollup(self) -> dict[tuple[str, int, str, str], Spend]: ...

    _changes: list[Change]

    def tenant_page(self, query: TenantQuery, now: float) -> Page[tuple[str, str]]:
        wanted = query.search.lower()
        among = self.ledger if query.tenant_id is None else self.ledger.keys() & {query.tenant_id}
        ids = sorted(tenant_id for tenant_id in among if wanted in tenant_id.lower())
        if query.sort != "id":
            month, day = (self.spends(ids, days) for days in current_days(now))

            def spend(tenant_id: str, frequency: str = "") -> int:
                return (day if frequency == PER_DAY else month).get(tenant_id, NO_SPEND).cost_nano

            def share(tenant_id: str) -> float:
                limits = (limit for limit in self._limits.get(tenant_id, ()) if limit.in_force(now))
                shares = (max(0, spend(tenant_id, row.frequency)) / row.amount if row.amount else 1.0 for row in limits)
                return max(shares, default=-1.0)

            ids.sort(key=spend if query.sort == "spend" else share, reverse=True)
        return Page([(tenant_id, "") for tenant_id in ids[query.offset :][: query.size]], len(ids))

    def limits_of(self, tenant_ids: Collection[str]) -> list[Limit]:
        return [limit for tenant_id in tenant_ids for limit in self._limits.get(tenant_id, ())]

    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, tuple[int, int]]:
        found = ((key, self._counters.get(key)) for key in keys)
        return {key: (row[0], row[1]) for key, row in found if row is not None}

    def spends(self, tenant_ids: Collection[str], days: range) -> dict[str, Spend]:
        wanted = set(tenant_ids)
        totals: dict[str, Spend] = {}
        for (tenant_id, day, *_), total in self._rollup.items():
            if tenant_id in wanted and day in days:
                totals[tenant_id] = add_spends(totals.get(tenant_id, NO_SPEND), total)
        return totals

    def rollup(self, tenant_id: str, days: range) -> list[DaySpend]:
        rows = (DaySpend(*key[1:], total) for key, total in self._rollup.items() if key[0] == tenant_id)
        return sorted(row for row in rows if row.day in days)

    def entries(self, query: EventQuery) -> list[StoredEntry]:
        tenants = self.ledger if query.tenant_id is None else [query.tenant_id]
        rows = [
            StoredEntry(_number(entry), entry)
            for tenant_id in tenants
            for entry in self.ledger.get(tenant_id, {}).values()
            if _matches(entry, query)
        ]
        return _newest(rows, query.after, query.size)

    def hold_page(self, tenant_id: str | None, offset: int, size: int) -> Page[Hold]:
        holds = [h for h in self.holds.values() if h.state == "open" and tenant_id in (None, h.tenant_id)]
        holds.sort(key=lambda hold: (hold.created_at, hold.call_id))
        return Page([hold._replace(items=()) for hold in holds[offset:][:size]], len(holds))

    def insert_change(self, change: Change) -> None:
        self._changes.append(change._replace(id=len(self._changes) + 1))

    def changes(self, tenant_id: str | None, after: Cursor | None, size: int) -> list[Change]:
        return _newest([row for row in self._changes if tenant_id in (None, row.tenant_id)], after, size)


def _newest(rows: Iterable[R], after: Cursor | None, size: int) -> list[R]:
    rows = (row for row in rows if after is None or row.cursor < after)
    return sorted(rows, key=lambda row: row.cursor, reverse=True)[:size]


def _matches(entry: Entry, query: EventQuery) -> bool:
    event = entry.event
    return (
        (query.provider is None or event.provider == query.provider)
        and (query.model is None or event.model == query.model)
        and (not query.failed or event.error is not None)
        and (not query.unpriced or entry.cost_nano is None)
        and (not query.estimated or event.tags.get("estimated") is True)
        and (query.start is None or event.timestamp >= query.start)
        and (query.end is None or event.timestamp < query.end)
    )


def _number(entry: Entry) -> int:
    """Number a row the same way each time; its place in a dictionary would change as older ones are pruned."""
    event = entry.event
    return int.from_bytes(
        blake2b(f"{event.event_id}\0{event.tenant_id}".encode("utf-8", "replace"), digest_size=6).digest()
    )
