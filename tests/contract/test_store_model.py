"""Any order of operations, and the death of a process between any two steps: the store does what a plain model does.

The model is a list of what was spent and of the calls in flight. After a death the operation has happened or has not:
the model asks the store which, and goes on. Counters agree with ledger and holds at every moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.contract.calls import NOW, new_id
from tests.contract.mortal import Death, MortalRedis, MortalSql
from tests.ledgers import emptied
from tests.support import redis_database
from token_limit_core.events import LLMEvent
from token_limit_core.limits import EVERYONE, Limit
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import HOLD_SECONDS, Call
from token_limit_core.stores.redis import scripts

QUICK = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking and explaining take minutes
)
TENANTS = ("acme", "globex")
AMOUNTS = {"acme": 100, "globex": 60, EVERYONE: 130}
tenants = st.sampled_from(TENANTS)
amounts = st.integers(0, 40)
numbers = st.integers(0, 9)
steps = st.one_of(st.just(10**6), st.integers(0, 24))
"""How many steps the process has left: mostly enough."""


class Machine(RuleBasedStateMachine):
    open: Callable[[ExitStack], Store]

    def __init__(self) -> None:
        super().__init__()
        self._opened = ExitStack()
        self.store = type(self).open(self._opened)
        self.now = NOW
        self.limits = dict(AMOUNTS)
        self.spent = dict.fromkeys(TENANTS, 0)
        self.in_flight: dict[str, tuple[str, int, float]] = {}
        self.ended: dict[str, tuple[str, int]] = {}
        self.expired: dict[str, tuple[str, int]] = {}

    def teardown(self) -> None:
        self.store.close()
        self._opened.close()

    @initialize()
    def set_limits(self) -> None:
        for tenant, amount in self.limits.items():
            self.store.set_limit(Limit(tenant, amount), self.now)

    # -- the model --------------------------------------------------------------------------------

    def used(self, owner: str) -> tuple[int, int]:
        """What was spent and is held on the limit of a tenant, or of all."""
        held = sum(held for tenant, held, _ in self.in_flight.values() if owner in (tenant, EVERYONE))
        return sum(spent for tenant, spent in self.spent.items() if owner in (tenant, EVERYONE)), held

    def fits(self, tenant: str) -> bool:
        return all(sum(self.used(owner)) < self.limits[owner] for owner in (tenant, EVERYONE))

    def some_call(self, number: int) -> str | None:
        known = [*self.in_flight, *self.expired, *self.ended]
        return known[number % len(known)] if known else None

    # -- operations -------------------------------------------------------------------------------

    def do(self, left: int, work: Callable[[], Any]) -> Any:
        """Run an operation in a process that has some steps left; None if it died of that."""
        life = getattr(self.store, "life", None)
        with nullcontext() if life is None else life.ends_after(left):
            try:
                return work()
            except Death:
                pass
        self.recover()
        return None

    def recover(self) -> None:
        """Let the time pass after which Redis gives up on a transaction that was begun."""
        with mock.patch.object(scripts, "MARK_SECONDS", -1):
            for owner in AMOUNTS:
                self.store.usage(owner, self.now)

    def has_spent(self, tenant: str) -> int:
        return self.store.spend(tenant, 0, 1e12).cost_nano

    def is_open(self, call_id: str) -> bool:
        return any(hold.call_id == call_id for hold in self.store.holds())

    @rule(tenant=tenants, estimate=amounts, left=steps)
    def admit(self, tenant: str, estimate: int, left: int) -> None:
        call_id = new_id()
        decision = self.do(left, lambda: self.store.admit(Call(call_id, tenant, estimate), self.now))
        if decision is not None:
            assert decision.admitted == self.fits(tenant), decision
        if decision is None:  # it died: a hold that may be left over is given back, as it expires at the latest
            self.store.release(call_id, self.now)
        elif decision.admitted:
            self.in_flight[call_id] = (tenant, estimate, self.now)

    @rule(number=numbers, cost=amounts, left=steps)
    def settle(self, number: int, cost: int, left: int) -> None:
        call_id = self.some_call(number)
        if call_id is None:
            return
        known = {**self.ended, **self.expired, **self.in_flight}
        tenant = known[call_id][0]
        event = LLMEvent(call_id, tenant, timestamp=self.in_flight.get(call_id, (0, 0, NOW))[2])
        told = self.do(left, lambda: self.store.settle(call_id, event, cost, self.now))
        correction = -self.expired[call_id][1] if call_id in self.expired else 0
        happened = self.has_spent(tenant) == self.spent[tenant] + cost + correction and call_id not in self.ended
        if told is None:
            assert happened or self.has_spent(tenant) == self.spent[tenant]
        else:
            assert told == ("duplicate" if call_id in self.ended else "stored")
        if told == "stored" or (told is None and happened and (cost + correction or not self.is_open(call_id))):
            self.spent[tenant] += cost + correction
            self.in_flight.pop(call_id, None)
            self.expired.pop(call_id, None)
            self.ended[call_id] = (tenant, cost)

    @rule(tenant=tenants, cost=st.integers(1, 40), left=steps)
    def record(self, tenant: str, cost: int, left: int) -> None:
        event = LLMEvent(new_id(), tenant, timestamp=self.now)
        told = self.do(left, lambda: self.store.record([(event, cost)], self.now))
        if told is not None:
            assert told == ["stored"]
        if told is not None or self.has_spent(tenant) != self.spent[tenant]:
            self.spent[tenant] += cost

    @rule(number=numbers, left=steps)
    def release(self, number: int, left: int) -> None:
        call_id = self.some_call(number)
        if call_id is None:
            return
        told = self.do(left, lambda: self.store.release(call_id, self.now, "ann"))
        if told is not None:
            assert told == (call_id in self.in_flight)
        if told or not self.is_open(call_id):
            self.in_flight.pop(call_id, None)

    @rule(seconds=st.sampled_from([60.0, HOLD_SECONDS]), left=steps)
    def time_passes(self, seconds: float, left: int) -> None:
        self.now += seconds
        self.do(left, lambda: self.store.expire(self.now))
        self.store.expire(self.now)  # the next process goes on where one has died
        for call_id, (tenant, held, at) in list(self.in_flight.items()):
            if at + HOLD_SECONDS <= self.now:
                del self.in_flight[call_id]
                self.expired[call_id] = (tenant, held)
                self.spent[tenant] += held

    @rule(owner=st.sampled_from([*AMOUNTS]), amount=st.integers(0, 150))
    def change_limit(self, owner: str, amount: int) -> None:
        self.store.set_limit(Limit(owner, amount), self.now)
        self.limits[owner] = amount

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        assert {hold.call_id for hold in self.store.holds()} == set(self.in_flight)
        for owner in self.limits if self.store.limits(EVERYONE) else ():
            [status] = self.store.usage(owner, self.now)
            assert (status.settled, status.held) == self.used(owner), owner

    @invariant()
    def counters_agree_with_ledger_and_holds(self) -> None:
        assert self.store.reconcile(self.now) == []


def folder(opened: ExitStack) -> str:
    return opened.enter_context(TemporaryDirectory())


def redis(url: str, opened: ExitStack) -> Store:
    opened.enter_context(emptied(nullcontext(url)))
    return MortalRedis(f"{url}?ledger=sqlite:///{folder(opened)}/ledger.db")


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[ExitStack], Store]]:
    """Opens an empty store."""
    if request.param == "memory":
        yield lambda opened: open_store("memory://")
    elif request.param == "sqlite":
        yield lambda opened: MortalSql(f"sqlite:///{folder(opened)}/ledger.db")
    else:
        with redis_database() as url:
            yield partial(redis, url)


def test_the_store_does_what_the_model_does(make: Callable[[ExitStack], Store]) -> None:
    machine = type("Machine", (Machine,), {"open": staticmethod(make)})
    run_state_machine_as_test(machine, settings=QUICK)
