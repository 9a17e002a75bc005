"""The reports over the dictionaries of the memory store: plain scans, since one process holds what it can hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

from ...limits import CounterKey, Limit
from ..entries import NO_SPEND, Entry, Spend, add_spends, add_to_spend, day_of, rows_of_call
from ..plans import Plan, Rules
from ..queries import STANDINGS, Cursor, EventQuery, RefusalQuery, Sort, Standing, TenantQuery
from ..records import Counter, Hold, Refusal, Tenant
from ..reports import (
    FULL_SHARE,
    NEAR_SHARE,
    By,
    Change,
    DaySpend,
    Page,
    Refused,
    ReportRow,
    ReportsTransaction,
    Standings,
    StoredEntry,
    UserDay,
    current_days,
)
from ..transactional_reports import items_of, statuses

R = TypeVar("R", StoredEntry, Change)


class MemoryReports(ReportsTransaction):
    """The primitives of the reports on dictionaries."""

    if TYPE_CHECKING:
        _limits: dict[str, list[Limit]]
        _plans: dict[str, Plan]
        tenants: dict[str, Tenant]
        holds: dict[str, Hold]
        ledger: dict[str, dict[str, Entry]]

        def rules(self, tenant_id: str) -> Rules: ...

        def counter(self, key: CounterKey) -> Counter | None: ...

        @property
        def _rollup(self) -> dict[tuple[str, int, str, str], Spend]: ...

        @property
        def _user_rollup(self) -> dict[tuple[str, int, str, str], Spend]: ...

    _changes: list[Change]
    _refusals: dict[tuple[str, int, str, str], Refusal]

    def tenant_page(self, query: TenantQuery, now: float) -> Page[Tenant]:
        wanted = query.search.lower()
        among = self.tenants if query.tenant_id is None else self.tenants.keys() & {query.tenant_id}
        found = [self.tenants[tenant_id] for tenant_id in sorted(among)]
        found = [tenant for tenant in found if wanted in tenant.tenant_id.lower() or wanted in tenant.name.lower()]
        if query.plan is not None:
            found = [tenant for tenant in found if tenant.plan == query.plan]
        if query.standing is not None:
            shares = self._shares(found, now)
            found = [row for row in found if query.standing in _standing(row, shares.get(row.tenant_id))]
        self._order(found, query.sort, now)
        return Page(found[query.offset :][: query.size], len(found))

    def _order(self, found: list[Tenant], sort: Sort, now: float) -> None:
        """Order tenants that are in the order of their ids."""
        if sort == "name":
            found.sort(key=lambda tenant: (not tenant.name, tenant.name.lower()))
        elif sort == "share":
            shares = self._shares(found, now)
            found.sort(key=lambda tenant: -shares.get(tenant.tenant_id, -1.0))
        elif sort != "id":
            month = self.spends([tenant.tenant_id for tenant in found], current_days(now)[0])
            amount = "calls" if sort == "calls" else "cost_nano"
            found.sort(key=lambda tenant: -getattr(month.get(tenant.tenant_id, NO_SPEND), amount))

    def standings(self, now: float) -> Standings:
        shares = self._shares(list(self.tenants.values()), now)
        found = [name for row in self.tenants.values() for name in _standing(row, shares.get(row.tenant_id))]
        return Standings(len(self.tenants), *map(found.count, STANDINGS))

    def _shares(self, tenants: Sequence[Tenant], now: float) -> dict[str, float]:
        """Return the largest share of a limit that each tenant has spent; a limit of nothing is always used up."""
        shares: dict[str, float] = {}
        items = [
            (tenant.tenant_id, item)
            for tenant in tenants
            for item in items_of(tenant, self.rules(tenant.tenant_id).limits, now)
        ]
        for tenant_id, status in statuses(self, items, now):  # type: ignore[arg-type]
            share = max(0, status.settled) / status.ceiling if status.ceiling else 1.0
            shares[tenant_id] = max(share, shares.get(tenant_id, share))
        return shares

    def limits_of(self, tenant_ids: Collection[str], plans: Collection[str]) -> list[Limit]:
        own = [limit for tenant_id in tenant_ids for limit in self._limits.get(tenant_id, ())]
        return own + [limit for name in plans if name in self._plans for limit in self._plans[name].limits]

    def counters(self, keys: Sequence[CounterKey]) -> dict[CounterKey, Counter]:
        found = ((key, self.counter(key)) for key in keys)
        return {key: counter for key, counter in found if counter is not None}

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

    def user_rollup(self, tenant_id: str, days: range) -> list[UserDay]:
        rows = (UserDay(*key[1:], total) for key, total in self._user_rollup.items() if key[0] == tenant_id)
        return sorted(row for row in rows if row.day in days)

    def report(self, by: By, tenant_id: str | None, days: range, size: int | None = None) -> list[ReportRow]:
        found: dict[str | int, Spend] = {}
        for key, total in self._parts(by, tenant_id, days):
            found[key] = add_spends(found.get(key, NO_SPEND), total)
        left_out = by in ("user", "feature") or size is not None
        rows = [ReportRow(key, total) for key, total in found.items() if key != "" or not left_out]
        return rows if size is None else sorted(rows, key=lambda row: (-row.total.cost_nano, row.key))[:size]

    def _parts(self, by: By, tenant_id: str | None, days: range) -> Iterator[tuple[str | int, Spend]]:
        if by == "session":
            tenants = self.ledger if tenant_id is None else [tenant_id]
            for entry in (entry for name in tenants for entry in self.ledger.get(name, {}).values()):
                if day_of(entry.event.timestamp) in days:
                    yield entry.event.session_id or "", add_to_spend(NO_SPEND, entry)
            return
        totals = self._user_rollup if by in ("user", "feature") else self._rollup
        place = {"day": 1, "provider": 2, "model": 3, "user": 2, "feature": 3}[by]
        for key, total in totals.items():
            if tenant_id in (None, key[0]) and key[1] in days:
                yield key[place], total

    def total(self, tenant_id: str | None, days: range) -> Spend:
        found = NO_SPEND
        for key, total in self._rollup.items():
            if tenant_id in (None, key[0]) and key[1] in days:
                found = add_spends(found, total)
        return found

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
        return Page([hold._replace(items=(), amounts=None) for hold in holds[offset:][:size]], len(holds))

    def add_refusals(self, refusals: Sequence[Refusal]) -> None:
        for refusal in refusals:
            known = self._refusals.get(refusal.key)
            self._refusals[refusal.key] = refusal if known is None else known.plus(refusal)

    def refusals(self, query: RefusalQuery) -> list[Refusal]:
        rows = (row for row in self._refusals.values() if _is_asked(row, query))
        found = sorted(rows, key=lambda row: (-row.minute, row.tenant_id, row.kind, row.limited_by))
        return found[query.offset :][: query.size]

    def refused(self, since: float, tenant_id: str | None) -> list[Refused]:
        found: dict[str, list[Refusal]] = {}
        for row in self._refusals.values():
            if row.minute >= since and tenant_id in (None, row.tenant_id):
                found.setdefault(row.kind, []).append(row)
        counts = [
            Refused(kind, len({row.tenant_id for row in rows}), sum(row.calls for row in rows))
            for kind, rows in found.items()
        ]
        return sorted(counts, key=lambda row: (-row.calls, row.kind))

    def insert_change(self, change: Change) -> None:
        self._changes.append(change._replace(id=len(self._changes) + 1))

    def changes(self, tenant_id: str | None, after: Cursor | None, size: int, actor: str) -> list[Change]:
        of_tenant = (row for row in self._changes if tenant_id in (None, row.tenant_id))
        return _newest([row for row in of_tenant if actor.lower() in row.actor.lower()], after, size)


def _newest(rows: Iterable[R], after: Cursor | None, size: int) -> list[R]:
    rows = (row for row in rows if after is None or row.cursor < after)
    return sorted(rows, key=lambda row: row.cursor, reverse=True)[:size]


def _standing(tenant: Tenant, share: float | None) -> list[Standing]:
    found: list[Standing] = [] if tenant.suspended_at is None else ["suspended"]
    if share is None:
        return [*found, "unlimited"]
    if share >= FULL_SHARE:
        return [*found, "over"]
    return [*found, "near"] if share >= NEAR_SHARE else found


def _is_asked(row: Refusal, query: RefusalQuery) -> bool:
    asked = ((row.tenant_id, query.tenant_id), (row.kind, query.kind), (row.limited_by, query.limited_by))
    return (
        row.minute >= query.start
        and (query.end is None or row.minute < query.end)
        and all(wanted in (None, value) for value, wanted in (*asked, (row.user, query.user)))
    )


def _matches(entry: Entry, query: EventQuery) -> bool:
    event = entry.event
    return (
        (query.kind is None or entry.kind == query.kind)
        and (query.provider is None or event.provider == query.provider)
        and (query.model is None or event.model == query.model)
        and (not query.failed or event.error is not None)
        and (not query.unpriced or entry.cost_nano is None)
        and (not query.estimated or event.tags.get("estimated") is True)
        and (not query.unverified or event.tags.get("unverified") is True)
        and (not query.assumed or "price_assumed" in event.tags)
        and (query.call is None or event.event_id in rows_of_call(query.call) or event.request_id == query.call)
        and (query.start is None or event.timestamp >= query.start)
        and (query.end is None or event.timestamp < query.end)
    )


def _number(entry: Entry) -> int:
    """Number a row the same way each time; its place in a dictionary would change as older ones are pruned."""
    event = entry.event
    return int.from_bytes(
        blake2b(f"{event.event_id}\0{event.tenant_id}".encode("utf-8", "replace"), digest_size=6).digest()
    )
