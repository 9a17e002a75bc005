"""Dramatiq over a real Redis, in worker processes: whose money an actor spends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from tests.process.queues import Queue
from tests.waiting import wait_until
from token_limit_core.workers.dramatiq import install

WORKER = (
    "dramatiq",
    "tests.process.dramatiq_actors",
    "--processes=1",
    "--threads=2",
    "--worker-shutdown-timeout=10000",
)


@pytest.fixture
def broker(queue: Queue) -> Iterator[RedisBroker]:
    """The web application's side of the queue."""
    broker = RedisBroker(url=queue.redis, namespace=f"{queue.prefix}dramatiq")
    install(broker, queue.meter)
    yield broker
    broker.close()
    broker.client.connection_pool.disconnect()


def send(broker: RedisBroker, queue: Queue, name: str, tenant: str | None, **options: Any) -> None:
    message: dramatiq.Message[Any] = dramatiq.Message("default", name, (), {}, options)
    with nullcontext() if tenant is None else queue.meter.for_tenant(tenant):
        broker.enqueue(message)


def test_a_message_spends_the_money_of_the_tenant_that_sent_it(broker: RedisBroker, queue: Queue) -> None:
    for i, tenant in enumerate(["acme", "globex", None] * 10):
        send(broker, queue, "leave_behind" if i % 2 else "ask", tenant)
    for name in ("flaky", "start_another", "coroutine"):
        send(broker, queue, name, name)
    everyone = ("acme", "globex", "", "left behind", "flaky", "start_another", "coroutine")
    with queue.worker(*WORKER):
        wait_until(lambda: sum(queue.calls(*everyone)) >= 35)
    assert queue.calls(*everyone) == [10, 10, 10, 0, 3, 1, 1]


def test_a_refused_message_is_no_fault_in_the_log(broker: RedisBroker, queue: Queue) -> None:
    queue.meter.set_limit("broke", 0)
    for name in ("ask", "wrapped"):
        send(broker, queue, name, "broke", max_retries=0)
    with queue.worker(*WORKER):
        wait_until(lambda: queue.log().count("a call was refused") == 2)
    assert "Traceback" not in queue.log()


def test_the_end_of_a_process_loses_no_call(broker: RedisBroker, queue: Queue) -> None:
    send(broker, queue, "abandon", "acme")
    with queue.worker(*WORKER):
        wait_until(lambda: bool(queue.provider.requests))
    assert queue.calls("acme") == [1]
    assert queue.meter.store.holds() == []
