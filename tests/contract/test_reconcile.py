"""Counters are compared with ledger and holds, and corrected while calls go on; on every store."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.calls import NOW, USD, admit, amounts, assert_adds_up, call, limit_to, new_id, record, settle
from token_limit_core.limits import REQUESTS, TOKENS, Limit, key_of
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call
from token_limit_core.stores.transactional import TransactionalStore
from token_limit_core.windows import PER_DAY, PER_MINUTE, TOTAL


def disturb(store: Store, limit: Limit, settled: int, tenant: str = "acme", user: str = "") -> None:
    """Move a counter away from what the ledger says, as a restored backup might."""
    assert isinstance(store, TransactionalStore)
    with store.begin() as tx:
        tx.lock_tenant(tenant, NOW)
        assert tx.charge(key_of(limit, tenant, user, NOW), settled, 0)


def test_nothing_is_to_be_said_of_counters_that_agree(store: Store) -> None:
    limit_to(store, 100 * USD)
    limit_to(store, 9, unit=REQUESTS, frequency=PER_DAY)
    limit_to(store, 5000, unit=TOKENS, frequency=PER_MINUTE, filter="user=*")
    limit_to(store, 100 * USD, tenant="*")
    call(store, 5)
    admit(store, 7)
    record(store, 3, user="ann", model="m", total_tokens=40)
    call(store, 5, tenant="globex")
    assert store.reconcile(NOW) == []


def test_a_counter_that_is_off_is_reported_and_corrected(store: Store) -> None:
    month = limit_to(store, 100)
    call(store, 5)
    admit(store, 7, "in flight")
    disturb(store, month, 20)
    [drift] = store.reconcile(NOW)
    assert (drift.tenant_id, drift.limit, drift.window, drift.subject) == ("acme", month, month.window(NOW), "")
    assert (drift.settled, drift.held, drift.spent, drift.in_flight) == (25, 7, 5, 7)
    assert amounts(store) == (25, 7)
    assert store.reconcile(NOW, fix=True) == [drift]
    assert amounts(store) == (5, 7)
    assert store.reconcile(NOW) == []
    settle(store, "in flight", 6)
    assert amounts(store) == (11, 0)


def test_one_tenant_is_compared_alone(store: Store) -> None:
    for tenant in ("acme", "globex"):
        disturbed = limit_to(store, 100, tenant=tenant)
        call(store, 5, tenant=tenant)
        disturb(store, disturbed, 1, tenant)
    assert [drift.tenant_id for drift in store.reconcile(NOW)] == ["acme", "globex"]
    assert [drift.tenant_id for drift in store.reconcile(NOW, "globex", fix=True)] == ["globex"]
    assert [drift.tenant_id for drift in store.reconcile(NOW)] == ["acme"]


def test_every_kind_of_counter_is_corrected(store: Store) -> None:
    tokens = limit_to(store, 5000, unit=TOKENS, filter="model=m*")
    users = limit_to(store, 100, frequency=PER_DAY, filter="user=*")
    everyone = limit_to(store, 100, tenant="*")
    total = limit_to(store, 100, frequency=TOTAL)
    store.admit(Call("c", "acme", 8, tokens=30, model="m1", user="ann"), NOW)
    record(store, 3, user="ann", model="m1", total_tokens=40)
    for limit, tenant, user in (
        (tokens, "acme", ""),
        (users, "acme", "ann"),
        (everyone, "*", ""),
        (total, "acme", ""),
    ):
        disturb(store, limit, 11, tenant, user)
    drifts = {drift.limit.id: drift for drift in store.reconcile(NOW, fix=True)}
    assert {number: (drift.spent, drift.in_flight) for number, drift in drifts.items()} == {
        tokens.id: (40, 30),
        users.id: (3, 8),
        everyone.id: (3, 8),
        total.id: (3, 8),
    }
    assert drifts[users.id].subject == "ann"
    assert store.reconcile(NOW) == []


def test_a_total_that_the_ledger_may_have_lost_a_part_of_is_left_alone(store: Store) -> None:
    limit = limit_to(store, 9, unit=REQUESTS, frequency=TOTAL)
    call(store, 5)
    disturb(store, limit, 2)
    assert store.reconcile(NOW, fix=True) == []
    assert amounts(store, frequency=TOTAL) == (3, 0)


def test_calls_go_on_while_counters_are_corrected(store: Store) -> None:
    month = limit_to(store, 100 * USD)
    call(store, 1)

    def calls() -> None:
        for _ in range(10):
            held = new_id()
            assert admit(store, 5, held).admitted
            assert settle(store, held, 3) == "stored"

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(calls) for _ in range(3)]
        for _ in range(5):
            disturb(store, month, 1000)
            pool.submit(store.reconcile, NOW, fix=True).result()
        for one in running:
            one.result()
    assert store.reconcile(NOW) == []
    assert amounts(store) == (91, 0)
    assert_adds_up(store)


@pytest.mark.parametrize("filter", ["", "model=m"])  # the second takes another way in some stores
def test_a_hold_tells_which_process_makes_the_call(store: Store, filter: str) -> None:
    limit_to(store, 100, filter=filter)
    for call_id in ("first", "second"):
        store.admit(Call(call_id, "acme", 5, model="m"), NOW)
    process = f"{socket.gethostname()}:{os.getpid()}"
    assert [hold.process for hold in store.holds()] == [process, process]
    assert [hold.process for hold in store.hold_page().rows] == [process, process]
