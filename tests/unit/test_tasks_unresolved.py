"""Work that is sent while the resolver fails is billed to its tenant or refused, never billed to nobody."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.unit.acme import Client
from tests.waiting import PATIENCE, wait_until
from token_limit_core import LimitExceededException, LLMEvent, Meter, MeterConfig
from token_limit_core import scope as scopes
from token_limit_core.errors import LimitUnverifiable
from token_limit_core.exchange import Exchange
from token_limit_core.meter import engine_of
from token_limit_core.workers import wire
from token_limit_core.workers.threads import carry


class Resolver:
    """Fails a number of times, and then finds the tenant."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def __call__(self) -> str:
        self.failures -= 1
        if self.failures >= 0:
            raise OSError("the database restarts")
        return "acme"


def sent(meter: Meter, failures: int) -> dict[str, Any] | None:
    """Send a task in a request whose resolver fails, and return what travels."""
    scope = Exchange(engine=engine_of(meter), resolve=Resolver(failures), session_id="s-1", attributes={"user": "7"})
    with scopes.use(scope):
        return wire.dump()


def generate() -> None:
    Client().generate("hi")


def test_a_message_says_that_its_tenant_could_not_be_resolved(meter: Meter) -> None:
    assert sent(meter, 1) == {"v": 1, "unresolved": True, "session": "s-1", "attributes": {"user": "7"}}
    assert sent(meter, 0) == {"v": 1, "tenant": "acme", "session": "s-1", "attributes": {"user": "7"}}


@pytest.mark.parametrize("policy", ["allow", "refuse"])
@pytest.mark.parametrize("on_no_tenant", ["allow", "house"])
def test_the_calls_of_such_a_task_are_refused(
    acme: None, events: list[LLMEvent], caplog: pytest.LogCaptureFixture, policy: str, on_no_tenant: str
) -> None:
    config = MeterConfig(
        store="memory://", patches=["acme"], on_event=events.append, on_store_error=policy, on_no_tenant=on_no_tenant
    )
    with Meter(config).patch_all() as meter, wire.task(sent(meter, 1), meter):
        with pytest.raises(LimitUnverifiable):
            generate()
        with pytest.raises(LimitUnverifiable):
            meter.check_limit()
        assert wire.dump() == sent(meter, 1)  # a task that it sends is refused, too
    assert events == []
    assert "could not be resolved; its calls are refused" in caplog.text


async def test_asynchronous_calls_of_such_a_task_are_refused(meter: Meter, events: list[LLMEvent]) -> None:
    with wire.task(sent(meter, 1), meter):
        with pytest.raises(LimitUnverifiable):
            await Client().agenerate("hi")
        with pytest.raises(LimitUnverifiable):
            await meter.async_check_limit()
    assert events == []


def test_a_thread_of_such_a_task_is_refused(meter: Meter, events: list[LLMEvent]) -> None:
    caught: list[LimitExceededException] = []

    def work() -> None:
        with pytest.raises(LimitUnverifiable) as refused:
            generate()
        caught.append(refused.value)

    with wire.task(sent(meter, 1), meter):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
    assert (len(caught), events) == (1, [])


def test_such_a_task_may_name_its_tenant(meter: Meter, events: list[LLMEvent]) -> None:
    with wire.task(sent(meter, 1), meter):
        with meter.for_tenant("globex"):
            generate()
        meter.set_tenant("initech")
        generate()
    assert [event.tenant_id for event in events] == ["globex", "initech"]


def test_carried_work_resolves_its_tenant_later(meter: Meter, events: list[LLMEvent]) -> None:
    with scopes.use(Exchange(engine=engine_of(meter), resolve=Resolver(2))):
        work = carry(generate)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    wait_until(lambda: bool(events))
    assert [event.tenant_id for event in events] == ["acme"]
