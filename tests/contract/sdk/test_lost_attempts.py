"""Attempts that an SDK sent and lost, and calls that were stopped: each is billed if the provider may have got it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.attempts import RETRIES, SDKS, Sdk, repeat_at_once
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from token_limit_core import LimitExceededException

sdks = pytest.mark.parametrize("sdk", SDKS.values(), ids=SDKS)
both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
ways = pytest.mark.parametrize("way", ["whole", "streamed"])


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    repeat_at_once(monkeypatch)


def needs(sdk: Sdk, asynchronous: bool, way: str, *names: str) -> None:
    """Skip what an SDK does not do."""
    if asynchronous and not sdk.asynchronous:
        pytest.skip("this SDK is synchronous")
    if way == "streamed" and sdk.streamed is None:
        pytest.skip("this SDK does not repeat streamed calls")
    if not set(names) <= set(sdk.repeats):
        pytest.skip("this SDK does not repeat it")


FAULTS = [
    pytest.param("whole", "ReadTimeout", 2, id="timed out"),
    pytest.param("streamed", "ReadTimeout", 2, id="timed out, streamed"),
    pytest.param("whole", "RemoteProtocolError", 2, id="hung up"),
    pytest.param("whole", "ConnectError", 0, id="unreachable"),
    pytest.param("streamed", "PoolTimeout", 0, id="no connection, streamed"),
]
"""How two attempts fail before one that is answered, and how many of them the provider may have got."""


@sdks
@both
@pytest.mark.parametrize(("way", "name", "lost"), FAULTS)
def test_attempts_that_were_lost_before_the_answer_are_billed_at_its_input(
    sdk: Sdk, asynchronous: bool, way: str, name: str, lost: int
) -> None:
    needs(sdk, asynchronous, way, name)
    plain = sdk.event(asynchronous, way, sdk.answered(way))
    event = sdk.event(asynchronous, way, sdk.fault(name), sdk.fault(name), sdk.answered(way))

    assert (event.tags.get("lost_attempts", 0), event.error) == (lost, None)
    assert event.input_tokens == plain.input_tokens
    assert (event.cost_usd - plain.cost_usd) * 10**9 == lost * sdk.input_cost


@sdks
@both
def test_attempts_that_were_answered_with_an_error_cost_nothing(sdk: Sdk, asynchronous: bool) -> None:
    needs(sdk, asynchronous, "whole")
    plain = sdk.event(asynchronous, "whole", sdk.answer)
    event = sdk.event(asynchronous, "whole", sdk.refuse(429), sdk.refuse(503), sdk.answer)
    assert (event.cost_usd, "lost_attempts" in event.tags) == (plain.cost_usd, False)


@sdks
@both
def test_attempts_that_were_all_lost_are_billed_at_the_estimate_of_their_input(sdk: Sdk, asynchronous: bool) -> None:
    needs(sdk, asynchronous, "whole")
    once = sdk.event(asynchronous, "whole", sdk.fault(sdk.lost), sdk.refuse(400))
    assert (once.tags["lost_attempts"], once.input_tokens) == (1, 0)
    if sdk.counts:
        event = sdk.event(asynchronous, "whole", sdk.fault(sdk.lost))
        assert (event.tags["lost_attempts"], event.tags["estimated"]) == (RETRIES, True)
        assert event.error is not None
        assert event.cost_usd == 3 * once.cost_usd > 0


def test_an_error_that_the_application_handles_meanwhile_is_no_lost_attempt() -> None:
    try:
        raise TimeoutError
    except TimeoutError:
        event = SDKS["openai"].event(False, "whole", wire.error(500), wire.chat)
    assert "lost_attempts" not in event.tags


def test_a_lost_attempt_of_an_unpriced_model_is_billed_at_the_assumed_price() -> None:
    metered = Metered()
    client = Wire(SDKS["openai"].fault("ReadTimeout"), wire.chat).client(
        base_url="http://gateway.internal/v1", max_retries=1
    )
    metered.run(uses.plain, client, CHAT)
    metered.meter.close()
    event = metered.event()
    assert event.tags["lost_attempts"] == 1
    assert event.tags["price_assumed"] and event.cost_usd is not None


# -- stopped from outside ------------------------------------------------------------------------------


def test_siblings_that_a_refusal_cancels_before_they_were_sent_cost_nothing() -> None:
    """`asyncio.run` cancels what still runs when a call is refused; nothing of it has been sent."""
    metered = Metered()
    metered.meter.patch("openai").set_limit(TENANT, 1000)
    metered.meter.set_limit("poor", 0)
    wired = Wire(wire.chat)

    async def ask(client: Any, tenant: str) -> None:
        with metered.meter.for_tenant(tenant):
            await client.chat.completions.create(**CHAT.arguments)

    async def main() -> None:
        client = wired.async_client()
        async with asyncio.TaskGroup() as group:
            for tenant in (TENANT, TENANT, "poor"):
                group.create_task(ask(client, tenant))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert caught.group_contains(LimitExceededException)
    assert metered.meter.flush(5)
    metered.meter.close()
    costs = [event.cost_usd for event in metered.events]
    assert [cost > 0 for cost in costs if cost is not None].count(True) == len(wired.sent)
    assert metered.meter.store.holds() == []


@contextlib.asynccontextmanager
async def silent_server(received: asyncio.Event) -> AsyncIterator[str]:
    """Run a server that reads a request and never answers."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        received.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_of_two_calls_that_are_cancelled_the_one_that_waits_for_a_connection_costs_nothing(
    name: str, stream: bool
) -> None:
    sdk = SDKS[name]
    metered = Metered(name)
    metered.meter.patch(name)

    async def ask(client: Any) -> None:
        with metered.meter.for_tenant(TENANT):
            await sdk.endpoint.create(client, stream=stream)

    async def main() -> None:
        received = asyncio.Event()
        async with silent_server(received) as url:
            http_client = sdk.wired.sdk.DefaultAsyncHttpxClient(limits=sdk.wired.http.Limits(max_connections=1))
            cls = getattr(sdk.wired.sdk, sdk.wired.clients[1])
            client = cls(api_key="secret", base_url=url, http_client=http_client, max_retries=0)
            sent = asyncio.create_task(ask(client))
            await asyncio.wait_for(received.wait(), 30)
            waiting = asyncio.create_task(ask(client))
            while len(metered.meter.store.holds()) < 2:
                await asyncio.sleep(0)
            for _ in range(50):
                await asyncio.sleep(0)
            for task in (waiting, sent):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(main())
    assert metered.meter.flush(5)
    metered.meter.close()
    unsent, sent = metered.events
    assert (unsent.error, unsent.input_tokens, unsent.tags.get("estimated")) == ("CancelledError", 0, None)
    assert (sent.error, sent.tags.get("estimated")) == ("CancelledError", True)
    assert sent.input_tokens > 0


def test_an_interrupt_before_anything_was_sent_costs_nothing() -> None:
    def interrupt(request: Any) -> None:
        raise KeyboardInterrupt

    metered = Metered()
    http_client = openai.DefaultHttpxClient(transport=Wire(wire.chat), event_hooks={"request": [interrupt]})
    metered.run(uses.plain, openai.OpenAI(api_key="secret", http_client=http_client), CHAT)
    metered.meter.close()
    assert (metered.event().error, metered.event().cost_usd) == ("KeyboardInterrupt", 0)


# -- how long a call took ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.closed, uses.never_iterated])
def test_the_duration_is_that_of_the_providers_call_alone(
    asynchronous: bool, use: uses.Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    metered = Metered()
    store = metered.meter.store

    def slow(method: Any, seconds: float) -> Any:
        def call(*args: Any) -> Any:
            now[0] += seconds
            return method(*args)

        return call

    def answer(sent: dict[str, Any]) -> Any:
        now[0] += 0.05
        return wire.chat(sent)

    monkeypatch.setattr(store, "admit", slow(store.admit, 0.7))
    monkeypatch.setattr(store, "settle", slow(store.settle, 0.3))
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    client = (Wire(answer).async_client if asynchronous else Wire(answer).client)()
    for _ in range(2):
        metered.run(use, client, CHAT)
    metered.meter.close()
    assert [round(event.duration_ms or 0) for event in metered.settled(2)] == [50, 50]
