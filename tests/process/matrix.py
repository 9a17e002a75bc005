"""One of many processes that spend one tenant's limit: threads and tasks call OpenAI's SDK; the provider is slow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import openai

from tests.contract.sdk import wire
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Answer, Wire
from tests.contract.worker import open_spec
from tests.waiting import PATIENCE
from token_limit_core import LimitExceededException, LLMEvent, Meter, MeterConfig
from token_limit_core.money import to_nano
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call

TENANT = "acme"
COST = 32_550
"""Nano-dollars a call costs: 53 fresh and 64 cached input tokens, 33 output tokens of gpt-4o-mini."""
SECONDS = 0.05
"""What the provider takes to answer."""
THREADS = 16


class Spent(NamedTuple):
    """What a process did. `most_held` and `excess` (what calls cost above their holds) are nano-dollars."""

    attempts: int
    by_threads: int
    by_tasks: int
    billed: int
    most_held: int
    excess: int


def spend(store: Store, attempts: int, tasks: int, busy_wait: float) -> Spent:
    """Make calls from threads and tasks until so many were tried; each may wait for money that calls in flight hold."""
    events: list[LLMEvent] = []
    held: dict[str, tuple[int, int]] = {}
    admit = store.admit

    def watched(call: Call, now: float) -> Any:
        least = call.estimate or 0
        held[call.call_id] = (least, max(least, call.ceiling or 0))
        return admit(call, now)

    store.admit = watched  # type: ignore[method-assign]
    wired, awired = slow(lambda: time.sleep(SECONDS)), slow(lambda: asyncio.sleep(SECONDS))
    tries = Tries(attempts)

    def work(client: openai.OpenAI) -> None:
        while tries.take():
            with suppress(LimitExceededException), meter.for_tenant(TENANT):
                client.chat.completions.create(**CHAT.arguments)

    async def awork(client: openai.AsyncOpenAI) -> None:
        while tries.take():
            with suppress(LimitExceededException), meter.for_tenant(TENANT):
                await client.chat.completions.create(**CHAT.arguments)

    async def start_tasks() -> None:
        async with awired.async_client() as client:
            await asyncio.gather(*(awork(client) for _ in range(tasks)))

    config = MeterConfig(store=store, on_event=events.append, store_timeout=PATIENCE, busy_wait=busy_wait)
    with Meter(config) as meter, ThreadPoolExecutor(THREADS + 1) as pool:
        meter.patch("openai")
        loop = pool.submit(asyncio.run, start_tasks())
        list(pool.map(work, [wired.client()] * THREADS))
        loop.result()
        assert meter.flush(PATIENCE)
    costs = {event.event_id: to_nano(event.cost_usd) for event in events if event.cost_usd is not None}
    most = max((most for _, most in held.values()), default=0)
    excess = sum(max(0, cost - held[call_id][0]) for call_id, cost in costs.items())
    return Spent(attempts, len(wired.sent), len(awired.sent), sum(costs.values()), most, excess)


def slow(pause: Callable[[], Any]) -> Wire:
    """Return a provider that takes a moment to answer."""
    return Wire(lambda sent: Answer(200, wire.chat(sent).pieces, pause=pause))


class Tries:
    """Counts down the attempts that threads and tasks share."""

    def __init__(self, attempts: int) -> None:
        self._left = iter(range(attempts))
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            return next(self._left, None) is not None


def main(pipe: Connection, spec: str, attempts: int, tasks: int, busy_wait: float) -> None:
    """Open the store of `spec`, wait, spend, and send what was done."""
    store = open_spec(spec)
    pipe.send("ready")
    pipe.recv()
    pipe.send(spend(store, attempts, tasks, busy_wait))
