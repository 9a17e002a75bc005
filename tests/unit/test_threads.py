"""Threads: the tenant follows work into them, from the code that hands the work over."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import anyio.to_thread
import pytest
from asgiref.sync import sync_to_async

from tests.unit.acme import Client
from tests.waiting import threads_started, wait_until
from token_limit_core import LimitExhausted, LLMEvent, Meter, MeterConfig
from token_limit_core import scope as scopes
from token_limit_core.exchange import Exchange
from token_limit_core.meter import engine_of

Work = Callable[[], Any]


def generate(*args: Any) -> None:
    Client().generate("hi")


async def agenerate() -> None:
    await Client().agenerate("hi")


def tenants(events: list[LLMEvent]) -> list[str]:
    return [event.tenant_id for event in events]


def _thread(work: Work, thread: threading.Thread | None = None) -> None:
    thread = thread or threading.Thread(target=work)
    thread.start()
    thread.join(10)


class Worker(threading.Thread):
    """A thread that does not call `Thread.run`."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def run(self) -> None:
        self.work()


def _submit(work: Work) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def _map(work: Work) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: work(), [0]))


def _on_loop(start: Callable[[Work], Any]) -> Callable[[Work], None]:
    async def main(work: Work) -> None:
        await start(work)

    return lambda work: asyncio.run(main(work))


def _in_executor(work: Work) -> Any:
    return asyncio.get_running_loop().run_in_executor(None, work)


def _in_pool(use: Callable[[Any, Callable[..., Any]], Any]) -> Callable[[Work], None]:
    def run(work: Work) -> None:
        with ThreadPool(1) as pool:
            use(pool, lambda *args: work())

    return run


WAYS: dict[str, Callable[[Work], None]] = {
    "Thread": _thread,
    "a subclass of Thread": lambda work: _thread(work, Worker(work)),
    "Timer": lambda work: _thread(work, threading.Timer(0, work)),
    "a thread of a thread": lambda work: _thread(lambda: _thread(work)),
    "asyncio.run in a thread": lambda work: _thread(lambda: asyncio.run(agenerate())),
    "submit": _submit,
    "map": _map,
    "a thread of a pool's task": lambda work: _submit(lambda: _thread(work)),
    "run_in_executor": _on_loop(_in_executor),
    "to_thread": _on_loop(asyncio.to_thread),
    "anyio": _on_loop(anyio.to_thread.run_sync),
    "sync_to_async": _on_loop(lambda work: sync_to_async(work)()),
    "ThreadPool.apply": _in_pool(lambda pool, work: pool.apply(work)),
    "ThreadPool.apply_async": _in_pool(lambda pool, work: pool.apply_async(work, (1,)).get()),
    "ThreadPool.map": _in_pool(lambda pool, work: pool.map(work, [0])),
    "ThreadPool.map_async": _in_pool(lambda pool, work: pool.map_async(func=work, iterable=[0]).get()),
    "ThreadPool.starmap": _in_pool(lambda pool, work: pool.starmap(work, [(0, 1)])),
    "ThreadPool.imap": _in_pool(lambda pool, work: list(pool.imap(work, [0, 1], chunksize=2))[:1]),
    "ThreadPool.imap_unordered": _in_pool(lambda pool, work: list(pool.imap_unordered(work, [0]))),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_the_tenant_follows_work_into_a_thread(meter: Meter, events: list[LLMEvent], way: str) -> None:
    with meter.for_tenant("acme", feature="report"):
        WAYS[way](generate)
    WAYS[way](generate)
    calls = len(events) // 2
    assert [(event.tenant_id, event.feature) for event in events] == [("acme", "report")] * calls + [("", None)] * calls


@pytest.mark.parametrize("way", list(WAYS))
def test_a_refusal_in_a_thread_is_one_of_the_request(meter: Meter, way: str) -> None:
    meter.set_limit("acme", 0)
    request = Exchange("acme", engine=engine_of(meter))

    def work(*args: Any) -> None:
        with pytest.raises(LimitExhausted):
            generate()

    if way != "asyncio.run in a thread":
        with scopes.use(request):
            WAYS[way](work)
        assert request.denial is not None


POOLS: dict[str, tuple[Callable[[], Any], Callable[[Any, Work], Any]]] = {
    "ThreadPoolExecutor": (lambda: ThreadPoolExecutor(1), lambda pool, work: pool.submit(work).result()),
    "ThreadPool": (lambda: ThreadPool(1), lambda pool, work: pool.apply(work)),
}


@pytest.mark.parametrize("kind", list(POOLS))
@pytest.mark.parametrize("maker", ["acme", None])
def test_a_pool_bills_whoever_hands_it_work_not_its_maker(
    meter: Meter, events: list[LLMEvent], kind: str, maker: str | None
) -> None:
    make, run = POOLS[kind]

    def work() -> None:
        generate()
        meter.set_tenant("left behind")

    with meter.for_tenant(maker):
        pool = make()
        run(pool, work)
    with pool:
        for tenant in ("globex", None, "initech"):
            with meter.for_tenant(tenant):
                run(pool, work)
        contextvars.Context().run(run, pool, work)
    assert tenants(events) == [maker or "", "globex", "", "initech", ""]


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("to_thread", "anyio", "sync_to_async")])
def test_threads_can_be_left_alone(acme: None, events: list[LLMEvent], way: str) -> None:
    """What asyncio and others copy the whole context for is theirs, with the tenant in it."""
    config = MeterConfig(store="memory://", patches=["acme"], on_event=events.append, propagate_threads=False)
    with Meter(config).patch_all() as meter, meter.for_tenant("acme"):
        WAYS[way](generate)
    assert set(tenants(events)) == {""}


def test_the_last_meter_that_leaves_restores_the_threads(acme: None) -> None:
    def hooks() -> list[Any]:
        own = [ThreadPool.__dict__.get(name) for name in ("__init__", "apply_async", "_map_async", "imap")]
        return [threading.Thread.start, ThreadPoolExecutor.submit, *own]

    before = hooks()
    with Meter(MeterConfig(store="memory://", patches=[])) as first, Meter(MeterConfig(store="memory://")) as second:
        first.patch_all()
        second.patch("acme")
        assert all(now is not then for now, then in zip(hooks(), before, strict=True))
        first.unpatch_all()
        assert threading.Thread.start is not before[0]
    assert hooks() == before


def test_only_the_tenant_travels(meter: Meter) -> None:
    other: contextvars.ContextVar[str] = contextvars.ContextVar("other", default="nothing")
    other.set("something")
    seen: list[tuple[str | None, str]] = []
    with meter.for_tenant("acme"):
        _thread(lambda: seen.append((meter.current_tenant_id, other.get())))
    assert seen == [("acme", "nothing")]


def test_work_is_what_it_was_without_us(meter: Meter) -> None:
    with meter.for_tenant("acme"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda *args, fn: (args, fn), 1, 2, fn=3).result() == ((1, 2), 3)
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()
        thread = Worker(lambda: None)
        _thread(generate, thread)
        assert "run" not in vars(thread)
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        assert "run" not in vars(thread)
        thread.run()
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(generate)


def test_the_threads_of_the_library_keep_no_request(meter: Meter) -> None:
    scope = Exchange("acme")
    gone = weakref.ref(scope)
    with threads_started() as started, scopes.use(scope):
        asyncio.run(agenerate())
    assert [thread.name for thread in started] == ["token-limit-settler"]
    del scope
    gc.collect()
    assert gone() is None


# -- tenants that are resolved late -----------------------------------------------------------------


class Request:
    """A request whose resolver works in any thread, or fails."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.resolved_in: list[threading.Thread] = []

    def resolve(self) -> str | None:
        self.resolved_in.append(threading.current_thread())
        return self.tenant


@pytest.fixture
def request_(meter: Meter) -> tuple[Request, Exchange]:
    request = Request("acme")
    return request, Exchange(engine=engine_of(meter), resolve=request.resolve)


def test_a_thread_that_calls_nobody_costs_no_look_up(request_: tuple[Request, Exchange]) -> None:
    request, scope = request_
    with scopes.use(scope):
        _thread(lambda: None)
        _submit(lambda: None)
    assert request.resolved_in == []


def test_the_tenant_is_resolved_once_for_the_request_and_its_threads(
    request_: tuple[Request, Exchange], events: list[LLMEvent]
) -> None:
    request, scope = request_
    with scopes.use(scope):
        _thread(lambda: (generate(), generate()))
        _submit(generate)
        generate()
    assert tenants(events) == ["acme"] * 4
    assert len(request.resolved_in) == 1


def test_a_thread_that_outlives_its_request_is_the_requests(
    request_: tuple[Request, Exchange], events: list[LLMEvent]
) -> None:
    _, scope = request_
    over = threading.Event()
    with scopes.use(scope):
        thread = threading.Thread(target=lambda: (over.wait(10), generate()))
        thread.start()
    scope.end()
    over.set()
    thread.join(10)
    assert tenants(events) == ["acme"]


def test_a_tenant_that_is_set_after_the_start_counts(
    request_: tuple[Request, Exchange], events: list[LLMEvent]
) -> None:
    request, scope = request_
    request.tenant = None
    signed_in = threading.Event()
    with scopes.use(scope), ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: (generate(), signed_in.wait(10), generate()))
        wait_until(lambda: bool(events))
        scope.bind("acme")
        signed_in.set()
        concurrent.futures.wait([future], 10)
    assert tenants(events) == ["", "acme"]
