"""What is Redis's own: counters and holds that are lost, or that a snapshot brings back; a cluster; large amounts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.contract.calls import LATE, NOW, USD, admit, amounts, call, cost_of, limit_to, new_id, record, settle
from tests.ledgers import redis_sqlite
from tests.redis_servers import RedisServer, redis_cluster, redis_server
from tests.waiting import PATIENCE
from token_limit_core.errors import StoreError
from token_limit_core.limits import STRICT, Limit
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call
from token_limit_core.stores.redis import scripts
from token_limit_core.stores.redis.effects import Pending
from token_limit_core.stores.redis.slots import Slots

NO_FILES = ("--save", "", "--appendonly", "no")
SNAPSHOTS = ("--save", "", "--appendonly", "no", "--dbfilename", "dump.rdb")
EVERY_WRITE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts the server of the test with options."""
    started: list[Any] = []

    def start(*options: str) -> RedisServer:
        started.append(redis_server(tmp_path, *options))
        found: RedisServer = started[-1].__enter__()
        return found

    yield start
    for one in started:
        one.__exit__(None, None, None)


def opened(server: RedisServer, folder: Path) -> Store:
    return open_store(f"{server.url}?ledger=sqlite:///{folder}/ledger.db", timeout=5)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with redis_sqlite(request, tmp_path) as (store, _):
        yield store


def spend_all(store: Store, tenant: str = "acme") -> int:
    """Make calls of a dollar until one is refused; return how many were made."""
    made = 0
    while call(store, USD, tenant=tenant).admitted:
        made += 1
    return made


def lose(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


def restart(server: RedisServer) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize(("options", "loss"), [(NO_FILES, lose), (NO_FILES, restart)], ids=["flush", "restart"])
def test_counters_that_are_lost_come_back_from_the_ledger(
    options: tuple[str, ...], loss: Callable[[RedisServer], None], server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    running = server(*options)
    store = opened(running, tmp_path)
    limit_to(store, 10 * USD)
    limit_to(store, 100 * USD, tenant="*")
    for _ in range(4):
        call(store, USD)
    assert admit(store, 3 * USD, "in flight").admitted
    loss(running)
    assert amounts(store) == (4 * USD, 0)
    assert spend_all(store) == 6  # the money of the call in flight is not held any more: that is what a loss costs
    assert settle(store, "in flight", 2 * USD) == "stored"
    assert amounts(store) == (12 * USD, 0)
    assert store.reconcile(NOW) == []
    store.close()


@pytest.mark.parametrize("written", ["snapshot", "every write"])
def test_a_restart_trusts_no_counter_that_was_kept_and_every_hold(
    written: str, server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    running = server(*(SNAPSHOTS if written == "snapshot" else EVERY_WRITE))
    store = opened(running, tmp_path)
    limit_to(store, 10 * USD)
    assert admit(store, 3 * USD, "in flight").admitted
    assert admit(store, USD, "ends").admitted
    if written == "snapshot":
        with running.client() as client:
            client.save()
    settle(store, "ends", USD)
    call(store, USD)
    restart(running)
    assert amounts(store)[0] == 2 * USD
    assert spend_all(store) == 5  # the old snapshot brought the hold of the ended call back, and it was closed
    assert store.expire(LATE) == 1
    assert cost_of(store) == 10 * USD
    assert store.holds() == []
    assert store.reconcile(LATE) == []
    store.close()


def test_a_server_that_is_away_is_a_store_that_is_away(server: Callable[..., RedisServer], tmp_path: Path) -> None:
    running = server(*NO_FILES)
    store = opened(running, tmp_path)
    limit_to(store, 10 * USD)
    running.kill()
    for ask in (lambda: admit(store, USD), lambda: store.holds(), lambda: store.check()):
        with pytest.raises(StoreError, match="Redis failed"):
            ask()
    running.start()
    assert call(store, USD).admitted
    store.close()


class Death(BaseException):
    """The end of a process, which nothing in it survives."""


@pytest.mark.parametrize("held", [True, False])
def test_a_process_that_dies_after_its_commit_leaves_counters_that_add_up(
    held: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(store, 10 * USD)
    call(store, USD)
    if held:
        admit(store, 2 * USD, "dies")
    run = Slots.run

    def die(slots: Slots, script: scripts.Script, *args: Any) -> Any:
        if script is scripts.APPLY:
            raise Death
        return run(slots, script, *args)

    with monkeypatch.context() as dying, pytest.raises(Death):
        dying.setattr(Slots, "run", die)
        settle(store, "dies", 4 * USD)
    assert cost_of(store) == 5 * USD
    monkeypatch.setattr(scripts, "MARK_SECONDS", -1)  # the mark is old
    assert amounts(store)[0] == 5 * USD
    monkeypatch.undo()
    assert spend_all(store) == 5
    assert settle(store, "dies", 4 * USD) == "duplicate"
    assert store.expire(LATE) == 0
    assert store.holds() == []
    assert store.reconcile(NOW) == []


def test_a_refusal_by_the_limit_on_all_tenants_gives_the_other_hold_back(store: Store) -> None:
    limit_to(store, 10 * USD)
    limit_to(store, 2 * USD, tenant="*")
    call(store, 2 * USD, tenant="globex")
    refused = admit(store, USD)
    assert (refused.kind, refused.everyone) == ("exhausted", True)
    assert amounts(store) == (0, 0)
    assert store.holds() == []


@pytest.mark.parametrize("tenant", ["", "a}b", "{acme}", "acme ", "ACME", "ä:b/c?d", "*x", "t:acme", "%61cme"])
def test_tenants_are_compared_byte_for_byte(tenant: str, store: Store) -> None:
    limit_to(store, 10 * USD)
    limit_to(store, 10 * USD, tenant=tenant)
    call(store, 3 * USD, tenant=tenant)
    call(store, USD)
    assert (amounts(store, tenant), amounts(store)) == ((3 * USD, 0), (USD, 0))


def test_a_script_that_is_sent_twice_works_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Slots.run

    def twice(slots: Slots, script: scripts.Script, *args: Any) -> Any:
        run(slots, script, *args)
        return run(slots, script, *args)

    monkeypatch.setattr(Slots, "run", twice)
    limit_to(store, 10 * USD)
    admit(store, USD, "a")
    admit(store, 2 * USD, "b")
    assert store.renew("b", LATE + 60)
    assert store.raise_hold("b", 3 * USD, 0, NOW)
    settle(store, "a", USD)
    assert amounts(store) == (USD, 3 * USD)
    assert store.expire(LATE + 60) == 1
    assert amounts(store) == (4 * USD, 0)
    assert store.reconcile(NOW) == []


def test_a_threshold_that_two_calls_cross_together_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, committed, go_on = Pending.apply, threading.Event(), threading.Event()
    percents: list[int] = []
    store.thresholds, store.on_notices = (100,), lambda notices: percents.extend(one.percent for one in notices)
    limit_to(store, 2 * USD)
    call(store, 1)

    def apply_late(pending: Pending) -> None:
        if not committed.is_set() and any(pending.of(tenant).charges for tenant in pending.targets()):
            committed.set()
            assert go_on.wait(PATIENCE)
        apply(pending)

    monkeypatch.setattr(Pending, "apply", apply_late)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(call, store, 1, USD)]
        assert committed.wait(PATIENCE)
        calls.append(pool.submit(call, store, 1, USD))  # the first is in the ledger, and not on the counter
        wait(calls, timeout=0.3)
        go_on.set()
    assert [each.exception() for each in calls] == [None, None]
    assert percents == [100]


def test_large_amounts_are_exact(store: Store) -> None:
    most = 10**18
    limit_to(store, most, mode=STRICT)
    record(store, most - 3)
    for worst, kind in ((4, "does_not_fit"), (3, "admitted")):
        assert store.admit(Call(new_id(), "acme", 1, worst_case=worst), NOW).kind == kind
    assert amounts(store) == (most - 3, 3)


def test_two_applications_share_a_server_under_prefixes(server: Callable[..., RedisServer], tmp_path: Path) -> None:
    running = server(*NO_FILES)
    urls = [f"{running.url}?prefix={name}&ledger=sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    one, two = map(open_store, urls)
    for store in (one, two):
        store.set_limit(Limit("acme", 10 * USD), NOW)
    call(one, USD)
    call(two, 2 * USD)
    assert (amounts(one), amounts(two)) == ((USD, 0), (2 * USD, 0))
    assert str(one) == f"RedisStore at {running.url}, ledger in SqlStore at sqlite:///{tmp_path}/one.db"
    assert one.location != two.location
    one.close()
    two.close()


def test_a_cluster_keeps_every_tenant_in_one_slot(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as url:
        store = open_store(f"{url}?ledger=sqlite:///{tmp_path}/ledger.db")
        limit_to(store, 30 * USD, tenant="*")
        for number in range(12):
            tenant = f"tenant-{number}"
            limit_to(store, 2 * USD, tenant=tenant)
            assert admit(store, USD, f"{tenant}/a", tenant).admitted
            assert settle(store, f"{tenant}/a", USD, tenant) == "stored"
            assert admit(store, USD, f"{tenant}/b", tenant).admitted
            assert admit(store, USD, tenant=tenant).kind == "busy"
        assert len(store.holds()) == 12
        assert amounts(store, "*") == (12 * USD, 12 * USD)
        assert store.release("tenant-3/b", NOW, "ann")
        assert amounts(store, "tenant-3") == (USD, 0)
        assert store.expire(LATE) == 11
        assert amounts(store, "*", LATE) == (23 * USD, 0)
        assert store.reconcile(NOW) == []
        store.close()
