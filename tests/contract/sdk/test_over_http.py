"""The same promises over real sockets, where connections are kept, lost and handed back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import ALL, CHAT, STREAMING, Endpoint, Use
from tests.contract.sdk.wire import httpx
from tests.waiting import PATIENCE
from token_limit_core.testing import FakeProvider

Connect = Callable[[], Any]
ONE = httpx.Limits(max_connections=1)


@pytest.fixture
def metered(fake_provider: FakeProvider) -> Iterator[Metered]:
    metered = Metered(hosts={fake_provider.host: "openai"})
    yield metered
    metered.meter.close()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, fake_provider: FakeProvider) -> Connect:
    """Make clients that have one connection, and fail soon when it does not come back."""

    def connect() -> Any:
        options: Any = {"base_url": fake_provider.base_url, "api_key": "sk-any", "max_retries": 0}
        timeout = httpx.Timeout(10, pool=0.5)
        if request.param == "sync":
            http = openai.DefaultHttpxClient(limits=ONE, timeout=timeout)
            return openai.OpenAI(http_client=http, timeout=timeout, **options)
        ahttp = openai.DefaultAsyncHttpxClient(limits=ONE, timeout=timeout)
        return openai.AsyncOpenAI(http_client=ahttp, timeout=timeout, **options)

    return connect


def closing(use: Use) -> Use:
    """Close the client in the loop it was used in."""

    async def closing(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        try:
            await use(client, endpoint, seen)
        finally:
            await uses.value(client.close())

    return closing


CALLS = [
    pytest.param(use, endpoint, id=f"{use.__name__}-{endpoint.name}")
    for some, endpoints in (((uses.plain, uses.streaming_parsed), ALL), ((uses.stream, uses.stream_raw), STREAMING))
    for use in some
    for endpoint in endpoints
]


@pytest.mark.parametrize(("use", "endpoint"), CALLS)
def test_a_call_is_billed_as_the_provider_reported(
    connect: Connect, use: Use, endpoint: Endpoint, fake_provider: FakeProvider, metered: Metered
) -> None:
    fake_provider.usage(prompt_tokens=321, completion_tokens=45, cached=200, reasoning=9)
    result = metered.run(closing(use), connect(), endpoint)

    assert result.error is None
    assert len(fake_provider.requests) == 1
    event = metered.event()
    generated = 0 if endpoint.name == "embeddings" else 45
    assert (event.input_tokens, event.output_tokens, event.error) == (321, generated, None)
    assert "estimated" not in event.tags
    assert event.request_id


Break = Callable[[FakeProvider], None]
BREAKS: dict[str, tuple[Break, bool]] = {
    "429": (lambda provider: provider.fail(429, code="rate_limit_exceeded"), False),
    "500": (lambda provider: provider.fail(500), False),
    "malformed": (lambda provider: provider.malformed_json(), True),
    "dropped": (lambda provider: provider.drop_connection(), True),
    "dropped mid-stream": (lambda provider: provider.drop_mid_stream(after_chunks=2), True),
    "error mid-stream": (lambda provider: provider.error_mid_stream(after_chunks=2), True),
}


@pytest.mark.parametrize(("fault", "billed"), BREAKS.values(), ids=BREAKS)
def test_a_failure_is_the_sdks_own_and_is_recorded(
    connect: Connect, fault: Break, billed: bool, fake_provider: FakeProvider, metered: Metered
) -> None:
    fault(fake_provider)
    untouched = run(closing(uses.stream), connect(), CHAT)
    result = metered.run(closing(uses.stream), connect(), CHAT)

    assert isinstance(result.error, Exception)
    assert type(result.error) is type(untouched.error)
    assert str(result.error) == str(untouched.error)
    event = metered.event()
    assert event.error is not None
    assert event.error.startswith(type(result.error).__name__)
    assert event.tags.get("estimated", False) is billed


@pytest.mark.parametrize(
    "leave", [uses.broken_off, uses.block_broken_off, uses.closed, uses.raw_broken_off, uses.helper_broken_off]
)
def test_what_is_left_unread_gives_its_connection_back_as_without_us(
    connect: Connect, leave: Use, metered: Metered
) -> None:
    calls: list[Use] = []

    async def leave_and_call_again(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        calls.clear()
        for use in (leave, leave, leave, uses.plain):
            calls.append(use)
            await use(client, endpoint, seen)
            gc.collect()
            await asyncio.sleep(0.01)  # for the loop to run what the collector asked of it

    untouched = run(closing(leave_and_call_again), connect(), CHAT)
    result = metered.run(closing(leave_and_call_again), connect(), CHAT)

    assert type(result.error) is type(untouched.error)  # the SDK loses one itself in some asynchronous ways
    assert len(result.seen) == len(untouched.seen)
    assert len(metered.events) == len(calls)
    assert metered.meter.store.holds() == []


def test_a_task_cancelled_in_the_middle_of_a_stream_is_billed_for_what_it_saw(
    fake_provider: FakeProvider, metered: Metered
) -> None:
    pause = fake_provider.pause_after(chunks=3)
    got: list[Any] = []

    async def read(client: openai.AsyncOpenAI) -> None:
        async for chunk in await client.chat.completions.create(**CHAT.arguments, stream=True):
            got.append(chunk)

    async def cancel(task: Awaitable[None]) -> None:
        running = asyncio.ensure_future(task)
        while len(got) < 3:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=fake_provider.base_url, api_key="sk-any") as client:
            await cancel(read(client))

    metered.meter.patch("openai")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        asyncio.run(main())
    pause.set()
    assert metered.meter.flush(PATIENCE)

    event = metered.event()
    assert (event.error, event.tags["estimated"]) == ("CancelledError", True)
    assert event.output_tokens >= 2
