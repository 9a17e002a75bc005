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
    broker.client.close()


def send(broker: RedisBroker, queue: Queue, name: str, tenant: str | None, **options: Any) -> None:
    message: dramatiq.Message[Any] = dramatiq.Message("default", name, (), {}, options)
    with nullcontext() if tenant is None else queue.meter.for_tenant(tenant):
        broker.enqueue(message)


def test_messages_of_two_tenants_and_of_nobody_are_told_apart(broker: RedisBroker, queue: Queue) -> None:
    for i, tenant in enumerate(["acme", "globex", None] * 10):
        send(broker, queue, "leave_behind" if i % 2 else "ask", tenant)
    with queue.worker(*WORKER):
        wait_until(lambda: sum(queue.calls("acme", "globex", "", "left behind")) == 30)
    assert queue.calls("acme", "globex", "", "left behind") == [10, 10, 10, 0]


def test_retries_children_and_coroutines_keep_the_tenant(broker: RedisBroker, queue: Queue) -> None:
    for name in ("flaky", "start_another", "coroutine"):
        send(broker, queue, name, name)
    with queue.worker(*WORKER):
        wait_until(lambda: queue.calls("flaky", "start_another", "coroutine") == [3, 1, 1])
    assert queue.calls("left behind", "") == [0, 0]


def test_the_end_of_a_process_loses_no_call(broker: RedisBroker, queue: Queue) -> None:
    send(broker, queue, "abandon", "acme")
    with queue.worker(*WORKER):
        wait_until(lambda: bool(queue.provider.requests))
    assert queue.calls("acme") == [1]
    assert queue.meter.store.holds() == []
