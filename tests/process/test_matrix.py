"""Eight processes of 16 threads and 32 tasks each spend one limit of 100 calls in 1,000 attempts, on every store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.contract.processes import FORKS
from tests.ledgers import (
    Factory,
    Lend,
    Opened,
    django_mysql,
    django_postgres,
    django_sqlite,
    fresh,
    redis_postgres,
    sql,
    sql_mysql,
    sql_postgres,
    sql_sqlite,
)
from tests.process import matrix
from tests.process.matrix import COST, TENANT, Spent
from tests.redis_servers import redis_cluster
from tests.waiting import PATIENCE
from token_limit_core.limits import ENFORCE, STRICT, Limit
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call

PROCESSES, TASKS = 8, 256
ATTEMPTS = 1000
LIMIT = 100 * COST


@contextmanager
def cluster_sqlite(request: pytest.FixtureRequest, folder: Path, lend: Lend = fresh) -> Iterator[Opened]:
    with redis_cluster(folder) as url, sql(f"{url}?ledger=sqlite:///{folder}/ledger.db") as opened:
        yield opened


WAITS = {ENFORCE: PATIENCE, STRICT: 0.0}
"""Seconds that a call waits for holds: all of an enforced limit is to be used, and nothing of a strict one too much."""

SMALL = [sql_sqlite]
"""The stores of every run; the others take minutes on a small machine."""

STORES = [sql_sqlite, sql_postgres, sql_mysql, redis_postgres, cluster_sqlite,
          django_sqlite, django_postgres, django_mysql]  # fmt: skip


def check(store: Store, spent: list[Spent], mode: str, now: float) -> None:
    """Hold what was billed against the published bound, and spend what is left."""
    billed, excess = sum(one.billed for one in spent), sum(one.excess for one in spent)
    threads, tasks = sum(one.by_threads for one in spent), sum(one.by_tasks for one in spent)
    assert (threads + tasks) * COST == billed
    most = max(one.most_held for one in spent)
    assert billed < LIMIT + most + excess if mode == ENFORCE else billed <= LIMIT
    assert mode != ENFORCE or billed >= 0.97 * LIMIT
    (status,) = store.usage(TENANT, now)
    assert (status.settled, status.held) == (billed, 0)
    assert store.holds() == []
    assert store.reconcile(now) == []
    left = LIMIT - billed  # nothing is in flight, so what is left can be spent
    assert store.admit(Call("last", TENANT, left, worst_case=max(1, left)), now).admitted == (left > 0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", [ENFORCE, STRICT])
@pytest.mark.parametrize(
    "make", STORES if os.environ.get("TOKEN_LIMIT_TEST_MATRIX") else SMALL, ids=lambda make: make.__name__
)
def test_processes_spend_a_limit_within_its_bound(
    make: Factory, mode: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        store, spec = stack.enter_context(make(request, tmp_path, fresh))
        now = time.time()
        store.set_limit(Limit(TENANT, LIMIT, mode=mode), now)
        pipes = []
        for _ in range(PROCESSES):
            ours, theirs = FORKS.Pipe()
            process = FORKS.Process(
                target=matrix.main,
                args=(theirs, spec, ATTEMPTS // PROCESSES, TASKS // PROCESSES, WAITS[mode]),
                daemon=True,
            )
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(process.kill)
            stack.callback(ours.close)
            pipes.append(ours)
        assert [pipe.recv() for pipe in pipes] == ["ready"] * PROCESSES
        for pipe in pipes:
            pipe.send("go")
        check(store, [pipe.recv() for pipe in pipes], mode, now)


@pytest.mark.parametrize("mode", [ENFORCE, STRICT])
def test_threads_spend_a_limit_in_memory_within_its_bound(mode: str) -> None:
    store = open_store("memory://")
    now = time.time()
    store.set_limit(Limit(TENANT, LIMIT, mode=mode), now)
    check(store, [matrix.spend(store, ATTEMPTS, TASKS, WAITS[mode])], mode, now)
