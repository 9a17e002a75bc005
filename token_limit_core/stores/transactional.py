"""The operations of every store with transactions: `admission.py` and `ledger.py`, run and tried again.

Admission is optimistic: one short transaction of conditional updates; opening a window or settling expired
holds happens in transactions of their own, after which admission is tried again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

from ..events import LLMEvent
from ..limits import EVERYONE, OBSERVE, CounterKey, Decision, Item, LimitStatus, in_force, items_for, judge, key_of
from ..limits.filters import NO_FACTS, Facts
from ..limits.notices import Notice
from ..windows import PER_MONTH, window_of
from . import admission, counters, leases, ledger
from .contract import Store
from .entries import Entry, Spend, entry_for
from .leases import Lease
from .notices import NoticeRow
from .reconciliation import reconcile
from .records import KEEP_SECONDS, Call, Drift, Hold, KeptFigures, Pruned, Recorded, Refusal
from .reports import Change
from .running import ATTEMPTS, Running
from .transaction import Retry, Transaction
from .transactional_limits import TransactionalLimits
from .transactional_plans import TransactionalPlans
from .transactional_reports import TransactionalReports
from .transactional_tenants import TransactionalTenants

MOST_SUBJECTS = 100
"""Users that the usage of an each-user limit is given for."""


class TransactionalStore(TransactionalLimits, TransactionalPlans, TransactionalTenants, TransactionalReports, Store):
    """A Store over an engine that offers `begin()`."""

    _admission = Running._run
    _report = Running._read
    _services = Running._run

    def _watch(self, tx: Transaction) -> None:
        tx.thresholds, tx.delivers, tx.notices = self.thresholds, self.delivers_notices, []

    def _publish(self, notices: list[Notice]) -> None:
        if notices and self.on_notices is not None:
            self.on_notices(notices)

    def claim_notices(self, now: float, until: float, most: int) -> list[NoticeRow]:
        return self._run(lambda tx: tx.claim_notices(now, until, most))

    def reschedule_notices(self, ids: Sequence[int], due: float) -> None:
        self._run(lambda tx: tx.reschedule_notices(ids, due))

    # -- admission ------------------------------------------------------------------------------

    def admit(self, call: Call, now: float) -> Decision:
        expired, assigns_plans = False, self.default_plan is not None
        for _ in range(ATTEMPTS):
            outcome = self._admission(lambda tx: admission.admit(tx, call, now, assigns_plans))  # noqa: B023 - run at once
            if outcome is Retry.WINDOWS:
                self._run(lambda tx: counters.open_windows(tx, call, now))
            elif outcome is Retry.PLAN:
                assigns_plans = self._assign_default_plan(call.tenant_id, now)
            elif isinstance(outcome, Decision):
                if outcome.kind != "busy" or expired:
                    return outcome
                expired = True
                if not self.expire(now, None if outcome.everyone else call.tenant_id):
                    return outcome
        return Decision("busy", call.tenant_id, retry_after=1)  # the limits change faster than they can be read

    def _assign_default_plan(self, tenant_id: str, now: float) -> bool:
        """Put a tenant on the default plan; False where there is none for it."""
        plan = None if self.default_plan is None else self.default_plan(tenant_id)
        if plan is None:
            return False
        self.assign_plan(tenant_id, plan, now, first=True)
        return True

    def reached(self, tenant_id: str, now: float, facts: Facts = NO_FACTS) -> Decision | None:
        def work(tx: Transaction) -> Decision | None:
            rules = tx.rules(tenant_id)
            if rules.suspended:
                return Decision("suspended", tenant_id)
            for item in items_for(rules.limits, tenant_id, now, facts):
                if item.limit.mode != OBSERVE:
                    decision = judge(counters.status_of(tx, item, tenant_id, now), tenant_id, now)
                    if decision is not None:
                        return decision
            return None

        return self._read(work)

    # -- settling -------------------------------------------------------------------------------

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        entry = entry_for(event, cost_nano)
        return self._run(lambda tx: ledger.settle(tx, call_id, entry, now, self.destinations))

    def record(self, entries: Sequence[tuple[LLMEvent, int | None]], now: float) -> list[Recorded]:
        tenants: dict[str, list[Entry]] = {}
        for event, cost_nano in entries:
            tenants.setdefault(event.tenant_id, []).append(entry_for(event, cost_nano))
        ordered = dict(sorted(tenants.items()))  # one lock order

        def work(tx: Transaction) -> list[Recorded]:
            def settle(entry: Entry) -> Recorded:
                return ledger.settle(tx, entry.event.event_id, entry, now, self.destinations)

            for tenant_id in ordered:
                tx.lock_tenant(tenant_id, now)
            results = ledger.record(tx, ordered, self.destinations, settle, now)
            of_tenant = {tenant_id: iter(told) for tenant_id, told in results.items()}
            return [next(of_tenant[event.tenant_id]) for event, _ in entries]

        return self._run(work)

    def renew(self, call_id: str, expires_at: float) -> bool:
        return self._run(lambda tx: tx.renew_hold(call_id, expires_at))

    def raise_hold(self, call_id: str, amount: int | None, tokens: int, now: float) -> Decision | None:
        return self._run(lambda tx: admission.raise_hold(tx, call_id, amount, tokens, now))

    def keep(self, call_id: str, new_id: str, now: float, expires_at: float) -> bool:
        return self._run(lambda tx: admission.keep(tx, call_id, new_id, now, expires_at))

    def release(self, call_id: str, now: float, by: str | None = None) -> bool:
        def work(tx: Transaction) -> bool:
            hold = tx.hold(call_id)
            if hold is None or not ledger.release(tx, hold, now):
                return False
            if by is not None:
                tx.insert_change(Change(now, by[:255], "release", hold.tenant_id, "", old_amount=hold.amount))
            return True

        return self._run(work)

    # -- leases ---------------------------------------------------------------------------------

    def lease(self, call: Call, now: float, seconds: float, kept: Collection[CounterKey] = ()) -> Lease | None:
        return self._admission(lambda tx: leases.grant(tx, call, now, seconds, kept, self.default_plan is not None))

    def resize(self, lease_id: str, amounts: Sequence[int], now: float, expires_at: float) -> Decision | None:
        return self._run(lambda tx: leases.resize(tx, lease_id, amounts, now, expires_at))

    def hold_anyway(self, hold: Hold, now: float) -> bool:
        return self._run(lambda tx: leases.hold_anyway(tx, hold, now))

    def expire(self, now: float, tenant_id: str | None = None) -> int:
        due = self._read(lambda tx: tx.open_holds(tenant_id, expired_at=now))
        return sum(self._run(lambda tx, hold=hold: ledger.expire(tx, hold, now)) for hold in due)  # type: ignore[misc]

    def reconcile(self, now: float, tenant_id: str | None = None, fix: bool = False) -> list[Drift]:
        keys = self._read(lambda tx: tx.counter_keys(now, tenant_id))
        return reconcile(self._read, self._run, keys, now, fix)

    def add_refusals(self, refusals: Sequence[Refusal]) -> None:
        ordered = sorted(refusals, key=lambda refusal: refusal.key)  # one lock order
        self._run(lambda tx: tx.add_refusals(ordered))

    def figures(self, name: str) -> KeptFigures | None:
        return self._report(lambda tx: tx.figures(name))

    # -- queries --------------------------------------------------------------------------------

    def holds(self, tenant_id: str | None = None) -> list[Hold]:
        return self._read(lambda tx: tx.open_holds(tenant_id))

    def usage(self, tenant_id: str, now: float, user: str | None = None, everyone: bool = False) -> list[LimitStatus]:
        def work(tx: Transaction) -> list[LimitStatus]:
            limits = in_force(tx.rules(tenant_id).limits, now)
            with_all = everyone or tenant_id == EVERYONE
            shown = sorted((row for row in limits if with_all or row.tenant_id != EVERYONE), key=attrgetter("id"))
            found: list[LimitStatus] = []
            for limit in shown:
                window = limit.window(now)
                key = key_of(limit, tenant_id, (user or "") if limit.each_user else "", now)
                if limit.each_user and user is None:
                    busiest = tx.busiest(key, MOST_SUBJECTS)
                    found += [LimitStatus(limit, window, c.settled, c.held, c.extra, subject) for subject, c in busiest]
                    if not busiest:
                        found.append(LimitStatus(limit, window, 0, 0))
                else:
                    found.append(counters.status_of(tx, Item(limit, window, key), tenant_id, now))
            return found

        return self._read(work)

    def spend(self, tenant_id: str, start: float, end: float) -> Spend:
        return self._read(lambda tx: tx.spend(tenant_id, start, end))

    def prune(self, before: float, now: float) -> Pruned:
        expired = self.expire(now)

        def work(tx: Transaction) -> tuple[int, int, int]:
            opened = tx.oldest_window(now)
            limits = [before, now - KEEP_SECONDS, window_of(PER_MONTH, now).start]
            if opened is not None:
                limits.append(opened)
            return tx.prune(min(limits) // 86400 * 86400)  # days that are gone are whole: the roll-up has them

        events, holds, pruned = self._run(work)
        return Pruned(events, holds, pruned, expired)
