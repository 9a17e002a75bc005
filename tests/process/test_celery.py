"""Celery over a real Redis, in worker processes: whose money a task spends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from celery import Celery, chain, chord
from celery.result import AsyncResult

from tests.process.queues import Queue
from tests.remote.receiver import Receiver
from tests.waiting import wait_until
from token_limit_core import LimitExceededException
from token_limit_core.stores import open_store
from token_limit_core.workers.celery import install

WORKER = ("celery", "-A", "tests.process.celery_tasks", "worker", "--loglevel=WARNING", "--without-mingle")
TIMEOUT = 40


@pytest.fixture
def app(queue: Queue) -> Iterator[Celery]:
    """The web application's side of the queue."""
    install(queue.meter)
    options = {"global_keyprefix": queue.prefix}
    app = Celery("web", broker=queue.redis, backend=queue.redis, set_as_current=False)
    app.conf.update(broker_transport_options=options, result_backend_transport_options=options)
    yield app
    # `app.close` forgets its connections, and the garbage collector may then find a socket before its owner.
    app.backend.result_consumer.stop()
    app.backend.client.connection_pool.disconnect()
    app.amqp.producer_pool.force_close_all()
    app.pool.force_close_all()
    app.close()


def send(app: Celery, queue: Queue, name: str, tenant: str | None) -> AsyncResult[str]:
    with nullcontext() if tenant is None else queue.meter.for_tenant(tenant):
        return app.send_task(name)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_spends_the_money_of_the_tenant_that_sent_it(app: Celery, queue: Queue, pool: str) -> None:
    with queue.worker(*WORKER, f"--pool={pool}", "--concurrency=2"):
        for check in (
            tasks_of_two_tenants_and_of_nobody_are_told_apart,
            retries_children_chains_and_chords_keep_the_tenant,
            a_header_that_is_not_ours_does_not_choose_a_tenant,
        ):
            queue.count_anew()
            check(app, queue)


def tasks_of_two_tenants_and_of_nobody_are_told_apart(app: Celery, queue: Queue) -> None:
    tenants = ["acme", "globex", None] * 10
    results = [send(app, queue, "leave_behind" if i % 2 else "ask", tenant) for i, tenant in enumerate(tenants)]
    for result in results:
        result.get(timeout=TIMEOUT)
    assert queue.calls("acme", "globex", "", "left behind") == [10, 10, 10, 0]


def retries_children_chains_and_chords_keep_the_tenant(app: Celery, queue: Queue) -> None:
    for name, calls in (("flaky", 3), ("unreliable", 2)):
        assert send(app, queue, name, name).get(timeout=TIMEOUT) == name
        assert queue.calls(name) == [calls]
    for tenant in ("starter", None):
        assert send(app, queue, "replaced", tenant).get(timeout=TIMEOUT) == "other"
    child = app.AsyncResult(send(app, queue, "start_another", "parent").get(timeout=TIMEOUT))
    assert child.get(timeout=TIMEOUT) == "parent"
    add = app.signature("add_tenant")
    with queue.meter.for_tenant("chained"):
        chained = chain(app.signature("add_tenant", ([],)), add, add).apply_async()
    with queue.meter.for_tenant("joined"):
        joined = chord([app.signature("ask"), app.signature("ask")], add).apply_async()
    assert chained.get(timeout=TIMEOUT) == ["chained"] * 3
    assert joined.get(timeout=TIMEOUT) == ["joined"] * 3
    assert queue.calls("parent", "chained", "joined", "") == [1, 3, 3, 0]


def a_header_that_is_not_ours_does_not_choose_a_tenant(app: Celery, queue: Queue) -> None:
    forged = {"token_limit": {"v": 1, "tenant": "globex"}, "x-tenant": "globex"}
    app.send_task("ask", headers=forged).get(timeout=TIMEOUT)
    with queue.meter.for_tenant("acme"):
        app.send_task("ask", headers=forged).get(timeout=TIMEOUT)
    assert queue.calls("globex", "acme", "") == [0, 1, 1]


@pytest.mark.parametrize(
    ("pool", "ends"),
    [("prefork", "after its task"), ("prefork", "with the worker"), ("threads", "with the worker")],
)
def test_the_end_of_a_process_loses_no_call(app: Celery, queue: Queue, pool: str, ends: str) -> None:
    at_once = ["--max-tasks-per-child=1"] if ends == "after its task" else []
    with queue.worker(*WORKER, f"--pool={pool}", "--concurrency=1", *at_once):
        for _ in range(2):
            send(app, queue, "abandon", "acme").get(timeout=TIMEOUT)
    assert queue.calls("acme") == [2]
    assert queue.meter.store.holds() == []


@pytest.fixture(params=["memory", "spool", "outbox"])
def receiver(request: pytest.FixtureRequest, queue: Queue) -> Iterator[Receiver]:
    """A backend that the workers report to, from memory, a file or their own ledger, and not before they have to."""
    homes = {"spool": {"spool": f"{queue.folder}/spool.db"}, "outbox": {"store": queue.store}}
    store = open_store(f"sqlite:///{queue.folder}/backend.db")
    with Receiver(store) as receiver:
        to_backend = {"url": receiver.url, "api_key": receiver.token, "flush_interval": 3600}
        queue.settings = {**to_backend, **homes.get(request.param, {})}
        yield receiver
    store.close()


@pytest.mark.parametrize("ends", ["after some tasks", "with the worker"])
def test_prefork_children_that_end_deliver_their_own_events_once(
    app: Celery, queue: Queue, receiver: Receiver, ends: str
) -> None:
    recycled = ["--max-tasks-per-child=2"] if ends == "after some tasks" else []
    tenants = ["acme", "globex"] * 6
    with queue.worker(*WORKER, "--pool=prefork", "--concurrency=2", *recycled):
        for result in [send(app, queue, "ask", tenant) for tenant in tenants]:
            result.get(timeout=TIMEOUT)
        if recycled:  # two at most have had one task only
            wait_until(lambda: len(receiver.arrivals) >= 10)
        else:
            assert receiver.arrivals == {}
    assert [receiver.store.spend(tenant, 0, 4e9).calls for tenant in ("acme", "globex")] == [6, 6]
    assert list(receiver.deliveries.values()) == [1] * len(tenants)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_refused_task_is_no_fault_in_the_log(app: Celery, queue: Queue, pool: str) -> None:
    queue.meter.set_limit("broke", 0)
    with queue.worker(*WORKER[:4], "--loglevel=INFO", f"--pool={pool}", "--concurrency=1"):
        for name in ("ask", "wrapped"):
            with pytest.raises((LimitExceededException, RuntimeError)):
                send(app, queue, name, "broke").get(timeout=TIMEOUT)
    log = queue.log()
    assert "Traceback" not in log
    assert "unexpected" not in log
    assert "raised expected" in log


def test_a_killed_child_runs_its_task_again_for_the_same_tenant(app: Celery, queue: Queue) -> None:
    """A task that is acknowledged late and loses its process is delivered again, headers and all."""
    with queue.worker(*WORKER, "--pool=prefork", "--concurrency=1"):
        result = send(app, queue, "die_once", "acme")
        assert result.get(timeout=TIMEOUT) == "acme"
    assert queue.calls("acme", "") == [1, 0]


def test_the_tasks_of_a_django_project_spend_the_tenants_money(app: Celery, queue: Queue) -> None:
    worker = (*WORKER[:2], "tests.process.celery_django", *WORKER[3:])
    with queue.worker(*worker, "--pool=prefork", "--concurrency=2"):
        results = [send(app, queue, "ask", tenant) for tenant in ["acme", "globex", None] * 4]
        assert [result.get(timeout=TIMEOUT) for result in results] == ["acme", "globex", None] * 4
        counted = app.send_task("calls", (["acme", "globex", ""],)).get(timeout=TIMEOUT)
        app.send_task("refuse", ("acme",)).get(timeout=TIMEOUT)
        with pytest.raises(LimitExceededException, match="acme"):
            send(app, queue, "ask", "acme").get(timeout=TIMEOUT)
        assert send(app, queue, "ask", "globex").get(timeout=TIMEOUT) == "globex"
    assert counted == [4, 4, 4]
