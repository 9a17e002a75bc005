"""A store that fails, is slow, or is left in the lurch: the application goes on, and no money is lost or held."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import CHAT, Use
from tests.contract.sdk.wire import Wire
from tests.waiting import PATIENCE
from token_limit_core import Decision, LimitExceededException, LLMEvent, StoreError
from token_limit_core.limits import Limit
from token_limit_core.meter import engine_of
from token_limit_core.runtime.executor import executor
from token_limit_core.stores.memory.store import MemoryStore
from token_limit_core.stores.records import Call, Recorded


class Fragile(MemoryStore):
    """A store that can be made to fail, or to wait; unlike memory it is kept off the event loop."""

    leaves_loop = True

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.error: Exception = StoreError("the store is away")
        self.entered = threading.Semaphore(0)
        self.gates: dict[str, threading.Event] = {}

    def _do(self, what: str) -> None:
        self.entered.release()
        if what in self.gates:
            assert self.gates[what].wait(PATIENCE)
        if what in self.failing:
            raise self.error

    def welcome(self, limit: Limit, now: float) -> bool:
        self._do("welcome")
        return super().welcome(limit, now)

    def admit(self, call: Call, now: float) -> Decision:
        self._do("admit")
        return super().admit(call, now)

    def settle(self, call_id: str, event: LLMEvent, cost_nano: int | None, now: float) -> Recorded:
        self._do("settle")
        return super().settle(call_id, event, cost_nano, now)

    def released(self, metered: Metered) -> bool:
        """Tell whether nothing is held once every thread is through."""
        executor.close()
        return metered.meter.flush(PATIENCE) and self.holds() == []


@pytest.fixture
def store() -> Fragile:
    return Fragile()


@pytest.fixture
def fragile(store: Fragile) -> Iterator[Metered]:
    metered = Metered(store=store, max_queue_size=3)
    yield metered
    store.failing.clear()
    metered.meter.close()


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_bytes, uses.closed_unread])
def test_a_store_that_cannot_be_asked_lets_the_call_through_marked(
    make: Callable[..., Any], use: Use, store: Fragile, fragile: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    store.failing.add("admit")
    wired = Wire(wire.chat)
    result = fragile.run(use, make(wired), CHAT)

    assert result.error is None
    assert len(wired.sent) == 1
    assert fragile.event().tags["unverified"] is True
    assert fragile.meter.status()["counts"] == {"unverified": 1, "events": 1}
    assert "goes out unverified" in caplog.text


def test_a_tenant_whose_first_call_met_a_store_that_was_away_has_the_default_limit(
    make: Callable[..., Any], store: Fragile
) -> None:
    metered = Metered(store=store, default_limit_usd=0)
    metered.meter.patch("openai")
    with metered.meter.for_tenant("new"):
        store.failing = {"welcome", "admit", "settle"}
        assert run(uses.plain, make(Wire(wire.chat)), CHAT).error is None
        store.failing = set()
        assert metered.meter.flush(PATIENCE)
        assert isinstance(run(uses.plain, make(Wire(wire.chat)), CHAT).error, LimitExceededException)
    metered.meter.close()


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_bytes, uses.never_iterated])
def test_a_settle_the_store_did_not_take_is_kept_and_stored_once(
    make: Callable[..., Any], use: Use, store: Fragile, fragile: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    store.failing.add("settle")
    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        result = run(use, make(Wire(wire.chat)), CHAT)

    assert result.error is None
    assert fragile.meter.flush(5) is False
    assert fragile.meter.status()["settles_waiting"] == 1
    assert len(store.holds()) == 1
    assert len(fragile.events) == 1
    assert "will be tried again" in caplog.text

    store.failing.clear()
    assert fragile.meter.flush(PATIENCE) is True
    assert fragile.meter.status()["settles_waiting"] == 0
    fragile.event()


@pytest.mark.parametrize("idle", [False, True], ids=["new thread", "idle thread"])
def test_a_settle_that_waits_is_tried_again_without_being_asked(idle: bool, store: Fragile, fragile: Metered) -> None:
    if idle:
        engine_of(fragile.meter).settler.start()
    store.failing.add("settle")
    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        run(uses.plain, Wire(wire.chat).client(), CHAT)
    assert store.entered.acquire(timeout=PATIENCE)  # admit
    assert store.entered.acquire(timeout=PATIENCE)  # settle
    store.failing.clear()

    assert store.entered.acquire(timeout=PATIENCE)
    assert fragile.meter.flush(PATIENCE)
    fragile.event()


def test_settles_that_wait_are_all_kept_beyond_the_size_of_the_queue(store: Fragile, fragile: Metered) -> None:
    store.failing.add("settle")
    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT):
        for _ in range(5):
            run(uses.plain, Wire(wire.chat).client(), CHAT)
    status = fragile.meter.status()
    assert (status["settles_waiting"], status["settles_lost"]) == (5, 0)

    store.failing.clear()
    assert fragile.meter.flush(PATIENCE)
    assert fragile.meter.store.spend(TENANT, 0, fragile.meter.config.clock() + 1).calls == 5


@pytest.mark.parametrize("what", ["admit", "settle"])
def test_a_fault_of_ours_never_reaches_the_application(
    make: Callable[..., Any],
    what: str,
    store: Fragile,
    fragile: Metered,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.failing.add(what)
    store.error = ZeroDivisionError("ours")
    with monkeypatch.context() as production:
        production.delenv("PYTEST_CURRENT_TEST")
        for use in (uses.plain, uses.stream, uses.stream_bytes, uses.closed):
            assert fragile.run(use, make(Wire(wire.chat)), CHAT).error is None
    assert "the application goes on" in caplog.text
    assert isinstance(fragile.run(uses.plain, make(Wire(wire.chat)), CHAT).error, ZeroDivisionError)


# -- callers that leave -----------------------------------------------------------------------------


async def entered(store: Fragile) -> None:
    """Wait until a thread is inside the store."""
    assert await asyncio.to_thread(store.entered.acquire, True, PATIENCE)


@pytest.mark.parametrize("loop_ends", [False, True])
def test_a_caller_that_leaves_during_admission_holds_nothing(loop_ends: bool, store: Fragile, fragile: Metered) -> None:
    gate = store.gates["admit"] = threading.Event()
    wired = Wire(wire.chat)

    async def main() -> None:
        task = asyncio.create_task(uses.plain(wired.async_client(), CHAT, []))
        await entered(store)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not loop_ends:
            gate.set()

    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT):
        asyncio.run(main())
    gate.set()

    assert store.released(fragile)
    assert wired.sent == []
    assert fragile.events == []


def test_a_caller_that_leaves_when_its_admission_is_on_the_way_back_holds_nothing(
    store: Fragile, fragile: Metered
) -> None:
    gate = store.gates["admit"] = threading.Event()
    wired = Wire(wire.chat)

    async def main() -> None:
        task = asyncio.create_task(uses.plain(wired.async_client(), CHAT, []))
        await entered(store)
        gate.set()
        executor.close()  # the thread is through, and the loop has not heard of it yet
        assert len(store.holds()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT):
        asyncio.run(main())

    assert store.released(fragile)
    assert wired.sent == []


@pytest.mark.parametrize("loop_ends", [False, True])
@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_bytes])
def test_callers_that_leave_while_settling_are_settled_once(
    loop_ends: bool, use: Use, store: Fragile, fragile: Metered
) -> None:
    """More of them than there are threads for them, so that some have not even begun."""
    gate = store.gates["settle"] = threading.Event()
    calls = 9

    async def main() -> None:
        client = Wire(wire.chat).async_client()
        tasks = [asyncio.create_task(use(client, CHAT, [])) for _ in range(calls)]
        for _ in range(calls + 4):  # every call was admitted, and every thread settles
            await entered(store)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not loop_ends:
            gate.set()

    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT):
        asyncio.run(main())
    gate.set()

    assert store.released(fragile)
    assert len({event.event_id for event in fragile.events}) == len(fragile.events) == calls
    assert store.spend(TENANT, 0, fragile.meter.config.clock() + 1).calls == calls
    assert {event.input_tokens for event in fragile.events} == {wire.INPUT}


def test_the_loop_runs_on_while_the_store_is_slow(store: Fragile, fragile: Metered) -> None:
    gate = store.gates["admit"] = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(uses.plain(Wire(wire.chat).async_client(), CHAT, []))
        await entered(store)
        gate.set()  # reached only because the loop is not inside the store
        await task

    fragile.meter.patch("openai")
    with fragile.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        asyncio.run(main())
    fragile.event()


def test_an_error_of_the_settlers_thread_is_logged(
    store: Fragile, fragile: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    store.failing.add("settle")
    store.error = ZeroDivisionError("ours")
    with caplog.at_level(logging.ERROR, "token_limit"):
        assert fragile.run(uses.never_iterated, Wire(wire.chat).client(), CHAT).error is None
    assert "settler" in caplog.text
