"""Plans, tenants and credits over the dictionaries of the memory store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...limits import EVERYONE, CounterKey, Limit
from ...limits.filters import Facts
from ...windows import LATEST
from ..entries import REQUESTS_OF, Entry
from ..plans import Plan, PlansTransaction, Rules, TopUp, Total, TotalsQuery
from ..records import Counter, Hold, Refusal, Tenant
from ..reports import Change
from .services import Delivered


class MemoryPlans(PlansTransaction):
    """The primitives on dictionaries."""

    if TYPE_CHECKING:
        holds: dict[str, Hold]
        ledger: dict[str, dict[str, Entry]]
        _changes: list[Change]
        _refusals: dict[tuple[str, int, str, str], Refusal]

        _deliveries: dict[int, Delivered]

        def _forget(self, tenant_id: str | None) -> None: ...

        def _move_totals(self, source: str, target: str | None) -> None: ...

        def move_notices(self, source: str, target: str | None) -> None: ...

        def _forget_users(self, tenant_id: str) -> None: ...

    tenants: dict[str, Tenant]
    _limits: dict[str, list[Limit]]
    _plans: dict[str, Plan]
    _counters: dict[CounterKey, list[int]]
    _ends: dict[CounterKey, float]
    _top_ups: list[TopUp]

    def rules(self, tenant_id: str) -> Rules:
        tenant = self.tenants.get(tenant_id)
        plan = None if tenant is None else tenant.plan
        markup = None if tenant is None else tenant.markup
        limits = list(self._limits.get(tenant_id, ()))
        if tenant_id != EVERYONE:
            limits += self._limits.get(EVERYONE, ())
        if plan in self._plans:
            limits += self._plans[plan].limits
            markup = self._plans[plan].markup if markup is None else markup
        return Rules(limits, plan, tenant is not None and tenant.suspended_at is not None, markup or "")

    # -- plans and tenants ----------------------------------------------------------------------

    def plan(self, name: str) -> Plan | None:
        return self._plans.get(name)

    def all_plans(self) -> list[Plan]:
        on = [tenant.plan for tenant in self.tenants.values()]
        return [plan._replace(tenants=on.count(name)) for name, plan in sorted(self._plans.items())]

    def lock_plan(self, name: str) -> Plan:
        return self._plans.get(name, Plan(name))

    def write_markup(self, name: str, markup: str) -> None:
        self._plans[name] = self.lock_plan(name)._replace(markup=markup)
        self._forget(None)

    def delete_plan(self, name: str) -> None:
        self._plans.pop(name, None)

    def tenant(self, tenant_id: str) -> Tenant | None:
        return self.tenants.get(tenant_id)

    def update_tenant(self, tenant: Tenant) -> None:
        self.tenants[tenant.tenant_id] = tenant
        self._forget(tenant.tenant_id)

    # -- counters -------------------------------------------------------------------------------

    def drop_counters(self, tenant_id: str, limit_ids: Collection[int]) -> None:
        gone = {key for key in self._counters if key.tenant_id == tenant_id and key.limit_id in limit_ids}
        for key in gone:
            del self._counters[key]
            self._ends.pop(key, None)
        self._keep_items(tenant_id, lambda key: key.tenant_id != tenant_id or key.limit_id not in limit_ids)
        self._forget(tenant_id)

    def drop_hold_items(self, tenant_id: str) -> None:
        self._keep_items(tenant_id, lambda key: key.tenant_id == EVERYONE)

    def _keep_items(self, tenant_id: str, kept: object) -> None:
        assert callable(kept)
        for call_id, hold in self.holds.items():
            if hold.tenant_id == tenant_id:
                items = [(key, amount) for key, amount in hold.held_on() if kept(key)]
                keys, amounts = tuple(key for key, _ in items), tuple(amount for _, amount in items)
                self.holds[call_id] = hold._replace(items=keys, amounts=amounts)

    def credit(self, key: CounterKey, extra: int, extra_until: float | None) -> None:
        self._counters[key][3] = extra
        self._ends.pop(key, None)
        if extra_until is not None:
            self._ends[key] = extra_until
        self._forget(None if key.tenant_id == EVERYONE else key.tenant_id)

    def busiest(self, key: CounterKey, most: int) -> list[tuple[str, Counter]]:
        found = [
            (other.subject, Counter(row[0], row[1], row[3], self._ends.get(other)))
            for other, row in self._counters.items()
            if other._replace(subject="") == key._replace(subject="")
        ]
        return sorted(found, key=lambda one: (-one[1].settled - one[1].held, one[0]))[:most]

    def oldest_window(self, now: float) -> int | None:
        ends = ((key.window_start, row[2]) for key, row in self._counters.items())
        return min((start for start, end in ends if start <= now < end < LATEST), default=None)

    # -- top-ups --------------------------------------------------------------------------------

    def top_ups(self, tenant_id: str, frequency: str, filter: str, subject: str) -> list[TopUp]:
        return [row for row in self._top_ups if row[:4] == (tenant_id, frequency, filter, subject)]

    def insert_top_up(self, top_up: TopUp) -> None:
        self._top_ups.append(top_up._replace(id=1 + max((row.id for row in self._top_ups), default=0)))

    def update_top_up(self, top_up: TopUp) -> None:
        self._top_ups = [top_up if row.id == top_up.id else row for row in self._top_ups]

    # -- the ledger -----------------------------------------------------------------------------

    def totals(self, query: TotalsQuery) -> list[Total]:
        found: dict[tuple[Facts, float], Total] = {}
        for row in self._rows(query):
            start = 0.0 if query.seconds is None else row.start // query.seconds * query.seconds
            before = found.get((row.facts, start))
            found[row.facts, start] = row._replace(start=start) if before is None else before.plus(row)
        return sorted(found.values(), key=lambda total: total.start)

    def rows_between(self, query: TotalsQuery) -> Iterable[Total]:
        return sorted(self._rows(query), key=lambda row: row.start)

    def _rows(self, query: TotalsQuery) -> Iterator[Total]:
        tenants = self.ledger.values() if query.tenant_id is None else [self.ledger.get(query.tenant_id, {})]
        hidden: dict[str, Any] = {"provider": "", "model": "", "user": query.user, "feature": None, "requested": None}
        for name in (*query.by, *(("requested",) if "model" in query.by else ())):
            del hidden[name]
        for entry in (entry for rows in tenants for entry in rows.values()):
            event, at = entry.event, entry.event.timestamp
            if query.start <= at < query.end and query.user in (None, event.user):
                requests = REQUESTS_OF.get(entry.kind, 0)
                counts = (1, int(entry.kind == "call"), entry.spent, event.total_tokens, requests, entry.charged)
                yield Total(entry.facts._replace(**hidden), *counts, at, at)

    def first_entry_at(self, tenant_id: str | None) -> float | None:
        tenants = self.ledger.values() if tenant_id is None else [self.ledger.get(tenant_id, {})]
        return min((entry.event.timestamp for rows in tenants for entry in rows.values()), default=None)

    # -- tenants that change --------------------------------------------------------------------

    def move_counters(self, source: str, target: str) -> None:
        for key in [key for key in self._counters if key.tenant_id == source]:
            moved = key._replace(tenant_id=target)
            self._counters[moved] = self._counters.pop(key)
            if key in self._ends:
                self._ends[moved] = self._ends.pop(key)

    def move_rows(self, source: str, target: str) -> None:
        own = self.ledger.setdefault(target, {})
        for event_id, entry in self.ledger.pop(source, {}).items():
            new_id = event_id if event_id not in own else f"{event_id}/{source}"
            own[new_id] = entry._replace(event=replace(entry.event, event_id=new_id, tenant_id=target))
        self._move_totals(source, target)
        self.move_notices(source, target)
        for call_id, hold in self.holds.items():
            if hold.tenant_id == source:
                moved = [key._replace(tenant_id=target) if key.tenant_id == source else key for key in hold.items]
                self.holds[call_id] = hold._replace(tenant_id=target, items=tuple(moved))
        self._top_ups = [row._replace(tenant_id=target) if row.tenant_id == source else row for row in self._top_ups]
        self._changes[:] = [row._replace(tenant_id=target) if row.tenant_id == source else row for row in self._changes]
        self.add_refusals(
            [row._replace(tenant_id=target) for row in self._refusals.values() if row.tenant_id == source]
        )
        self._forget_refusals(source)
        for delivery in self._deliveries.values():
            if delivery.entry.event.tenant_id == source:
                event = replace(delivery.entry.event, tenant_id=target)
                delivery.entry = delivery.entry._replace(event=event)
        self._forget(None)

    def delete_tenant(self, tenant_id: str) -> int:
        self.tenants.pop(tenant_id, None)
        events = len(self.ledger.pop(tenant_id, {}))
        self._move_totals(tenant_id, None)
        for call_id in [call_id for call_id, hold in self.holds.items() if hold.tenant_id == tenant_id]:
            del self.holds[call_id]
        self._forget_people(tenant_id)
        self._forget(tenant_id)
        return events

    def anonymise_rows(self, tenant_id: str) -> int:
        rows = self.ledger.get(tenant_id, {})
        unnamed: dict[str, Any] = dict.fromkeys(("user", "session_id", "request_id", "fim_prefix", "fim_suffix"))
        for event_id, entry in rows.items():
            rows[event_id] = entry._replace(event=replace(entry.event, **unnamed, tags={}))
        self._forget_people(tenant_id)
        return len(rows)

    def _forget_refusals(self, tenant_id: str) -> None:
        self._refusals = {key: row for key, row in self._refusals.items() if row.tenant_id != tenant_id}

    def _forget_people(self, tenant_id: str) -> None:
        self._forget_refusals(tenant_id)
        self.move_notices(tenant_id, None)
        self._top_ups = [row for row in self._top_ups if row.tenant_id != tenant_id]
        self._changes[:] = [row for row in self._changes if row.tenant_id != tenant_id]
        gone = [id for id, row in self._deliveries.items() if row.entry.event.tenant_id == tenant_id]
        for delivery_id in gone:
            del self._deliveries[delivery_id]
        self._forget_users(tenant_id)
