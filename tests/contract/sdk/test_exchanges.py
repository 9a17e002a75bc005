"""Streams that are still open when a request, WebSocket or task ends: left ones settle, those that are read go on."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.sdk import wire
from tests.contract.sdk.wire import Answer, Wire
from tests.waiting import wait_until
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core import scope as scopes
from token_limit_core.exchange import Exchange
from token_limit_core.meter import engine_of
from token_limit_core.patches import watch

MESSAGES = [{"role": "user", "content": "Why?"}]
REQUEST: dict[str, Any] = {"model": wire.MODEL, "messages": MESSAGES, "stream": True}


class Site:
    """An application's client, and what the suite has recorded; nothing that is kept is ever collected."""

    def __init__(self, meter: Meter, events: list[LLMEvent]) -> None:
        self.meter, self.events = meter, events
        self.slow = False
        self.reached = threading.Event()
        self.paused = asyncio.Event()
        self.client = Wire(wire.chat).client()
        self.aclient = Wire(self._slow).async_client()
        self.kept: list[Any] = []

    def _slow(self, sent: dict[str, Any]) -> Answer:
        """Answer asynchronous clients; a `slow` one waits after half of the chunks."""
        answer = wire.chat(sent)
        if self.slow:
            answer.pieces, answer.stall = answer.pieces[:4], self._stall
        return answer

    async def _stall(self) -> None:
        self.reached.set()
        await self.paused.wait()

    def exchange(self, loop: asyncio.AbstractEventLoop | None = None) -> Exchange:
        return Exchange("acme", engine=engine_of(self.meter), loop=loop)

    def stream(self) -> Any:
        return self.keep(self.client.chat.completions.create(**REQUEST))

    async def astream(self) -> Any:
        return self.keep(await self.aclient.chat.completions.create(**REQUEST))

    def keep(self, thing: Any) -> Any:
        self.kept.append(thing)
        return thing

    @property
    def settled(self) -> bool:
        return bool(self.events) and not self.meter.store.holds()

    def whole(self) -> bool:
        """Return whether the one event has what the whole stream has cost; a part of it would be an estimate."""
        wait_until(lambda: self.settled)
        (event,) = self.events
        assert event.tenant_id == "acme"
        return "estimated" not in event.tags and event.output_tokens == wire.OUTPUT


@pytest.fixture
def site() -> Iterator[Site]:
    events: list[LLMEvent] = []
    with Meter(MeterConfig(store="memory://", on_event=events.append)) as meter:
        meter.set_limit("acme", 5)
        yield Site(meter.patch_all(), events)


@pytest.fixture(autouse=True)
def _no_collector(site: Site) -> Iterator[None]:
    """Let nothing but the end of the exchange settle a stream."""
    gc.disable()
    yield
    gc.enable()


# -- threads ----------------------------------------------------------------------------------------


def first_chunk(stream: Any) -> Any:
    next(iter(stream))
    return stream


def lines(site: Site) -> Any:
    """Read a raw body's beginning."""
    manager = site.keep(site.client.chat.completions.with_streaming_response.create(**REQUEST))
    body = site.keep(manager.__enter__().iter_lines())
    return next(body)


LEFT: dict[str, Callable[[Site], Any]] = {
    "not read": lambda site: site.stream(),
    "read in part": lambda site: first_chunk(site.stream()),
    "a raw body": lines,
    "read in part by a pool's task": lambda site: _in_pool(lambda: first_chunk(site.stream())),
    "opened by a pool's task": lambda site: first_chunk(_in_pool(site.stream)),
    "read in part by a thread": lambda site: _in_thread(lambda: first_chunk(site.stream())),
}


def _in_pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _in_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)


@pytest.mark.parametrize("how", list(LEFT))
def test_a_stream_that_is_left_settles_at_the_end_of_its_exchange(site: Site, how: str) -> None:
    exchange = site.exchange()
    with scopes.use(exchange):
        LEFT[how](site)
    assert not site.settled
    exchange.end()
    assert not site.whole()


def test_a_stream_that_a_pools_task_opened_is_the_exchanges_to_read(site: Site) -> None:
    exchange = site.exchange()
    with scopes.use(exchange):
        list(_in_pool(site.stream))
        exchange.end()
    assert site.whole()


@pytest.mark.parametrize("opened_by", ["thread", "exchange"])
def test_a_thread_that_goes_on_reads_its_stream_to_the_end(site: Site, opened_by: str) -> None:
    exchange, begun, over = site.exchange(), threading.Event(), threading.Event()

    def read(stream: Any) -> None:
        stream = first_chunk(stream or site.stream())
        begun.set()
        over.wait(10)
        list(stream)

    with scopes.use(exchange):
        thread = threading.Thread(target=read, args=(site.stream() if opened_by == "exchange" else None,))
        thread.start()
    begun.wait(10)
    exchange.end()
    over.set()
    thread.join(10)
    assert site.whole()


def test_a_thread_that_ends_after_its_exchange_settles_what_it_left(site: Site) -> None:
    exchange, over = site.exchange(), threading.Event()
    with scopes.use(exchange):
        thread = threading.Thread(target=lambda: (first_chunk(site.stream()), over.wait(10)))
        thread.start()
    wait_until(lambda: bool(site.kept))
    exchange.end()
    assert not site.settled
    over.set()
    thread.join(10)
    assert not site.whole()


# -- tasks ------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Exchange]:
    """Do what an ASGI middleware does."""
    exchange = site.exchange(asyncio.get_running_loop())
    with scopes.use(exchange):
        yield exchange
    exchange.end()


async def settled(site: Site) -> None:
    while not site.settled:
        await asyncio.sleep(0.01)


async def test_a_stream_that_the_task_of_the_exchange_leaves_settles_with_it(site: Site) -> None:
    async with serving(site):
        await anext(aiter(await site.astream()))
    await settled(site)
    assert not site.whole()


async def test_a_raw_body_that_is_left_settles_too(site: Site) -> None:
    async with serving(site):
        manager = site.keep(site.aclient.chat.completions.with_streaming_response.create(**REQUEST))
        await anext(site.keep((await manager.__aenter__()).iter_lines()))
    await settled(site)
    assert not site.whole()


async def test_a_stream_that_nobody_reads_settles_a_moment_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "UNREAD_SECONDS", 0.01)
    async with serving(site):
        await site.astream()
    await settled(site)
    assert not site.whole()


async def test_a_task_that_has_only_been_started_reads_its_stream_to_the_end(site: Site) -> None:
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with serving(site):
        task = asyncio.create_task(read(await site.astream()))
    await task
    assert site.whole()


@pytest.mark.parametrize("opened_by", ["task", "exchange"])
async def test_a_task_that_goes_on_reads_its_stream_to_the_end(site: Site, opened_by: str) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def read(stream: Any) -> None:
        stream = aiter(stream or await site.astream())
        await anext(stream)
        begun.set()
        await over.wait()
        async for _ in stream:
            pass

    async with serving(site):
        stream = await site.astream() if opened_by == "exchange" else None
        task = asyncio.create_task(read(stream))
        await begun.wait()
    over.set()
    await task
    assert site.whole()


async def test_a_task_that_goes_on_and_leaves_its_stream_settles_it_at_its_end(site: Site) -> None:
    over = asyncio.Event()

    async def read() -> None:
        await anext(aiter(await site.astream()))
        await over.wait()

    async with serving(site):
        task = asyncio.create_task(read())
        while not site.kept:
            await asyncio.sleep(0.01)
    assert not site.settled
    over.set()
    await task
    await settled(site)
    assert not site.whole()


async def test_a_task_that_is_stuck_after_its_exchange_settles_its_stream(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer behind a queue that nobody empties waits for ever."""
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.05)
    queue: asyncio.Queue[Any] = asyncio.Queue(1)

    async def produce() -> None:
        async for chunk in await site.astream():
            await queue.put(chunk)

    async with serving(site):
        task = asyncio.create_task(produce())
        await queue.get()
    await settled(site)
    assert not task.done()
    assert not site.whole()
    task.cancel()


async def test_a_provider_that_is_slow_after_the_exchange_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.01)
    site.slow = True

    async def read() -> None:
        async for _ in await site.astream():
            pass

    async with serving(site):
        task = asyncio.create_task(read())
        await asyncio.to_thread(site.reached.wait, 10)
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert not site.settled
    site.slow = False
    site.paused.set()
    await task
    assert not site.whole()


def test_a_stream_that_a_kept_runner_pulls_piece_by_piece_settles_with_its_exchange(site: Site) -> None:
    exchange = site.exchange()
    runner = site.keep(asyncio.Runner())

    async def open_() -> Any:
        return site.keep(aiter(await site.astream()))

    async def pull(stream: Any) -> Any:
        return await anext(stream)

    with scopes.use(exchange):
        stream = runner.run(open_())
        for _ in range(3):
            runner.run(pull(stream))
    assert not site.settled
    exchange.end()
    assert not site.whole()
    runner.close()


def test_a_task_on_a_loop_that_has_stopped_reads_no_more(site: Site) -> None:
    """A pump that gives each piece some time leaves the task of its last pull behind."""
    exchange = site.exchange()
    loop = site.keep(asyncio.new_event_loop())
    site.slow = True

    async def pull(stream: Any) -> Any:
        return await anext(stream)

    with scopes.use(exchange):
        stream = loop.run_until_complete(site.astream())
        while not site.reached.is_set():
            loop.run_until_complete(asyncio.wait([site.keep(loop.create_task(pull(stream)))], timeout=0.1))
    exchange.end()
    assert not site.whole()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.parametrize("tenant", ["acme", "without a limit"])
def test_every_left_stream_of_an_exchange_is_settled(site: Site, tenant: str) -> None:
    exchange = Exchange(tenant, engine=engine_of(site.meter))
    with scopes.use(exchange):
        for _ in range(5):
            first_chunk(site.stream())
        list(site.stream())
        site.stream().close()
    exchange.end()
    exchange.end()
    wait_until(lambda: len(site.events) == 7)
    assert {event.tenant_id for event in site.events} == {tenant}
    assert site.meter.store.holds() == []
    assert exchange.streams == set()
