"""Dramatiq actors, as `dramatiq tests.process.dramatiq_actors` runs them."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

from tests.process import work
from token_limit_core.workers.dramatiq import install

broker = RedisBroker(url=work.REDIS, namespace=f"{work.PREFIX}dramatiq")
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)
install(meter=work.meter)


@dramatiq.actor
def ask() -> None:
    work.ask()


@dramatiq.actor(max_retries=0)
def wrapped() -> None:
    work.wrapped()


@dramatiq.actor
def leave_behind() -> None:
    work.leave_behind()


@dramatiq.actor
def abandon() -> None:
    work.abandon()


@dramatiq.actor
def start_another() -> None:
    ask.send()


@dramatiq.actor
async def coroutine() -> None:
    await work.aask()


failures = iter([ZeroDivisionError(), ZeroDivisionError()])


@dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1)
def flaky() -> None:
    work.leave_behind()
    if (failure := next(failures, None)) is not None:
        raise failure
