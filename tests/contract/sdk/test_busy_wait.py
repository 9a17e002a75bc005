"""`busy_wait`: a call that only calls in flight stand in the way of waits for them, off the event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import wire
from tests.contract.sdk.metered import TENANT
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Answer, Wire
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, Meter, MeterConfig, TenantBusy

CALLS = 6
ENOUGH = f"{CALLS * 0.0000326:.9f}"
"""US dollars for that many calls, of $0.00003255 each, but for the estimate of the first."""


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db"


def test_threads_wait_for_the_calls_in_flight(url: str) -> None:
    errors: list[Exception] = []
    start = threading.Barrier(CALLS)
    wired = Wire(lambda sent: Answer(200, wire.chat(sent).pieces, pause=lambda: threading.Event().wait(0.01)))
    client = wired.client()

    def work() -> None:
        start.wait(PATIENCE)
        try:
            with meter.for_tenant(TENANT):
                client.chat.completions.create(**CHAT.arguments)
        except TenantBusy as error:
            errors.append(error)

    with Meter(MeterConfig(store=url, busy_wait=30)).patch("openai") as meter:
        meter.set_limit(TENANT, ENOUGH)
        threads = [threading.Thread(target=work) for _ in range(CALLS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert errors == []
        assert len(wired.sent) == CALLS
        assert meter.store.holds() == []
        assert meter.usage(TENANT)[0].held == 0


def test_tasks_wait_for_the_calls_in_flight(url: str) -> None:
    wired = Wire(lambda sent: Answer(200, wire.chat(sent).pieces, pause=lambda: asyncio.sleep(0.01)))

    async def call(client: Any) -> None:
        with meter.for_tenant(TENANT):
            await client.chat.completions.create(**CHAT.arguments)

    async def main() -> None:
        client = wired.async_client()
        await asyncio.gather(*(call(client) for _ in range(CALLS)))

    with Meter(MeterConfig(store=url, busy_wait=30)).patch("openai") as meter:
        meter.set_limit(TENANT, ENOUGH)
        asyncio.run(main())
        assert len(wired.sent) == CALLS
        assert meter.usage(TENANT)[0].held == 0


def test_a_loop_goes_on_while_a_call_waits(url: str) -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def hold_back() -> None:
            reached.set()
            await answered.wait()

        reached = asyncio.Event()
        wired = Wire(lambda sent: Answer(200, wire.chat(sent).pieces, pause=hold_back), wire.chat)
        client = wired.async_client()
        with meter.for_tenant(TENANT):
            first = asyncio.create_task(client.chat.completions.create(**CHAT.arguments))
            await asyncio.wait_for(reached.wait(), PATIENCE)
            second = asyncio.create_task(client.chat.completions.create(**CHAT.arguments))
            for _ in range(5):
                await asyncio.sleep(0.01)  # the loop runs
            assert not second.done()
            answered.set()
            await first
            with pytest.raises(LimitExhausted):  # what it waited for has spent the limit
                await second
            assert len(wired.sent) == 1

    with Meter(MeterConfig(store=url, busy_wait=30)).patch("openai") as meter:
        meter.set_limit(TENANT, "0.00001")
        asyncio.run(main())


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_call_does_not_wait_longer(seconds: float, url: str) -> None:
    refused: list[str] = []

    def call_again(sent: dict[str, Any]) -> Answer:
        with pytest.raises(TenantBusy) as caught:
            Wire(wire.chat).client().chat.completions.create(**CHAT.arguments)
        refused.append(caught.value.decision.kind)
        return wire.chat(sent)

    with Meter(MeterConfig(store=url, busy_wait=seconds)).patch("openai") as meter:
        meter.set_limit(TENANT, "0.00001")
        with meter.for_tenant(TENANT):
            Wire(call_again).client().chat.completions.create(**CHAT.arguments)
        assert refused == ["busy"]
        assert meter.status()["counts"]["refused"] == 1


def test_a_call_that_is_cancelled_while_it_waits_holds_nothing(url: str) -> None:
    async def main() -> None:
        stall = wire.Stall(wire.chat, None)
        client = Wire(stall.script).async_client()
        with meter.for_tenant(TENANT):
            tasks = [asyncio.create_task(client.chat.completions.create(**CHAT.arguments))]
            await asyncio.wait_for(stall.reached.wait(), PATIENCE)
            tasks.append(asyncio.create_task(client.chat.completions.create(**CHAT.arguments)))
            await asyncio.sleep(0.02)
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with Meter(MeterConfig(store=url, busy_wait=30)).patch("openai") as meter:
        meter.set_limit(TENANT, "0.00001")
        asyncio.run(main())
        assert meter.flush(PATIENCE)
        assert meter.store.holds() == []
