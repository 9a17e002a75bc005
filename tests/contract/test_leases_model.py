"""Processes with leases, in any order of calls, ends and deaths: together they never admit more than the limits allow.

The processes are `Leases` on one store in memory, whose settlers do their work when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.contract.calls import NOW, event_for, new_id
from token_limit_core.calls.leases import Leases
from token_limit_core.limits import EVERYONE, REQUESTS, Limit
from token_limit_core.stores import open_store
from token_limit_core.stores.leases import GRACE, SHARE, WORTH
from token_limit_core.stores.records import LEASE, Call
from token_limit_core.testing.clock import Clock

QUICK = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
SECONDS = 5.0
TENANTS = ("acme", "globex")
MOST = 40
AMOUNTS = {"acme": 20 * SHARE * WORTH, "globex": 40 * SHARE * WORTH, EVERYONE: 50 * SHARE * WORTH}
"""A slice of acme's is 160 at first: eight calls of 20."""

CALLS = 3 * SHARE * WORTH
PROCESSES = 3
processes = st.integers(0, PROCESSES - 1)
tenants = st.sampled_from(TENANTS)
estimates = st.sampled_from([0, 1, 5, 5, 20, MOST])
times = st.sampled_from([1, 3 * WORTH, 3 * WORTH])


class Work:
    """A settler that does nothing by itself."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def start(self) -> None:
        pass

    def put(self, work: Callable[[], object]) -> None:
        self.waiting.append(work)

    def put_later(self, seconds: float, work: Callable[[], object]) -> None:
        self.waiting.append(work)

    def do(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = open_store("memory://")
        self.clock = Clock(NOW)
        self.works: list[Any] = [Work() for _ in range(PROCESSES)]
        self.processes = [self.started(work) for work in self.works]
        self.flying: dict[str, tuple[int, str, int]] = {}
        self.calls = dict.fromkeys(TENANTS, 0)

    def started(self, work: Any) -> Leases:
        return Leases(self.store, SECONDS, 5.0, self.clock, work)

    @initialize()
    def set_limits(self) -> None:
        for tenant, amount in AMOUNTS.items():
            self.store.set_limit(Limit(tenant, amount), NOW)
        self.store.set_limit(Limit("globex", CALLS, unit=REQUESTS, filter="user=*"), NOW)

    @rule(number=processes, tenant=tenants, estimate=estimates, times=times, lands=st.booleans())
    def call(self, number: int, tenant: str, estimate: int, times: int, lands: bool) -> None:
        """Admit calls as a process does; each may land before the next one."""
        leases, now = self.processes[number], self.clock()
        for _ in range(times):
            call = Call(new_id(), tenant, estimate, user="ann")
            if leases.admit(call, now) or (leases.take(call, now) and leases.admit(call, now)):
                admitted = True
            else:
                decision = self.store.admit(call, now)
                if decision.kind == "busy" and leases.give_way(call, now):
                    decision = self.store.admit(call, now)
                admitted = decision.admitted
            if admitted:
                self.flying[call.call_id] = (number, tenant, estimate)
                if lands:
                    self.settle(call.call_id, estimate)

    @rule(share=st.sampled_from([0.5, 1.0]), cost=st.sampled_from([0.0, 0.5, 1.0]))
    def land(self, share: float, cost: float) -> None:
        """End some calls, at what they hold or less."""
        for call_id in list(self.flying)[: round(share * len(self.flying))]:
            self.settle(call_id, round(cost * self.flying[call_id][2]))

    def settle(self, call_id: str, cost: int) -> None:
        number, tenant, _ = self.flying.pop(call_id)
        event = event_for(call_id, tenant)
        event.user = "ann"
        self.store.settle(call_id, event, cost, self.clock())
        self.processes[number].landed(call_id, event, cost)
        self.calls[tenant] += 1

    @rule(tenant=tenants, share=st.sampled_from([0.5, 1.0, 1.0]))
    def spend(self, tenant: str, share: float) -> None:
        """Let others spend a part of what the store says is left, in one go."""
        left = min(
            status.ceiling - status.settled - status.held
            for owner in (tenant, EVERYONE)
            for status in self.store.usage(owner, self.clock())
            if status.limit.unit != REQUESTS
        )
        if left > 0:
            self.store.record([(event_for(new_id(), tenant), round(left * share))], self.clock())

    @rule(number=processes)
    def settlers_work(self, number: int) -> None:
        self.works[number].do()

    @rule(seconds=st.sampled_from([1.0, SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for work in self.works:  # in less than the minute after which a lease expires
            work.do()

    @rule(number=processes)
    def give_back(self, number: int) -> None:
        self.processes[number].give_back()

    @rule(number=processes)
    def die(self, number: int) -> None:
        """Kill a process, whose calls in flight nobody bills, and start another."""
        self.processes[number], self.works[number] = self.started(work := Work()), work
        lost = {call_id for call_id, (other, _, _) in self.flying.items() if other == number}
        held = {hold.call_id for hold in self.store.holds()}
        for call_id in lost:
            _, tenant, estimate = self.flying.pop(call_id)
            if call_id in held:  # a plain hold stays, and is charged when it expires
                self.flying[call_id] = (number, tenant, estimate)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        held = dict.fromkeys(AMOUNTS, 0)
        for _, tenant, estimate in self.flying.values():
            held[tenant] += estimate
            held[EVERYONE] += estimate
        for owner, amount in AMOUNTS.items():
            of = TENANTS if owner == EVERYONE else (owner,)
            spent = sum(self.store.spend(tenant, 0, 1e12).cost_nano for tenant in of)
            assert spent + held[owner] < amount + MOST, owner
        in_flight = sum(tenant == "globex" for _, tenant, _ in self.flying.values())
        assert self.calls["globex"] + in_flight <= CALLS

    @invariant()
    def counters_agree_with_ledger_and_holds(self) -> None:
        assert self.store.reconcile(self.clock()) == []

    def teardown(self) -> None:
        """Give everything back: then nothing is held any more."""
        for process in self.processes:
            process.give_back()
        self.land(1.0, 1.0)
        self.clock.advance(SECONDS + GRACE)
        for hold in self.store.holds():
            assert hold.origin == LEASE  # of a process that died
            self.store.expire(self.clock())
        assert self.store.holds() == []
        assert self.store.reconcile(self.clock()) == []


def test_eight_idle_processes_keep_less_than_three_percent_from_others() -> None:
    store, clock = open_store("memory://"), Clock(NOW)
    store.set_limit(Limit("acme", AMOUNTS["acme"]), NOW)
    for _ in range(8):
        leases = Leases(store, SECONDS, 5.0, clock, Work())  # type: ignore[arg-type]
        for _ in range(WORTH + 1):
            call = Call(new_id(), "acme", 1)
            if leases.take(call, NOW):
                assert leases.admit(call, NOW)
            else:
                store.admit(call, NOW)
                store.settle(call.call_id, event_for(call.call_id), 1, NOW)
    assert [hold.origin for hold in store.holds()] == [LEASE] * 8
    [status] = store.usage("acme", NOW)
    assert status.settled + status.held < 0.03 * status.ceiling


@pytest.mark.timeout(120)
def test_processes_with_leases_never_admit_more_than_the_limits() -> None:
    run_state_machine_as_test(Machine, settings=QUICK)  # type: ignore[no-untyped-call]
