"""Plans, tenants and credits of the SQL stores."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Delete, and_, bindparam, delete, func, null, select, update

from ...limits import EVERYONE, CounterKey, Limit
from ...windows import LATEST
from ..plans import Plan, PlansTransaction, Rules, TopUp
from ..records import Counter, Tenant
from . import statements as sql
from .statements import LIMIT_COLUMNS, MARKUP, TENANT_COLUMNS, listed, one_of, size_for
from .sums import SqlSums
from .tables import (
    counter,
    delivery,
    hold,
    hold_item,
    ledger,
    limit,
    limit_history,
    notice,
    plan,
    refusal,
    rollup,
    tenant,
    top_up,
    user_rollup,
)
from .upserts import Upserts, filled

_THE_TENANT: Any = bindparam("the_tenant")
_LIMIT = [limit.c[name] for name in LIMIT_COLUMNS]
_OF_TENANT = tenant.c.id == _THE_TENANT
_OWN = and_(limit.c.tenant_id == tenant.c.id, limit.c.plan == "")
_ON_ALL = and_(limit.c.tenant_id == EVERYONE, limit.c.plan == "")
_OF_PLAN = and_(limit.c.plan == tenant.c.plan, limit.c.plan != "")

RULES = (
    select(tenant.c.plan, tenant.c.suspended_at, MARKUP, *_LIMIT)
    .select_from(tenant.outerjoin(limit, _OWN).outerjoin(plan, plan.c.name == tenant.c.plan))
    .where(_OF_TENANT)
    .union_all(
        select(tenant.c.plan, tenant.c.suspended_at, null(), *_LIMIT)
        .select_from(tenant.join(limit, _OF_PLAN))
        .where(_OF_TENANT),
        select(null(), null(), null(), *_LIMIT).where(_ON_ALL),
    )
)
"""The state of a tenant beside each limit; one row at least for a tenant that is known."""

_TENANT = select(*TENANT_COLUMNS).where(_OF_TENANT)
_UPDATE_TENANT = (
    update(tenant)
    .where(_OF_TENANT)
    .values({name: bindparam(name) for name in ("name", "plan", "suspended_at", "first_seen", "markup")})
)

_THE_PLAN: Any = bindparam("the_plan")
_PLAN = select(plan.c.name, plan.c.markup).where(plan.c.name == _THE_PLAN)
_PLANS = select(plan.c.name, plan.c.markup).order_by(plan.c.name)
_PLAN_LIMITS = select(*_LIMIT).where(limit.c.plan == _THE_PLAN).order_by(limit.c.id)
_ALL_PLAN_LIMITS = select(*_LIMIT).where(limit.c.plan != "").order_by(limit.c.id)
_ON_PLANS = select(tenant.c.plan, func.count()).where(tenant.c.plan.is_not(None)).group_by(tenant.c.plan)
_LOCK_PLAN = update(plan).where(plan.c.name == _THE_PLAN).values(markup=plan.c.markup)
_MARK_UP = update(plan).where(plan.c.name == _THE_PLAN).values(markup=bindparam("markup"))
_DELETE_PLAN = delete(plan).where(plan.c.name == _THE_PLAN)

_HOLDS_OF = select(hold.c.call_id).where(hold.c.tenant_id == _THE_TENANT)
_DROP_HOLD_ITEMS = delete(hold_item).where(hold_item.c.call_id.in_(_HOLDS_OF), hold_item.c.shared.is_(False))
_CREDIT = update(counter).where(sql.AT_KEY).values(extra=bindparam("the_extra"), extra_until=bindparam("the_end"))
_BUSIEST = (
    select(counter.c.subject, *(counter.c[name] for name in Counter._fields))
    .where(
        counter.c.tenant_id == _THE_TENANT,
        counter.c.limit_id == bindparam("the_limit"),
        counter.c.window_start == bindparam("the_window"),
    )
    .order_by((counter.c.settled + counter.c.held).desc(), counter.c.subject)
    .limit(bindparam("the_most"))
)
_OLDEST_WINDOW = select(func.min(counter.c.window_start)).where(
    counter.c.window_end > bindparam("the_time"), counter.c.window_end < LATEST
)

_TOP_UPS = (
    select(*(top_up.c[name] for name in TopUp._fields))
    .where(
        top_up.c.tenant_id == _THE_TENANT,
        top_up.c.frequency == bindparam("the_frequency"),
        top_up.c.filter == bindparam("the_filter"),
        top_up.c.subject == bindparam("the_subject"),
    )
    .order_by(top_up.c.id)
)
_INSERT_TOP_UP = filled(top_up.insert())
_UPDATE_TOP_UP = (
    update(top_up)
    .where(top_up.c.id == bindparam("the_id"))
    .values({name: bindparam(name) for name in ("left", "lost", "seen")})
)

_ADDED_UP = (rollup, user_rollup, refusal)
_ROWS_OF = {table: select(table).where(table.c.tenant_id == _THE_TENANT) for table in _ADDED_UP}
_MOVED = (ledger, hold, top_up, delivery, notice, limit_history)
_MOVES = [
    update(table).where(table.c.tenant_id == _THE_TENANT).values(tenant_id=bindparam("the_target")) for table in _MOVED
]
_MOVE_COUNTERS = update(counter).where(counter.c.tenant_id == _THE_TENANT).values(tenant_id=bindparam("the_target"))
_OTHER = ledger.alias("other")
_TAKEN_IDS = (
    select(ledger.c.id, ledger.c.event_id)
    .join(_OTHER, _OTHER.c.event_id == ledger.c.event_id)
    .where(ledger.c.tenant_id == _THE_TENANT, _OTHER.c.tenant_id == bindparam("the_target"))
)
_RENAME_EVENT = update(ledger).where(ledger.c.id == bindparam("the_id")).values(event_id=bindparam("the_event"))
_DELETES = [
    delete(hold_item).where(hold_item.c.call_id.in_(_HOLDS_OF)),
    *(
        delete(table).where(table.c.tenant_id == _THE_TENANT)
        for table in (hold, counter, delivery, notice, top_up, limit_history, refusal, rollup, user_rollup)
    ),
    delete(tenant).where(_OF_TENANT),
]
_DELETE_LEDGER = delete(ledger).where(ledger.c.tenant_id == _THE_TENANT)
_FORGET_PEOPLE = [
    delete(table).where(table.c.tenant_id == _THE_TENANT)
    for table in (top_up, limit_history, delivery, notice, refusal, user_rollup)
]
_ANONYMISE = (
    update(ledger)
    .where(ledger.c.tenant_id == _THE_TENANT)
    .values(user=None, session_id=None, request_id=None, details=bindparam("the_details"))
)


@cache
def _drop_counters(size: int) -> tuple[Delete, ...]:
    """Delete a tenant's counters of limits; first those, which waits for an admission in flight."""
    own = delete(counter).where(counter.c.tenant_id == _THE_TENANT, one_of(counter.c.limit_id, "the_ids", size))
    items = delete(hold_item).where(hold_item.c.call_id.in_(_HOLDS_OF), one_of(hold_item.c.limit_id, "the_ids", size))
    return own, items


@lru_cache(maxsize=1024)  # making a Limit costs as much as reading its row, and most calls find the same rows
def _rules_of(rows: tuple[tuple[Any, ...], ...]) -> Rules:
    limits = {row[3 + _ID]: Limit(*row[3:]) for row in rows if row[3 + _ID] is not None}
    plan, suspended_at, markup = next((row[:3] for row in rows if row[2] is not None), (None, None, ""))
    return Rules(list(limits.values()), plan, suspended_at is not None, markup)


class SqlPlans(SqlSums, PlansTransaction):
    """The primitives of plans and tenants on one cursor."""

    _upserts: Upserts
    _run: Callable[..., Any]
    _run_many: Callable[..., None]

    def rules(self, tenant_id: str) -> Rules:
        return _rules_of(tuple(map(tuple, self._rows(RULES, {"the_tenant": tenant_id}))))

    # -- plans and tenants ----------------------------------------------------------------------

    def plan(self, name: str) -> Plan | None:
        known = {"the_plan": name}
        rows = self._rows(_PLAN, known)
        limits = tuple(Limit(*row) for row in self._rows(_PLAN_LIMITS, known))
        return Plan(rows[0][0], rows[0][1], limits) if rows else None

    def all_plans(self) -> list[Plan]:
        limits = [Limit(*row) for row in self._rows(_ALL_PLAN_LIMITS)]
        on = dict(self._rows(_ON_PLANS))
        return [
            Plan(name, markup, tuple(row for row in limits if row.plan == name), on.get(name, 0))
            for name, markup in self._rows(_PLANS)
        ]

    def lock_plan(self, name: str) -> Plan:
        self._run(self._upserts.plan, {"name": name, "markup": ""})
        self._run(_LOCK_PLAN, {"the_plan": name})
        return self.plan(name) or Plan(name)

    def write_markup(self, name: str, markup: str) -> None:
        self._run(_MARK_UP, {"the_plan": name, "markup": markup})

    def delete_plan(self, name: str) -> None:
        self._run(_DELETE_PLAN, {"the_plan": name})

    def tenant(self, tenant_id: str) -> Tenant | None:
        rows = self._rows(_TENANT, {"the_tenant": tenant_id})
        return Tenant(*rows[0]) if rows else None

    def update_tenant(self, tenant: Tenant) -> None:
        self._run(_UPDATE_TENANT, {"the_tenant": tenant.tenant_id, **tenant._asdict()})

    # -- counters and top-ups -------------------------------------------------------------------

    def drop_counters(self, tenant_id: str, limit_ids: Collection[int]) -> None:
        for statement in _drop_counters(size_for(limit_ids)) if limit_ids else ():
            self._run(statement, {"the_tenant": tenant_id, **listed("the_ids", limit_ids)})

    def drop_hold_items(self, tenant_id: str) -> None:
        self._run(_DROP_HOLD_ITEMS, {"the_tenant": tenant_id})

    def credit(self, key: CounterKey, extra: int, extra_until: float | None) -> None:
        self._run(_CREDIT, {**sql.key_row(key), "the_extra": extra, "the_end": extra_until})

    def busiest(self, key: CounterKey, most: int) -> list[tuple[str, Counter]]:
        rows = self._rows(_BUSIEST, {**sql.key_row(key), "the_most": most})
        return [(subject, Counter(*row)) for subject, *row in rows]

    def oldest_window(self, now: float) -> int | None:
        [(start,)] = self._rows(_OLDEST_WINDOW, {"the_time": now})
        return None if start is None else int(start)

    def top_ups(self, tenant_id: str, frequency: str, filter: str, subject: str) -> list[TopUp]:
        known = {"the_frequency": frequency, "the_filter": filter, "the_subject": subject}
        return [TopUp(*row) for row in self._rows(_TOP_UPS, {"the_tenant": tenant_id, **known})]

    def insert_top_up(self, top_up: TopUp) -> None:
        self._run(_INSERT_TOP_UP, top_up._asdict())

    def update_top_up(self, top_up: TopUp) -> None:
        self._run(_UPDATE_TOP_UP, {"the_id": top_up.id, **top_up._asdict()})

    # -- tenants that change --------------------------------------------------------------------

    def move_counters(self, source: str, target: str) -> None:
        self._run(_MOVE_COUNTERS, {"the_tenant": source, "the_target": target})

    def move_rows(self, source: str, target: str) -> None:
        known = {"the_tenant": source, "the_target": target}
        for number, event_id in self._rows(_TAKEN_IDS, known):
            self._run(_RENAME_EVENT, {"the_id": number, "the_event": f"{event_id[:50]}/{number}"})
        for statement in _MOVES:
            self._run(statement, known)
        upserts = (self._upserts.rollup, self._upserts.user_rollup, self._upserts.refusal)
        for table, upsert in zip(_ADDED_UP, upserts, strict=True):
            names = table.columns.keys()
            rows = [dict(zip(names, row, strict=True)) for row in self._rows(_ROWS_OF[table], known)]
            if rows:
                self._run_many(upsert, [{**row, "tenant_id": target} for row in rows])
                self._run(_DELETE_ROWS[table], known)

    def delete_tenant(self, tenant_id: str) -> int:
        known = {"the_tenant": tenant_id}
        events = int(self._run(_DELETE_LEDGER, known).rowcount)
        for statement in _DELETES:
            self._run(statement, known)
        return events

    def anonymise_rows(self, tenant_id: str) -> int:
        known = {"the_tenant": tenant_id}
        for statement in _FORGET_PEOPLE:
            self._run(statement, known)
        return int(self._run(_ANONYMISE, {**known, "the_details": "{}"}).rowcount)


_ID = LIMIT_COLUMNS.index("id")
_DELETE_ROWS = {table: delete(table).where(table.c.tenant_id == _THE_TENANT) for table in _ADDED_UP}
