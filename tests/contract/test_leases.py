"""Leases: calls of a hot tenant are admitted without asking the store, and no limit is exceeded for that."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.calls import NOW, USD, at, event_for, limit_to, new_id
from tests.contract.processes import workers
from tests.contract.sdk import wire
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from tests.redis_servers import redis_cluster
from tests.waiting import PATIENCE, wait_until
from token_limit_core import LimitExceededException, Meter, MeterConfig
from token_limit_core.calls.engine import Engine
from token_limit_core.limits import EVERYONE, OBSERVE, REQUESTS, STRICT, Decision, Limit
from token_limit_core.meter import engine_of
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.leases import GRACE, SHARE, WORTH
from token_limit_core.stores.records import LEASE, Call
from token_limit_core.testing.clock import Clock
from token_limit_core.windows import PER_DAY

SECONDS = 60.0
"""More than a test takes: a lease ends by the clock of the test, not because the machine is busy."""

CENT = USD // 100
OPERATIONS = ("admit", "settle", "lease", "resize", "release", "hold_anyway", "run_async")


class Process:
    """What one process does: its engine, its clock, and how often it has asked the store for what."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float = SECONDS) -> None:
        self.clock = Clock(NOW)
        self.asked: Counter[str] = Counter()
        for name in OPERATIONS:
            monkeypatch.setattr(store, name, self._counted(name, getattr(store, name)))
        config = MeterConfig(store=store, lease_seconds=seconds, clock=self.clock, store_timeout=PATIENCE)
        self.meter = Meter(config)
        self.store = store
        self.in_flight: set[str] = set()

    def _counted(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.asked[name] += 1
            return operation(*args, **options)

        return counted

    @property
    def engine(self) -> Engine:
        return engine_of(self.meter)

    def admit(self, estimate: int | None = 1, tenant: str = "acme", **facts: Any) -> tuple[str, Decision]:
        call_id = new_id()
        self.in_flight.add(call_id)
        return call_id, self.engine.access.admit(Call(call_id, tenant, estimate, **facts), self.clock())

    def settle(self, call_id: str, cost: int | None = 1, tenant: str = "acme", **fields: Any) -> None:
        event = event_for(call_id, tenant, self.clock())
        vars(event).update(fields)
        self.in_flight.discard(call_id)
        self.engine.settle((call_id, event, cost, None))

    def call(self, cost: int = 1, tenant: str = "acme", **facts: Any) -> Decision:
        call_id, decision = self.admit(cost, tenant, **facts)
        if decision.admitted:
            self.settle(call_id, cost, tenant, **facts)
        return decision

    def warm_up(self, cost: int = 1, tenant: str = "acme", **facts: Any) -> None:
        """Make calls until the next one takes a lease, and forget what they have asked."""
        for _ in range(WORTH):
            assert self.call(cost, tenant, **facts).admitted
        self.asked.clear()

    def leases(self) -> list[tuple[int, ...]]:
        return [hold.amounts or () for hold in self.store.holds() if hold.origin == LEASE]


@pytest.fixture
def process(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    if not store.leaves_loop:
        pytest.skip("nothing is saved where the store is memory")
    process = Process(store, monkeypatch)
    yield process
    for call_id in process.in_flight:
        process.engine.access.release(call_id)
    process.meter.close()


def settled_and_held(store: Store, tenant: str = "acme", now: float = NOW) -> list[tuple[int, int]]:
    assert store.reconcile(now) == []
    return [(status.settled, status.held) for status in store.usage(tenant, now)]


def test_many_calls_ask_for_one_lease_and_settle_one_by_one(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    for _ in range(20):
        assert process.call(CENT).admitted
    assert process.asked == {"lease": 1, "settle": 20}
    [lease] = process.store.holds()
    assert (lease.origin, lease.process != "", lease.expires_at) == (LEASE, True, NOW + SECONDS + GRACE)
    assert process.leases() == [((300 * USD - WORTH * CENT) // SHARE,)]
    assert settled_and_held(process.store)[0] == ((WORTH + 20) * CENT, lease.held)
    process.meter.flush()
    assert process.asked == {"lease": 1, "settle": 20, "release": 1}
    assert process.store.holds() == []
    assert settled_and_held(process.store) == [((WORTH + 20) * CENT, 0)]


def test_a_tenant_that_is_not_hot_has_plain_holds(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    for _ in range(3 * WORTH):
        assert process.call(CENT).admitted
        process.clock.advance(SECONDS / WORTH + 1)
    assert process.asked["lease"] == 0


def test_a_slice_that_is_used_up_is_replaced(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    for _ in range(25):
        assert process.call(10 * CENT).admitted
    assert process.asked["lease"] == 3
    assert process.asked["admit"] == 0
    process.meter.flush()
    assert settled_and_held(process.store) == [(WORTH * CENT + 25 * 10 * CENT, 0)]


def test_what_a_call_holds_and_does_not_cost_is_free_again(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    for _ in range(30):
        call_id, decision = process.admit(CENT, ceiling=USD // 2)
        assert decision.admitted
        process.settle(call_id, CENT)
    assert process.asked == {"lease": 1, "settle": 30}
    process.engine.access.release(process.admit(CENT)[0])
    process.settle(process.admit(CENT)[0], None)  # without a price
    process.meter.flush()
    assert settled_and_held(process.store) == [((WORTH + 30) * CENT, 0)]


def test_a_call_that_does_not_fit_into_a_slice_has_a_hold_of_its_own(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    process.call(CENT)
    call_id, decision = process.admit(2 * USD)
    assert decision.admitted
    assert {hold.call_id for hold in process.store.holds()} > {call_id}
    process.settle(call_id, 2 * USD)
    assert process.call(CENT).admitted
    assert process.asked["admit"] == 1
    assert process.asked["lease"] == 1


def test_all_limits_of_a_call_are_leased_in_one_hold(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    limit_to(process.store, 6000, frequency=PER_DAY, unit=REQUESTS, filter="model=gpt*")
    limit_to(process.store, 600 * USD, filter="user=*")
    limit_to(process.store, 900 * USD, tenant=EVERYONE)
    limit_to(process.store, 0, filter="feature=chat", mode=OBSERVE)
    facts = {"model": "gpt-4o", "provider": "openai"}
    process.warm_up(CENT, **facts, user="ann")
    for _ in range(10):
        assert process.call(CENT, **facts, user="ann").admitted
    assert process.asked == {"lease": 1, "settle": 10}
    [amounts] = process.leases()
    assert sorted(amounts) == sorted(
        [(300 * USD - WORTH * CENT) // SHARE, (6000 - WORTH) // SHARE, (600 * USD - WORTH * CENT) // SHARE,
         (900 * USD - WORTH * CENT) // SHARE]
    )  # fmt: skip
    process.asked.clear()
    for _ in range(WORTH + 5):  # another user: the slices of the other limits are there
        assert process.call(CENT, **facts, user="bob").admitted
    assert process.asked == {"admit": WORTH, "lease": 1, "settle": WORTH + 5}
    assert sorted(map(len, process.leases())) == [1, 4]
    process.meter.flush()
    assert process.store.holds() == []
    assert {held for _, held in settled_and_held(process.store)} == {0}
    assert {held for _, held in settled_and_held(process.store, EVERYONE)} == {0}


def test_a_tenant_without_limits_needs_no_hold(process: Process) -> None:
    process.warm_up(CENT)
    for _ in range(10):
        assert process.call(CENT).admitted
    assert process.asked == {"lease": 1, "settle": 10}
    assert process.store.holds() == []


def test_strict_and_small_limits_are_not_leased(process: Process) -> None:
    limit_to(process.store, 300 * USD, mode=STRICT)
    limit_to(process.store, SHARE * WORTH * CENT, tenant="small")
    for _ in range(WORTH + 3):
        process.admit(CENT, worst_case=2 * CENT, worst_tokens=1)
        assert process.call(CENT, "small").admitted
    assert process.asked["admit"] == 2 * (WORTH + 3)
    assert process.leases() == []


@pytest.mark.parametrize("change", ["limit", "suspended", "plan"])
def test_a_change_of_another_process_holds_when_the_lease_ends(process: Process, change: str) -> None:
    store = process.store
    limit_to(store, 300 * USD)
    process.warm_up(CENT)
    assert process.call(CENT).admitted
    if change == "limit":
        limit_to(store, CENT)
    elif change == "suspended":
        store.suspend("acme", NOW)
    else:
        store.set_plan("free", [Limit("", CENT, PER_DAY, plan="free")], NOW)
        store.assign_plan("acme", "free", NOW)
    process.clock.advance(SECONDS - 1)
    assert process.call(CENT).admitted
    process.clock.advance(1)
    assert process.call(CENT).kind == ("suspended" if change == "suspended" else "exhausted")


def test_a_new_window_has_no_slice_of_the_old_one(process: Process) -> None:
    limit_to(process.store, 300 * USD, frequency=PER_DAY)
    process.clock.set(at("2027-01-15 23:59:58"))
    process.warm_up(CENT)
    process.call(CENT)
    process.clock.advance(3)
    assert process.call(CENT).admitted
    assert process.asked["admit"] == 1
    process.meter.flush()
    assert settled_and_held(process.store, now=process.clock()) == [(CENT, 0)]


def test_requests_are_admitted_to_the_last_one_and_no_further(process: Process) -> None:
    limit = SHARE * WORTH + 100
    limit_to(process.store, limit, unit=REQUESTS)
    process.warm_up()
    assert process.call().admitted
    assert process.leases() == [(WORTH,)]
    others = limit - 2 * WORTH - 20
    assert len(process.store.record([(event_for(new_id()), 1) for _ in range(others)], NOW)) == others
    admitted: list[bool] = []

    def work() -> None:
        admitted.extend(process.call().admitted for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == limit - others - WORTH - 1
    assert process.call().kind == "exhausted"
    process.meter.flush()
    assert settled_and_held(process.store) == [(limit, 0)]


def test_the_process_that_holds_a_slice_is_not_refused_because_of_it(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    process.call(CENT)
    [(slice,)] = process.leases()
    left = 300 * USD - (WORTH + 1) * CENT - slice
    process.store.record([(event_for(new_id()), left)], NOW)
    assert process.admit(2 * slice)[1].admitted  # it fits into no slice, and only the slice is left
    assert process.leases() == []


def test_calls_in_flight_keep_what_they_hold_when_their_lease_ends(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    calls = [process.admit(CENT)[0] for _ in range(3)]
    process.meter.flush()
    assert process.leases() == [(3 * CENT,)]
    process.settle(calls[0], CENT)
    process.settle(calls[1], CENT)
    assert process.leases() == [(3 * CENT,)]
    process.meter.flush()
    assert process.leases() == [(CENT,)]
    process.settle(calls[2], CENT)
    assert process.store.holds() == []
    assert settled_and_held(process.store) == [((WORTH + 3) * CENT, 0)]


def test_the_settler_gives_a_lease_back_when_its_time_is_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not store.leaves_loop:
        pytest.skip("nothing is saved where the store is memory")
    limit_to(store, 300 * USD)
    process = Process(store, monkeypatch, seconds=0.2)
    process.warm_up(CENT)
    assert process.call(CENT).admitted
    assert process.asked["lease"] == 1
    wait_until(lambda: process.asked["release"] == 1 and not store.holds())
    process.meter.close()


def test_a_growing_call_takes_more_of_its_slice_then_more_of_the_limit(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    access, call_id = process.engine.access, process.admit(CENT)[0]
    assert access.raise_hold(call_id, CENT * 50, 0) is not None
    assert process.asked["resize"] == 0
    grown = access.raise_hold(call_id, 100 * USD, 0)
    assert grown is not None
    assert grown.admitted
    assert process.leases() == [(100 * USD,)]
    grown = access.raise_hold(call_id, 400 * USD, 0)
    assert grown is not None
    assert grown.kind == "exhausted"
    process.settle(call_id, 90 * USD)
    process.meter.flush()
    assert settled_and_held(process.store) == [(WORTH * CENT + 90 * USD, 0)]


def test_work_in_the_background_gets_a_hold_of_its_own(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    call_id = process.admit(CENT)[0]
    process.engine.access.keep(call_id, "response:1", 86400.0)
    process.settle(call_id, 0)
    process.meter.flush()
    [hold] = process.store.holds()
    assert (hold.call_id, hold.origin, hold.held) == ("response:1", "call", CENT)
    assert settled_and_held(process.store) == [(WORTH * CENT, CENT)]
    process.settle("response:1", 3 * CENT)
    assert settled_and_held(process.store) == [((WORTH + 3) * CENT, 0)]


def test_a_call_that_never_ends_is_let_go_when_its_hold_would_expire(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    process.warm_up(CENT)
    call_id = process.admit(CENT, hold_seconds=60.0)[0]
    process.clock.advance(60)
    process.engine.access.give_back()
    leases = process.engine.access.leases
    assert leases is not None
    assert call_id in leases
    for lease in list(leases._leases):
        leases._review(lease)
    assert call_id not in leases
    assert process.store.holds() == []


def test_a_markup_counts_in_slices_too(process: Process) -> None:
    process.store.set_plan("pro", (), NOW, "100")
    process.store.assign_plan("acme", "pro", NOW)
    limit_to(process.store, 300 * USD)
    process.warm_up(5 * CENT)
    for _ in range(12):
        assert process.call(5 * CENT).admitted
    assert (process.asked["lease"], process.asked["admit"]) == (2, 0)  # at their cost all would fit into one slice
    process.meter.flush()
    assert settled_and_held(process.store) == [((WORTH + 12) * 10 * CENT, 0)]


def test_a_killed_process_loses_its_slice_when_the_hold_expires(store: Store, spec: str) -> None:
    limit_to(store, 300 * USD)
    with workers(spec, 1, "lease", CENT) as [worker]:
        worker.go()
        assert worker.line() == str(WORTH + 2)
        worker.kill()
        worker.process.join()
    [lease] = store.holds()
    spent = (WORTH + 1) * CENT  # the last call was in flight: nobody knows its cost
    assert lease.origin == LEASE
    assert store.expire(NOW + SECONDS + GRACE - 1) == 0
    assert settled_and_held(store) == [(spent, lease.held)]
    assert store.expire(NOW + SECONDS + GRACE) == 1
    assert store.holds() == []
    assert settled_and_held(store) == [(spent, 0)]
    assert store.spend("acme", 0, 1e12).cost_nano == spent


def test_processes_with_leases_spend_a_limit_to_the_last_request(store: Store, spec: str) -> None:
    limit = SHARE * (WORTH + 1) + 200
    limit_to(store, limit, unit=REQUESTS)
    with workers(spec, 4, "spend_leased", 1) as running:
        for worker in running:
            worker.go()
        used = sum(int(worker.line()) for worker in running)
        assert len([hold for hold in store.holds() if hold.origin == LEASE]) == 4
        others = limit - used - 60  # about half of what is left then is in the slices
        store.record([(event_for(new_id()), 1) for _ in range(others)], NOW)
        for worker in running:
            worker.go()
        spent = sum(int(worker.line()) for worker in running)
        for worker in running:
            assert worker.finish() == []
    assert spent == 60
    assert store.holds() == []
    assert settled_and_held(store) == [(limit, 0)]


def test_a_cluster_grants_leases_and_takes_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_cluster(tmp_path) as url:
        store = open_store(f"{url}?ledger=sqlite:///{tmp_path}/ledger.db")
        process = Process(store, monkeypatch)
        for tenant in ("acme", "globex", "initech"):  # in slots of different nodes
            limit_to(store, 300 * USD, tenant)
            process.warm_up(CENT, tenant)
            for _ in range(20):
                assert process.call(CENT, tenant).admitted
            assert process.asked == {"lease": 1, "settle": 20}
            assert settled_and_held(store, tenant)[0][0] == (WORTH + 20) * CENT
        assert len(process.leases()) == 3
        process.meter.flush()
        assert process.leases() == []
        assert settled_and_held(store, "globex") == [((WORTH + 20) * CENT, 0)]
        process.meter.close()
        store.close()


def test_a_forked_child_has_no_lease(store: Store, spec: str) -> None:
    limit_to(store, 300 * USD)
    with workers(spec, 1, "lease_and_fork", CENT) as [worker]:
        worker.go()
        assert worker.line() == "child: plain"
        assert worker.line() == "parent: leased"
        assert worker.finish() == []
    assert store.holds() == []
    assert settled_and_held(store) == [((WORTH + 3) * CENT, 0)]


# -- through an SDK -------------------------------------------------------------------------------


def test_threads_of_an_sdk_share_a_lease(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    client = Wire(wire.chat).client()
    process.meter.patch("openai")

    def work() -> None:
        for _ in range(5):
            with process.meter.for_tenant("acme"):
                client.chat.completions.create(**CHAT.arguments)

    work()
    work()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.asked == {"admit": WORTH, "lease": 1, "settle": 30}
    process.meter.flush()
    assert process.store.holds() == []
    [(settled, held)] = settled_and_held(process.store)
    assert (settled, held) == (process.store.spend("acme", 0, 1e12).cost_nano, 0)


def test_tasks_leave_the_loop_only_to_settle(process: Process) -> None:
    limit_to(process.store, 300 * USD)
    client = Wire(wire.chat).async_client()
    process.meter.patch("openai")

    async def call() -> None:
        with process.meter.for_tenant("acme"):
            await client.chat.completions.create(**CHAT.arguments)

    async def main() -> None:
        for _ in range(WORTH + 1):
            await call()
        process.asked.clear()
        await asyncio.gather(*(call() for _ in range(20)))

    asyncio.run(main())
    assert process.asked == {"run_async": 20, "settle": 20}
    limit_to(process.store, 0)
    process.clock.advance(SECONDS)
    with pytest.raises(LimitExceededException):
        asyncio.run(call())
