"""Who pays: blocks, threads, tasks, and tenants that are found late."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tests.unit.acme import Client
from tests.waiting import PATIENCE, wait_until
from token_limit_core import ConfigurationError, LimitExhausted, LLMEvent, Meter, MeterConfig, NoTenant
from token_limit_core import scope as scopes
from token_limit_core.errors import LimitUnverifiable
from token_limit_core.exchange import Exchange, Inner
from token_limit_core.meter import engine_of
from token_limit_core.scope import Scope


def tenants(events: list[LLMEvent]) -> list[str]:
    return [event.tenant_id for event in events]


def test_blocks_nest_and_end(meter: Meter, events: list[LLMEvent]) -> None:
    with meter.for_tenant("outer", session_id="s", user=7, feature="chat", plan="gold"):
        Client().generate("hi")
        with meter.for_tenant("inner"):
            assert meter.current_tenant_id == "inner"
            Client().generate("hi")
        Client().generate("hi")
    assert meter.current_tenant_id is None
    Client().generate("hi")

    assert tenants(events) == ["outer", "inner", "outer", ""]
    first, second = events[:2]
    assert (first.session_id, first.user, first.feature, first.tags) == ("s", "7", "chat", {"plan": "gold"})
    assert (second.session_id, second.user, second.feature, second.tags) == (None, None, None, {})


def test_a_block_ends_with_an_exception(meter: Meter) -> None:
    with pytest.raises(ZeroDivisionError), meter.for_tenant("outer"):
        raise ZeroDivisionError
    assert meter.current_tenant_id is None


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("acme", "acme"), ("", None), (None, None), (7, "7"), (UUID(int=7), str(UUID(int=7))),
        (SimpleNamespace(id=7), "7"), (SimpleNamespace(pk="a", id=7), "a"), (SimpleNamespace(pk=None), None),
    ],
)  # fmt: skip
def test_what_a_resolver_finds_has_a_name(found: Any, name: str | None) -> None:
    assert scopes.tenant_id(found) == name


@pytest.mark.parametrize("found", [True, ["acme"], {"id": 3}, "acme".upper, b"acme", object(), SimpleNamespace(a=1)])
def test_what_would_share_a_bill_by_chance_is_nobodys_name(found: Any) -> None:
    with pytest.raises(ConfigurationError, match="tenant: .* has neither `pk` nor `id`"):
        scopes.tenant_id(found)


@pytest.mark.parametrize("tenant_id", ["", "x" * 256, "a\0b", "a\ud800"])
def test_a_tenant_that_cannot_be_stored_is_an_error(meter: Meter, tenant_id: Any) -> None:
    with pytest.raises(ValueError, match="tenant_id"), meter.for_tenant(tenant_id):
        pass
    with pytest.raises(ValueError, match="tenant_id"):
        meter.set_tenant(tenant_id)


def test_tenants_are_kept_apart_to_the_byte(meter: Meter, events: list[LLMEvent]) -> None:
    for tenant_id in ("a", "A", "ä", "a ", "x" * 255):
        with meter.for_tenant(tenant_id):
            Client().generate("hi")
    assert tenants(events) == ["a", "A", "ä", "a ", "x" * 255]


def test_set_tenant_holds_until_changed(meter: Meter, events: list[LLMEvent]) -> None:
    def work() -> None:
        for tenant_id in ("a", "b"):
            meter.set_tenant(tenant_id)
            Client().generate("hi")
            Client().generate("hi")

    contextvars.copy_context().run(work)
    assert tenants(events) == ["a", "a", "b", "b"]
    assert meter.current_tenant_id is None


def test_none_clears_the_tenant(meter: Meter, events: list[LLMEvent]) -> None:
    request = Scope(engine=engine_of(meter), resolve=lambda: "signed in")

    def work() -> None:
        with meter.for_tenant("acme"), meter.for_tenant(None, feature="chat"):
            assert meter.current_tenant_id is None
            Client().generate("hi")
        meter.set_tenant(None)
        Client().generate("hi")
        meter.set_tenant("globex")
        Client().generate("hi")

    with scopes.use(request):
        contextvars.copy_context().run(work)
        Client().generate("hi")
    assert [(event.tenant_id, event.feature) for event in events] == [
        ("", "chat"), ("", None), ("globex", None), ("signed in", None),
    ]  # fmt: skip


def test_a_tenant_may_have_a_name(meter: Meter, events: list[LLMEvent]) -> None:
    with meter.for_tenant("7", name="Acme Ltd", feature="chat"):
        scope = scopes.current()
        assert scope is not None
        assert (scope.tenant_id, scope.tenant_name) == ("7", "Acme Ltd")
        Client().generate("hi")
    assert (events[0].tenant_id, events[0].tags) == ("7", {})


def test_threads_do_not_see_each_others_tenant(meter: Meter, events: list[LLMEvent]) -> None:
    both = threading.Barrier(2)

    def work(tenant_id: str) -> None:
        with meter.for_tenant(tenant_id):
            both.wait(PATIENCE)
            Client().generate("hi")

    with meter.for_tenant("main"), ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["a", "b"]))
        assert pool.submit(lambda: meter.current_tenant_id).result() == "main"
    assert sorted(tenants(events)) == ["a", "b"]


def test_two_tasks_of_one_request_that_set_their_tenant_are_billed_apart(meter: Meter, events: list[LLMEvent]) -> None:
    request = Scope("request", engine=engine_of(meter))

    async def work(tenant_id: str, barrier: asyncio.Barrier) -> None:
        meter.set_tenant(tenant_id)
        await barrier.wait()
        await Client().agenerate("hi")

    async def main() -> None:
        barrier = asyncio.Barrier(2)
        await asyncio.gather(work("a", barrier), work("b", barrier))
        await Client().agenerate("hi")

    with scopes.use(request):
        asyncio.run(main())
    assert sorted(tenants(events)[:2]) == ["a", "b"]
    assert tenants(events)[2] == "request"


# -- found late -------------------------------------------------------------------------------------


class Resolver:
    """Gives the next answer at each question; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def later(self) -> Any:
        await asyncio.sleep(0)
        return self()


Call = Callable[[Scope], None]


def call(scope: Scope) -> None:
    with scopes.use(scope):
        Client().generate("hi")


def acall(scope: Scope) -> None:
    async def main() -> None:
        with scopes.use(scope):
            await Client().agenerate("hi")

    asyncio.run(main())


@pytest.fixture(params=[call, acall])
def calling(request: pytest.FixtureRequest) -> Call:
    made: Call = request.param
    return made


def scope_of(resolver: Resolver, meter: Meter) -> Scope:
    return Scope(engine=engine_of(meter), resolve=resolver, aresolve=resolver.later)


def test_the_tenant_is_resolved_at_the_first_call_and_frozen(
    meter: Meter, events: list[LLMEvent], calling: Call
) -> None:
    resolver = Resolver("first", "second")
    scope = scope_of(resolver, meter)
    assert resolver.asked == 0
    calling(scope)
    calling(scope)
    assert tenants(events) == ["first", "first"]
    assert resolver.asked == 1


def test_a_resolver_that_finds_nobody_is_asked_again(meter: Meter, events: list[LLMEvent], calling: Call) -> None:
    scope = scope_of(Resolver(None, "later"), meter)
    calling(scope)
    calling(scope)
    assert tenants(events) == ["", "later"]


def test_an_explicit_tenant_wins_without_asking(meter: Meter, events: list[LLMEvent]) -> None:
    resolver = Resolver("request")
    with scopes.use(scope_of(resolver, meter)):
        with meter.for_tenant("explicit"):
            Client().generate("hi")
        assert resolver.asked == 0
        Client().generate("hi")
    assert tenants(events) == ["explicit", "request"]


def test_an_asynchronous_call_uses_a_synchronous_resolver_where_there_is_no_other(
    meter: Meter, events: list[LLMEvent]
) -> None:
    acall(Scope(engine=engine_of(meter), resolve=Resolver("sync")))
    assert tenants(events) == ["sync"]


FAULTS = [LookupError("no such table"), OSError("no such host")]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_resolver_that_fails_for_a_while_is_asked_again_when_the_call_has_ended(
    meter: Meter, events: list[LLMEvent], calling: Call, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = Resolver(fault, fault, "acme")
    scope = scope_of(resolver, meter)
    calling(scope)
    wait_until(lambda: bool(events))
    assert tenants(events) == ["acme"]
    assert events[0].tags["unverified"] is True
    assert meter.store.spend("acme", 0, 4e9).calls == 1
    assert meter.status()["counts"].get("unattributed") is None
    assert "cannot be resolved" in caplog.text
    calling(scope)
    assert tenants(events) == ["acme", "acme"]
    assert resolver.asked == 3


def test_a_resolver_that_finds_nobody_after_a_failure_has_found_nobody(
    meter: Meter, events: list[LLMEvent], calling: Call
) -> None:
    calling(scope_of(Resolver(OSError(), None), meter))
    wait_until(lambda: bool(events))
    assert tenants(events) == [""]
    assert meter.status()["counts"]["unattributed"] == 1


def test_a_call_still_waits_while_its_resolver_is_asked_again(meter: Meter, events: list[LLMEvent]) -> None:
    asked, answer = threading.Event(), threading.Event()

    def resolver() -> str:
        if not scopes.current():  # asked again, after the request
            asked.set()
            assert answer.wait(PATIENCE)
            return "acme"
        raise OSError

    call(Scope(engine=engine_of(meter), resolve=resolver))
    assert asked.wait(PATIENCE)
    assert meter.status()["tenants_unresolved"] == 1
    answer.set()
    wait_until(lambda: bool(events))
    assert tenants(events) == ["acme"]


@pytest.mark.parametrize("policy", ["allow", "house"])
def test_a_call_whose_tenant_is_never_found_is_billed_and_marked_in_the_end(
    acme: None, events: list[LLMEvent], calling: Call, policy: str
) -> None:
    config = MeterConfig(store="memory://", patches=["acme"], on_event=events.append, on_no_tenant=policy)
    with Meter(config).patch_all() as meter:
        calling(scope_of(Resolver(OSError("no such host")), meter))
        assert not meter.flush(1)
        assert (events, meter.status()["tenants_unresolved"]) == ([], 1)
    assert [(event.tenant_id, event.tags["unresolved"]) for event in events] == [
        ("" if policy == "allow" else policy, True)
    ]
    assert (meter.status()["tenants_unresolved"], meter.status()["counts"]["unresolved"]) == (0, 1)


def test_a_call_waits_for_its_tenant_as_long_as_a_hold_lives(acme: None, events: list[LLMEvent], calling: Call) -> None:
    config = MeterConfig(store="memory://", patches=["acme"], on_event=events.append, hold_seconds=0.01)
    with Meter(config).patch_all() as meter:
        calling(scope_of(Resolver(OSError("no such host")), meter))
        wait_until(lambda: bool(events))
    assert (tenants(events), events[0].tags["unresolved"]) == ([""], True)


@pytest.mark.parametrize("below", ["a block", "a thread"])
def test_what_is_below_a_request_waits_for_its_tenant_too(meter: Meter, events: list[LLMEvent], below: str) -> None:
    resolver = Resolver(OSError(), OSError(), "acme")
    scope = Exchange(engine=engine_of(meter), resolve=resolver)
    with scopes.use(scope):
        if below == "a thread":
            thread = threading.Thread(target=Client().generate, args=("hi",))
            thread.start()
            thread.join(10)
        else:
            call(Inner(scope, {"via": "langchain"}))
    wait_until(lambda: bool(events))
    assert tenants(events) == ["acme"]


def test_a_call_that_is_recorded_by_hand_waits_for_its_tenant_too(meter: Meter, events: list[LLMEvent]) -> None:
    with scopes.use(scope_of(Resolver(OSError(), "acme"), meter)):
        meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1)
        meter.track_manually(
            provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1, tenant_id="globex"
        )
    wait_until(lambda: len(events) == 2)
    assert sorted(tenants(events)) == ["acme", "globex"]


def test_a_resolver_that_fails_refuses_the_call_where_configured(acme: None, calling: Call) -> None:
    config = MeterConfig(store="memory://", patches=["acme"], on_no_tenant="refuse")
    with Meter(config) as meter:
        meter.patch_all()
        scope = scope_of(Resolver(LookupError()), meter)
        with pytest.raises(NoTenant):
            calling(scope)
        assert scope.denial is not None
        assert scope.denial.kind == "no_tenant"


@pytest.mark.parametrize("policy", [{"on_store_error": "refuse"}, {"outage_allowance_usd": 0}])
def test_a_resolver_that_fails_is_an_outage(acme: None, calling: Call, policy: dict[str, Any]) -> None:
    with Meter(MeterConfig(store="memory://", patches=["acme"], **policy)).patch_all() as meter:
        scope = scope_of(Resolver(OSError()), meter)
        with pytest.raises(LimitUnverifiable):
            calling(scope)
        with scopes.use(scope), pytest.raises(LimitUnverifiable):
            meter.check_limit()
        with scopes.use(scope), pytest.raises(LimitUnverifiable):
            asyncio.run(meter.async_check_limit())
    assert scope.denial is not None


def test_failures_are_logged_once_a_minute(meter: Meter, calling: Call, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        calling(scope_of(Resolver(OSError()), meter))
    assert caplog.text.count("cannot be resolved") == 1


def test_a_misconfigured_resolver_is_loud_under_test_and_quiet_in_production(
    meter: Meter, events: list[LLMEvent], calling: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = scope_of(Resolver(ConfigurationError("use the async client")), meter)
    with pytest.raises(ConfigurationError, match="use the async client"):
        calling(scope)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    calling(scope)
    assert meter.status()["tenants_unresolved"] == 1


# -- refusals ---------------------------------------------------------------------------------------


def test_a_refusal_is_recorded_on_every_scope_above_but_on_no_other(meter: Meter, calling: Call) -> None:
    meter.set_limit("broke", 0)
    request, other = Scope("rich", engine=engine_of(meter)), Scope("rich", engine=engine_of(meter))
    with scopes.use(request), meter.for_tenant("broke"):
        inner = scopes.current()
        assert inner is not None
        with pytest.raises(LimitExhausted) as caught:
            calling(inner)
    assert inner.denial is request.denial is caught.value.decision
    assert request.denial.tenant_id == "broke"
    assert other.denial is None


def test_a_call_belongs_to_the_meter_of_its_scope_else_to_the_one_that_patched_last(acme: None, calling: Call) -> None:
    seen: list[str] = []

    def meter(name: str) -> Meter:
        config = MeterConfig(store="memory://", patches=["acme"], on_event=lambda event: seen.append(name))
        return Meter(config).patch_all()

    with meter("first") as first, meter("second"):
        calling(Scope("a"))
        calling(Scope("a", engine=engine_of(first)))
        calling(Scope("a", parent=Scope("b", engine=engine_of(first))))
    assert seen == ["second", "first", "first"]
