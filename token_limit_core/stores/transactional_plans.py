"""Plans, credits and corrections, once, for every store with transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..errors import LimitChanged
from ..events import LLMEvent
from ..limits import EVERYONE, USD, Item, Limit, LimitStatus, in_force, key_of
from ..limits.filters import NO_FACTS, Facts
from ..runtime.faults import ConfigurationError, shown
from ..runtime.ids import new_id as new_event_id
from ..runtime.language import ENGLISH, speaking
from ..wording import limit_line
from . import counters, ledger
from .entries import Entry
from .plans import Plan, Plans, Preview, Progress, TopUp
from .previews import preview
from .running import Running
from .transaction import Transaction
from .transactional_limits import place
from .transactional_tenants import change_tenant, known_tenant, leave_plan, made_change


class TransactionalPlans(Running, Plans):
    """The part of a store that manages plans and money."""

    # -- plans ----------------------------------------------------------------------------------

    def plans(self) -> list[Plan]:
        return self._read(lambda tx: tx.all_plans())

    def set_plan(
        self,
        name: str,
        limits: Sequence[Limit],
        now: float,
        markup: str = "",
        by: str = "",
        expected: Plan | None = None,
    ) -> Plan:
        def work(tx: Transaction) -> Plan:
            known = tx.lock_plan(name)
            rows = list(known.limits)
            if expected is not None and (expected.markup, set(expected.limits)) != (known.markup, set(rows)):
                raise LimitChanged("the plan was changed since it was read")
            tx.write_markup(name, markup)
            identities = {limit.identity for limit in limits}
            gone = [row.id for row in rows if row.identity not in identities]
            if gone:
                tx.delete_limits(gone)
            placed = []
            for limit in limits:
                same = [row for row in rows if row.identity == limit.identity]
                placed.append(place(tx, same, replace(limit, effective_from=now), now)[0])
            tx.insert_change(made_change("set-plan", "", now, by, plan=name, note=_in_words(markup, placed)))
            counters.notice_limits(tx, placed, now)
            return Plan(name, markup, tuple(placed))

        return self._run(work)

    def remove_plan(self, name: str, now: float, by: str = "") -> bool:
        def work(tx: Transaction) -> bool:
            found = next((plan for plan in tx.all_plans() if plan.name == name), None)
            if found is None:
                return False
            if found.tenants:
                raise ConfigurationError(
                    f"plan: {shown(name)} has {found.tenants} tenants; put them on another plan first"
                )
            tx.delete_limits([limit.id for limit in found.limits])
            tx.delete_plan(name)
            tx.insert_change(made_change("remove-plan", "", now, by, plan=name))
            return True

        return self._run(work)

    def assign_plan(self, tenant_id: str, plan: str | None, now: float, by: str = "", *, first: bool = False) -> bool:
        def work(tx: Transaction) -> bool:
            tx.lock_tenant(tenant_id, now)
            before = known_tenant(tx, tenant_id)
            if before.plan == (plan or "") or (first and before.plan is not None):
                return False
            if plan is not None and not first and tx.plan(plan) is None:
                known = ", ".join(repr(one.name) for one in tx.all_plans()) or "none; make one with set_plan"
                raise ConfigurationError(f"plan: unknown plan {shown(plan)}; known plans are {known}")
            leave_plan(tx, before)
            tx.update_tenant(before._replace(plan=plan or ""))
            note = f"before: {before.plan}" if before.plan else ""
            tx.insert_change(made_change("assign-plan", tenant_id, now, by, plan=plan or "", note=note))
            return True

        return self._run(work)

    def set_markup(self, tenant_id: str, markup: str | None, now: float, by: str = "") -> bool:
        change = made_change("markup", tenant_id, now, by, note="" if markup is None else f"{markup} %")
        return self._run(lambda tx: change_tenant(tx, change, markup=markup))

    # -- money ----------------------------------------------------------------------------------

    def top_up(
        self,
        tenant_id: str,
        frequency: str,
        amount: int,
        now: float,
        *,
        filter: str = "",
        user: str = "",
        expires_at: float | None = None,
        by: str = "",
    ) -> LimitStatus:
        def work(tx: Transaction) -> LimitStatus:
            tx.lock_tenant(tenant_id, now)
            item = _topped_up(tx, tenant_id, frequency, filter, user, now)
            counter = counters.open_window(tx, item, tenant_id, now)
            burnt = counters.burn(counters.top_ups_of(tx, item), counter.settled, now)
            for row in burnt:
                tx.update_top_up(row)
            left = 0 if expires_at is None else amount
            owner = item.key.tenant_id
            row = TopUp(owner, frequency, filter, user, amount, now, expires_at, left, 0, counter.settled)
            tx.insert_top_up(row)
            extra, extra_until = counters.extra_of(counters.top_ups_of(tx, item))
            tx.credit(item.key, extra, extra_until)
            counters.notice(tx, item.key, item.limit, now)
            change = made_change("top-up", tenant_id, now, by, plan=item.limit.plan)
            tx.insert_change(change._replace(frequency=frequency, filter=filter, new_amount=amount, note=user))
            return LimitStatus(item.limit, item.window, counter.settled, counter.held, extra, user)

        return self._run(work)

    def adjust(
        self, tenant_id: str, amount: int, now: float, reason: str = "", by: str = "", facts: Facts = NO_FACTS
    ) -> Entry:
        event = LLMEvent(
            new_event_id(),
            tenant_id,
            provider=facts.provider or "adjustment",
            model=facts.model,
            user=facts.user,
            feature=facts.feature,
            endpoint="adjustment",
            timestamp=now,
            tags={"reason": reason} if reason else {},
        )
        entry = Entry(event, amount, kind="adjustment")

        def work(tx: Transaction) -> Entry:
            tx.lock_tenant(tenant_id, now)
            ledger.append(tx, entry, now)
            change = made_change("adjust", tenant_id, now, by, note=reason)
            tx.insert_change(change._replace(new_amount=amount))
            return entry

        return self._run(work)

    def correct(self, entries: Sequence[Entry], now: float, by: str = "") -> int:
        tenants: dict[str, list[Entry]] = {}
        for entry in entries:
            tenants.setdefault(entry.event.tenant_id, []).append(entry)

        def work(tx: Transaction, tenant_id: str) -> int:
            tx.lock_tenant(tenant_id, now)
            known = tx.known_events(tenant_id, [entry.event.event_id for entry in tenants[tenant_id]])
            fresh = [entry for entry in tenants[tenant_id] if entry.event.event_id not in known]
            for entry in fresh:
                ledger.append(tx, entry, now)
            if fresh:
                change = made_change("reprice", tenant_id, now, by, note=f"{len(fresh)} calls")
                tx.insert_change(change._replace(new_amount=sum(entry.charged for entry in fresh)))
            return len(fresh)

        return sum(self._run(partial(work, tenant_id=tenant_id)) for tenant_id in sorted(tenants))

    def preview(self, limit: Limit, since: float, now: float, progress: Progress | None = None) -> Preview:
        return self._read(lambda tx: preview(tx, limit, since, now, progress))


def _in_words(markup: str, limits: Sequence[Limit]) -> str:
    with speaking(ENGLISH):  # the history is for readers of every language
        words = [limit_line(limit.amount, limit.unit, limit.frequency, limit.filter) for limit in limits]
    return "; ".join([*words, *([f"markup {markup} %"] if markup else [])])


def _topped_up(tx: Transaction, tenant_id: str, frequency: str, filter: str, user: str, now: float) -> Item:
    """Find the counter that a top-up is for."""
    limits = [row for row in tx.rules(tenant_id).limits if row.tenant_id != EVERYONE or tenant_id == EVERYONE]
    found = [row for row in in_force(limits, now) if (row.frequency, row.filter) == (frequency, filter)]
    if not found:
        raise ConfigurationError(
            f"frequency: {shown(tenant_id)} has no limit {frequency!r} of this kind in force to top up; set one first"
        )
    limit = found[0]
    if limit.unit != USD:
        raise ConfigurationError(f"frequency: the limit {frequency!r} is in {limit.unit}, not in US dollars")
    if limit.each_user != bool(user):
        raise ConfigurationError(f"user: invalid value {shown(user)}; expected the user of a limit on each user")
    return Item(limit, limit.window(now), key_of(limit, tenant_id, user, now))
