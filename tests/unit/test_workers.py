"""Work that leaves the request: to threads, loops and queues, and what it takes along."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import dramatiq
import pytest
from celery import Celery
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO

from tests.unit.acme import Client
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, LLMEvent, Meter, NoTenant
from token_limit_core import scope as scopes
from token_limit_core.meter import engine_of
from token_limit_core.scope import Scope
from token_limit_core.workers import celery as over_celery
from token_limit_core.workers import dramatiq as over_dramatiq
from token_limit_core.workers import wire
from token_limit_core.workers.threads import ContextExecutor, acarry, carry, run


class Request:
    """A web request whose user is known only when somebody asks."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.looked_up_by: list[threading.Thread] = []

    def resolve(self) -> str | None:
        self.looked_up_by.append(threading.current_thread())
        return self.tenant

    async def aresolve(self) -> str | None:
        return self.resolve()


def request_scope(meter: Meter, tenant: str | None) -> tuple[Request, Scope]:
    request = Request(tenant)
    return request, Scope(engine=engine_of(meter), resolve=request.resolve, aresolve=request.aresolve)


def generate(*args: Any) -> None:
    Client().generate("hi")


async def agenerate() -> None:
    await asyncio.sleep(0)
    generate()


def tenants(events: list[LLMEvent]) -> list[str]:
    return [event.tenant_id for event in events]


def in_thread(work: Callable[[], Any]) -> None:
    """Run work in a thread that nobody has given a context."""
    errors: list[BaseException] = []

    def target() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]


# -- what travels ---------------------------------------------------------------------------------


def test_what_travels_names_the_tenant_the_session_and_what_json_can_hold(meter: Meter) -> None:
    with meter.for_tenant(
        "acme", session_id="s-1", user=7, plan={"name": "gold"}, request=object(), share=float("nan")
    ):
        assert wire.dump() == {
            "v": 1, "tenant": "acme", "session": "s-1", "attributes": {"user": 7, "plan": {"name": "gold"}},
        }  # fmt: skip
    with meter.for_tenant("acme"):
        assert wire.dump() == {"v": 1, "tenant": "acme"}


def test_nothing_travels_without_a_tenant(meter: Meter) -> None:
    assert wire.dump() is None
    with scopes.use(request_scope(meter, None)[1]):
        assert wire.dump() is None


def test_what_arrives_is_what_was_sent(meter: Meter, events: list[LLMEvent]) -> None:
    with meter.for_tenant("acme", session_id="s-1", user="7", feature="report", plan="gold"):
        data = wire.dump()
    with wire.task(data, meter):
        generate()
    assert meter.current_tenant_id is None
    (event,) = events
    assert (event.tenant_id, event.session_id, event.user, event.feature) == ("acme", "s-1", "7", "report")
    assert event.tags == {"plan": "gold"}


@pytest.mark.parametrize(
    "data",
    [
        {"v": 2, "tenant": "acme"},
        {"v": 1},
        {"v": 1, "tenant": ""},
        {"v": 1, "tenant": None},
        {"v": 1, "tenant": "x" * 256},
        {"v": 1, "tenant": "acme", "attributes": ["feature"]},
        {"tenant": "acme"},
        "acme",
        7,
        [],
    ],
)
def test_what_cannot_be_read_is_no_tenant(
    meter: Meter, events: list[LLMEvent], caplog: pytest.LogCaptureFixture, data: Any
) -> None:
    with wire.task(data, meter):
        generate()
    assert tenants(events) == [""]
    assert "a task message has an invalid tenant" in caplog.text


def test_a_task_without_a_tenant_is_not_its_callers(meter: Meter, events: list[LLMEvent]) -> None:
    with meter.for_tenant("somebody"):
        with wire.task(None, meter):
            generate()
        generate()
    assert tenants(events) == ["", "somebody"]


def test_a_task_without_a_tenant_follows_the_policy(meter: Meter) -> None:
    meter.config.on_no_tenant = "refuse"
    with wire.task(None, meter), pytest.raises(NoTenant):
        generate()


# -- threads --------------------------------------------------------------------------------------


def test_a_carried_thread_has_its_tenant_with_whatever_it_is_started(meter: Meter, events: list[LLMEvent]) -> None:
    with meter.for_tenant("acme", feature="report"):
        work = carry(generate)
    in_thread(work)
    with meter.for_tenant("globex"):
        in_thread(work)
    assert [(event.tenant_id, event.feature) for event in events] == [("acme", "report")] * 2


def test_carried_work_may_run_many_times_at_once(meter: Meter, events: list[LLMEvent]) -> None:
    both = threading.Barrier(4, timeout=PATIENCE)

    def work(number: int) -> str | None:
        before = meter.current_tenant_id
        meter.set_tenant(f"own {number}")
        both.wait()
        generate()
        return before

    with meter.for_tenant("acme"), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(carry(work), range(4))) == ["acme"] * 4
    assert sorted(tenants(events)) == [f"own {number}" for number in range(4)]


def test_an_executor_that_carries_never_keeps_a_tenant(meter: Meter) -> None:
    def who() -> str | None:
        found = meter.current_tenant_id
        meter.set_tenant("left behind")
        return found

    with ContextExecutor(1) as pool:
        with meter.for_tenant("acme"):
            first = pool.submit(who)
        with meter.for_tenant("globex"):
            second = list(pool.map(lambda _: who(), range(2)))
        third = pool.submit(who)
    assert [first.result(), *second, third.result()] == ["acme", "globex", "globex", None]


def test_a_refusal_in_a_thread_reaches_the_caller(meter: Meter) -> None:
    meter.set_limit("acme", 0)
    with ContextExecutor(1) as pool, meter.for_tenant("acme"), pytest.raises(LimitExhausted):
        pool.submit(generate).result()


def test_a_late_tenant_is_looked_up_before_the_work_leaves_the_request(meter: Meter, events: list[LLMEvent]) -> None:
    request, scope = request_scope(meter, "acme")
    with scopes.use(scope):
        work = carry(generate)
    request.tenant = "somebody else"
    in_thread(work)
    assert tenants(events) == ["acme"]
    assert request.looked_up_by == [threading.current_thread()]


@pytest.mark.parametrize("tenant", ["acme", None])
def test_carried_work_does_not_keep_the_request_alive(meter: Meter, events: list[LLMEvent], tenant: str | None) -> None:
    request, scope = request_scope(meter, tenant)
    gone = weakref.ref(request)
    with scopes.use(scope):
        works = [carry(generate)]
        with meter.for_tenant("explicit"):
            works.append(carry(generate))
    del request, scope
    gc.collect()
    assert gone() is None
    for work in works:
        in_thread(work)
    assert tenants(events) == [tenant or "", "explicit"]


async def test_work_carried_from_a_loop_looks_up_without_blocking(meter: Meter, events: list[LLMEvent]) -> None:
    scope = Scope(engine=engine_of(meter), aresolve=Request("acme").aresolve)
    with scopes.use(scope):
        await asyncio.get_running_loop().run_in_executor(None, await acarry(generate))
    assert tenants(events) == ["acme"]


def test_a_coroutine_function_cannot_be_carried() -> None:
    with pytest.raises(TypeError, match="coroutine function"):
        carry(agenerate)


# -- loops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [asyncio.run, run], ids=["asyncio.run", "our run"])
def test_a_loop_in_a_synchronous_view_keeps_the_tenant(
    meter: Meter, events: list[LLMEvent], start: Callable[..., Any]
) -> None:
    with scopes.use(request_scope(meter, "acme")[1]):
        start(agenerate())
    assert tenants(events) == ["acme"]


def test_a_loop_in_a_carried_thread_keeps_the_tenant(meter: Meter, events: list[LLMEvent]) -> None:
    with scopes.use(request_scope(meter, "acme")[1]):
        work = carry(lambda: asyncio.run(agenerate()))
    in_thread(work)
    assert tenants(events) == ["acme"]


def test_a_runner_kept_from_request_to_request_bills_each_its_own(meter: Meter, events: list[LLMEvent]) -> None:
    with asyncio.Runner() as runner:
        for tenant in ("acme", "globex"):
            with scopes.use(request_scope(meter, tenant)[1]):
                run(agenerate(), runner=runner)
        run(agenerate(), runner=runner)
    assert tenants(events) == ["acme", "globex", ""]


def serve(scope: Scope | None, work: Callable[[], Any]) -> Any:
    """Do what a middleware does; under ASGI in a copy of the request's context, in a thread that serves others too."""
    with scopes.use(scope):
        return work()


def test_a_kept_runner_bills_whose_run_it_is(meter: Meter, events: list[LLMEvent]) -> None:
    with asyncio.Runner() as runner:
        for tenant in ("acme", "globex"):
            serve(request_scope(meter, tenant)[1], lambda: runner.run(agenerate()))
        runner.run(agenerate())
        with ThreadPoolExecutor(1) as pool, meter.for_tenant("carried"):
            pool.submit(carry(lambda: runner.run(agenerate()))).result()
        with pytest.raises(LimitExhausted):
            meter.set_limit("broke", 0)
            serve(request_scope(meter, "broke")[1], lambda: runner.run(agenerate()))
    assert tenants(events) == ["acme", "globex", "", "carried"]


def test_a_kept_runner_bills_whose_run_it_is_while_its_first_user_is_still_served(
    meter: Meter, events: list[LLMEvent]
) -> None:
    with asyncio.Runner() as runner, scopes.use(request_scope(meter, "acme")[1]):
        runner.run(agenerate())
        contextvars.Context().run(serve, request_scope(meter, "globex")[1], lambda: runner.run(agenerate()))
        contextvars.Context().run(runner.run, agenerate())
        runner.run(agenerate())
    assert tenants(events) == ["acme", "globex", "", "acme"]


def test_work_that_a_kept_runner_hands_to_a_thread_is_its_callers(meter: Meter, events: list[LLMEvent]) -> None:
    with asyncio.Runner() as runner:
        for tenant in ("acme", "globex"):
            serve(request_scope(meter, tenant)[1], lambda: runner.run(asyncio.to_thread(generate)))
        runner.run(asyncio.to_thread(generate))
    assert tenants(events) == ["acme", "globex", ""]


def test_a_task_left_on_a_kept_runner_stays_its_own(meter: Meter, events: list[LLMEvent]) -> None:
    left: list[asyncio.Task[None]] = []

    async def leave() -> None:
        left.append(asyncio.create_task(agenerate()))

    async def wait() -> None:
        await left[0]

    with asyncio.Runner() as runner:
        serve(request_scope(meter, "acme")[1], lambda: runner.run(leave()))
        serve(request_scope(meter, "globex")[1], lambda: runner.run(wait()))
    assert tenants(events) == ["acme"]


def test_a_tenant_that_is_set_in_a_run_is_not_the_next_runs(meter: Meter, events: list[LLMEvent]) -> None:
    async def set_tenant() -> None:
        meter.set_tenant("explicit")
        await agenerate()

    with asyncio.Runner() as runner:
        serve(request_scope(meter, "acme")[1], lambda: runner.run(set_tenant()))
        serve(request_scope(meter, "globex")[1], lambda: runner.run(agenerate()))
    assert tenants(events) == ["explicit", "globex"]


def test_a_context_that_a_run_is_given_is_left_alone(meter: Meter, events: list[LLMEvent]) -> None:
    with asyncio.Runner() as runner, scopes.use(request_scope(meter, "acme")[1]):
        own = contextvars.copy_context()
        with scopes.use(request_scope(meter, "globex")[1]):
            runner.run(agenerate(), context=own)
    assert tenants(events) == ["acme"]


def test_runs_are_as_without_us_but_for_the_tenant(meter: Meter) -> None:
    kept: contextvars.ContextVar[str] = contextvars.ContextVar("kept", default="nothing")

    async def keep() -> None:
        kept.set("something")

    async def again(runner: asyncio.Runner) -> None:
        with pytest.raises(RuntimeError, match="running event loop"):
            runner.run(never)

    async def read() -> str:
        return kept.get()

    with asyncio.Runner() as runner:
        runner.run(keep())
        assert (runner.run(read()), kept.get()) == ("something", "nothing")
        never = keep()
        runner.run(again(runner))
        with pytest.raises((TypeError, ValueError), match="coroutine"):
            runner.run("no coroutine")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(never)
    never.close()


def test_a_kept_runner_bills_each_explicit_tenant_of_a_request(meter: Meter, events: list[LLMEvent]) -> None:
    def view() -> None:
        with asyncio.Runner() as runner:
            for tenant in ("acme", "globex"):
                with meter.for_tenant(tenant):
                    runner.run(agenerate())
            meter.set_tenant("initech")
            runner.run(agenerate())
            with meter.for_tenant("hooli"):
                pass
            runner.run(agenerate())

    serve(request_scope(meter, "request")[1], view)
    assert tenants(events) == ["acme", "globex", "initech", "initech"]
    assert scopes.current() is None


def test_two_tasks_on_a_kept_runner_are_billed_apart(meter: Meter, events: list[LLMEvent]) -> None:
    async def work(tenant: str, both: asyncio.Barrier) -> None:
        with meter.for_tenant(tenant):
            await both.wait()
            await agenerate()

    async def main() -> None:
        both = asyncio.Barrier(2)
        await asyncio.gather(work("left", both), work("right", both))
        await agenerate()

    with asyncio.Runner() as runner:
        for tenant in ("acme", "globex"):
            serve(request_scope(meter, tenant)[1], lambda: runner.run(main()))
    assert [sorted(tenants(events)[i : i + 2]) for i in (0, 3)] == [["left", "right"]] * 2
    assert tenants(events)[2::3] == ["acme", "globex"]


def test_work_carried_out_of_one_request_is_its_own_in_another(meter: Meter, events: list[LLMEvent]) -> None:
    deferred: list[Callable[[], Any]] = []
    serve(request_scope(meter, "acme")[1], lambda: deferred.append(carry(lambda: asyncio.run(agenerate()))))
    serve(request_scope(meter, "globex")[1], lambda: [deferred[0](), generate()])
    assert tenants(events) == ["acme", "globex"]


def test_a_copied_context_counts_where_a_request_is_served_too(meter: Meter, events: list[LLMEvent]) -> None:
    with scopes.use(request_scope(meter, "acme")[1]):
        kept = contextvars.copy_context()
    serve(request_scope(meter, "globex")[1], lambda: kept.run(generate))
    assert tenants(events) == ["acme"]


def test_a_generator_left_open_does_not_end_its_tenant_in_another_request(meter: Meter, events: list[LLMEvent]) -> None:
    def pieces() -> Iterator[None]:
        with meter.for_tenant("acme"):
            yield

    left: list[Iterator[None]] = []

    def first() -> None:
        left.append(pieces())
        next(left[0])

    def second() -> None:
        left.pop().close()  # type: ignore[attr-defined]
        generate()
        asyncio.run(agenerate())

    serve(request_scope(meter, "request")[1], first)
    serve(request_scope(meter, "globex")[1], second)
    assert tenants(events) == ["globex", "globex"]


def test_the_look_up_for_a_loop_is_done_by_the_caller(meter: Meter) -> None:
    request, scope = request_scope(meter, "acme")
    scope._aresolve = None
    with scopes.use(scope):
        run(agenerate())
    assert request.looked_up_by == [threading.current_thread()]


def test_a_loop_of_another_thread_gets_the_tenant_with_each_coroutine(meter: Meter, events: list[LLMEvent]) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    for tenant in ("acme", "globex"):
        with meter.for_tenant(tenant):
            asyncio.run_coroutine_threadsafe(agenerate(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()
    assert tenants(events) == ["acme", "globex"]


# -- queues in their eager modes ------------------------------------------------------------------


@pytest.fixture
def celery_app(meter: Meter) -> Iterator[Celery]:
    app = Celery("eager", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    over_celery.install(meter)
    yield app
    app.close()


def test_an_eager_task_spends_its_callers_money_and_changes_nothing_for_it(
    meter: Meter, events: list[LLMEvent], celery_app: Celery
) -> None:
    @celery_app.task(bind=True, max_retries=1)
    def nested(self: Any) -> None:
        generate()
        meter.set_tenant("left behind")
        if not self.request.retries:
            raise self.retry(countdown=0)

    @celery_app.task
    def outer() -> None:
        nested.delay()
        generate()
        meter.set_tenant("left behind")

    _, scope = request_scope(meter, "acme")
    with scopes.use(scope):
        outer.delay().get()
        assert scopes.current() is scope
        generate()
    outer.delay().get()
    assert meter.current_tenant_id is None
    assert tenants(events) == ["acme"] * 4 + [""] * 3


def test_a_refusal_in_an_eager_task_is_the_requests(meter: Meter, celery_app: Celery) -> None:
    meter.set_limit("acme", 0)
    _, scope = request_scope(meter, "acme")
    task = celery_app.task(generate)
    with scopes.use(scope):
        assert isinstance(task.delay().result, LimitExhausted)
    assert scope.denial is not None


@pytest.fixture
def broker(meter: Meter) -> Iterator[StubBroker]:
    broker = StubBroker()
    broker.add_middleware(AsyncIO())
    broker.emit_after("process_boot")
    over_dramatiq.install(broker, meter)
    over_dramatiq.install(broker, meter)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    yield broker
    worker.stop()
    broker.close()


def test_messages_of_one_worker_thread_are_told_apart(meter: Meter, events: list[LLMEvent], broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker)
    def work() -> None:
        generate()
        meter.set_tenant("left behind")

    for tenant in ("acme", None, "globex", None):
        with nullcontext() if tenant is None else meter.for_tenant(tenant):
            work.send()
    broker.join(work.queue_name, timeout=int(PATIENCE * 1000))
    assert tenants(events) == ["acme", "", "globex", ""]


def test_one_message_sent_for_two_is_each_ones_own(meter: Meter, events: list[LLMEvent], broker: StubBroker) -> None:
    work = dramatiq.actor(broker=broker)(generate)
    message = work.message()
    with meter.for_tenant("acme"):
        broker.enqueue(message)
    broker.enqueue(message)
    broker.join(work.queue_name, timeout=int(PATIENCE * 1000))
    assert tenants(events) == ["acme", ""]


def test_retries_pipelines_delays_and_coroutines_keep_the_tenant(
    meter: Meter, events: list[LLMEvent], broker: StubBroker
) -> None:
    failed, finished = threading.Event(), threading.Semaphore(0)

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=1, max_backoff=1)
    def first() -> int:
        generate()
        meter.set_tenant("left behind")
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        meter.set_tenant("acme")
        return 1

    @dramatiq.actor(broker=broker)
    async def second(number: int) -> None:
        await agenerate()
        finished.release()

    with meter.for_tenant("acme"):
        dramatiq.pipeline([first.message(), second.message()], broker=broker).run()
        second.send_with_options(args=(1,), delay=1)
    assert all(finished.acquire(timeout=PATIENCE) for _ in range(2))
    assert tenants(events) == ["acme"] * 4
