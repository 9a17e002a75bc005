"""Many calls at once against one tenant: the limit holds, and nearly all of it can be used."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import wire
from tests.contract.sdk.metered import TENANT
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Answer, Wire
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, LLMEvent, Meter, MeterConfig, TenantBusy
from token_limit_core.money import to_nano
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call

LATENCY = 0.01
"""Seconds the provider takes: calls have to overlap."""

COST = 32_550
"""Nano-dollars a call costs: 53 fresh and 64 cached input tokens, 33 output tokens of gpt-4o-mini."""


class Watched:
    """A Meter that counts what each call held and what it came to cost."""

    def __init__(self, store: Store, calls: int) -> None:
        self.events: list[LLMEvent] = []
        self.held: dict[str, int] = {}
        self.limit = calls * COST
        self.meter = Meter(MeterConfig(store=store, on_event=self.events.append))
        self.meter.set_limit(TENANT, f"{self.limit / 10**9:.9f}")
        admit = store.admit

        def watched(call: Call, now: float) -> Any:
            assert call.estimate is not None
            self.held[call.call_id] = call.estimate
            return admit(call, now)

        store.admit = watched  # type: ignore[method-assign]

    def check(self, wired: Wire) -> None:
        """Hold what was billed against the published bound."""
        assert self.meter.flush(PATIENCE)
        costs = {event.event_id: to_nano(event.cost_usd) for event in self.events if event.cost_usd is not None}
        assert len(costs) == len(self.events) == len(wired.sent)
        billed = sum(costs.values())
        excess = sum(max(0, cost - self.held[call_id]) for call_id, cost in costs.items())
        assert excess < self.limit // 20, "the estimates must not make the bound say nothing"
        assert billed < self.limit + max(self.held.values()) + excess
        assert billed >= 0.97 * self.limit
        (status,) = self.meter.usage(TENANT)
        assert (status.settled, status.held) == (billed, 0)
        assert self.meter.store.holds() == []


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db")
    yield store
    store.close()


def test_32_threads_stay_within_the_bound_and_use_the_limit(store: Store) -> None:
    watched = Watched(store, 120)
    start = threading.Barrier(32)

    def answer(sent: dict[str, Any]) -> Answer:
        return Answer(200, wire.chat(sent).pieces, pause=lambda: time.sleep(LATENCY))

    wired = Wire(answer)
    client = wired.client()

    def work(number: int) -> None:
        start.wait(PATIENCE)
        while True:
            try:
                with watched.meter.for_tenant(TENANT):
                    client.chat.completions.create(**CHAT.arguments)
            except TenantBusy:
                time.sleep(LATENCY)
            except LimitExhausted:
                return

    with watched.meter.patch("openai"), ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))
        watched.check(wired)


def test_256_tasks_stay_within_the_bound_and_use_the_limit(store: Store) -> None:
    watched = Watched(store, 120)

    def answer(sent: dict[str, Any]) -> Answer:
        return Answer(200, wire.chat(sent).pieces, pause=lambda: asyncio.sleep(LATENCY))

    wired = Wire(answer)

    async def work(client: Any, start: asyncio.Event) -> None:
        await start.wait()
        while True:
            try:
                with watched.meter.for_tenant(TENANT):
                    await client.chat.completions.create(**CHAT.arguments)
            except TenantBusy:
                await asyncio.sleep(10 * LATENCY)
            except LimitExhausted:
                return

    async def main() -> None:
        start = asyncio.Event()
        client = wired.async_client()
        tasks = [asyncio.create_task(work(client, start)) for _ in range(256)]
        await asyncio.sleep(0)
        start.set()
        await asyncio.gather(*tasks)

    with watched.meter.patch("openai"):
        asyncio.run(main())
        watched.check(wired)
