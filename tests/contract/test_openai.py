"""Every way to call OpenAI's SDK: the caller notices nothing, and exactly one event says what it cost.

Each cell runs twice against the same wire, unpatched and patched, and compares what the caller got.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest
from django.conf import settings
from django.test import override_settings
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from tests.contract import wire
from tests.contract.wire import Wire
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core.limits import to_usd

TENANT = "acme"


class Parsed(pydantic.BaseModel):
    answer: str


MESSAGES = [{"role": "user", "content": "What is forty plus two?"}]


@dataclass(frozen=True)
class Endpoint:
    """One surface: where it is, what it is called with, who answers, and how to have it parsed or helped."""

    name: str
    script: wire.Script
    arguments: dict[str, Any]
    answered: str = wire.ANSWERED
    output: int = wire.OUTPUT
    cached: int = wire.CACHED
    reasoning: int | None = wire.REASONING
    parsing: dict[str, Any] = field(default_factory=dict)
    estimated_input: int = 7

    def resource(self, client: Any, through: str = "") -> Any:
        """Walk to the resource, and to one of its views."""
        found = client
        for step in [*self.name.split("."), *([through] if through else [])]:
            found = getattr(found, step)
        return found

    def create(self, client: Any, through: str = "", **arguments: Any) -> Any:
        return self.resource(client, through).create(**self.arguments, **arguments)


CHAT = Endpoint(
    "chat.completions",
    wire.chat,
    {"model": wire.MODEL, "messages": MESSAGES},
    parsing={"response_format": Parsed},
    estimated_input=10,
)
RESPONSES = Endpoint(
    "responses",
    wire.responses,
    {"model": wire.MODEL, "input": "What is forty plus two?"},
    parsing={"text_format": Parsed},
    estimated_input=9,
)
COMPLETIONS = Endpoint(
    "completions", wire.completions, {"model": wire.MODEL, "prompt": "What is forty plus two?"}, estimated_input=9
)
EMBEDDINGS = Endpoint(
    "embeddings",
    wire.embeddings,
    {"model": "text-embedding-3-small", "input": "What is forty plus two?"},
    answered="text-embedding-3-small",
    output=0,
    cached=0,
    reasoning=None,
)
ALL = (CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS)
STREAMING = (CHAT, RESPONSES, COMPLETIONS)
PARSING = (CHAT, RESPONSES)


# -- one spelling for synchronous and asynchronous clients ------------------------------------------


async def value(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def each(stream: Any) -> AsyncIterator[Any]:
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def first(stream: Any) -> Any:
    """Take one item and leave the rest, as a loop with an early `break` does."""
    return await anext(aiter(stream)) if hasattr(stream, "__aiter__") else next(iter(stream))


@contextlib.asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    if hasattr(manager, "__aenter__"):
        async with manager as inside:
            yield inside
    else:
        with manager as inside:
            yield inside


# -- the ways to call -------------------------------------------------------------------------------

Use = Callable[[Any, Endpoint, list[Any]], Awaitable[None]]


async def plain(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    seen.append(await value(endpoint.create(client)))


async def raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    response = await value(endpoint.create(client, "with_raw_response"))
    seen += [type(response), response.request_id, response.content, await value(response.parse())]


async def streaming_parsed(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen += [type(response), response.status_code, await value(response.parse())]


async def streaming_read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen += [await value(response.read()), await value(response.json())]


async def streaming_bytes(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen.append(b"".join([data async for data in each(response.iter_bytes(7))]))


async def parse(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    seen.append(await value(endpoint.resource(client).parse(**endpoint.arguments, **endpoint.parsing)))


async def parse_raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    view = endpoint.resource(client, "with_raw_response")
    seen.append((await value(view.parse(**endpoint.arguments, **endpoint.parsing))).parse())


async def posted(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    path = "/" + endpoint.name.replace(".", "/")
    seen.append(await value(client.post(path, body=endpoint.arguments, cast_to=object)))


async def stream(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    opened = await value(endpoint.create(client, stream=True))
    seen += [type(opened), opened.response.status_code]
    seen += [chunk async for chunk in each(opened)]


async def stream_by_next(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    opened = await value(endpoint.create(client, stream=True))
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        while True:
            seen.append(await anext(opened) if hasattr(opened, "__anext__") else next(opened))


async def stream_block(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(await value(endpoint.create(client, stream=True))) as opened:
        seen += [chunk async for chunk in each(opened)]


async def stream_raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    response = await value(endpoint.create(client, "with_raw_response", stream=True))
    seen += [type(response), response.request_id]
    seen += [chunk async for chunk in each(response.parse())]


async def stream_streaming(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        seen += [type(response)]
        seen += [chunk async for chunk in each(await value(response.parse()))]


async def stream_bytes(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        seen.append(_without_usage(b"".join([data async for data in each(response.iter_bytes())])))


async def stream_lines(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        lines = [line async for line in each(response.iter_lines())]
        seen.append(_without_usage("\n".join(lines).encode()))


async def helper(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.resource(client).stream(**endpoint.arguments, **endpoint.parsing)) as opened:
        seen += [event async for event in each(opened)]
        final = opened.get_final_completion if endpoint is CHAT else opened.get_final_response
        seen.append(await value(final()))


async def broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    opened = await value(endpoint.create(client, stream=True))
    seen += [await first(opened), await first(opened), await first(opened)]


async def block_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(await value(endpoint.create(client, stream=True))) as opened:
        seen.append(await first(opened))


async def closed(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    opened = await value(endpoint.create(client, stream=True))
    seen.append(await first(opened))
    await value(opened.close())
    await value(opened.close())
    seen.append(opened.response.is_closed)


async def closed_unread(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    await value((await value(endpoint.create(client, stream=True))).close())


async def never_iterated(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    await value(endpoint.create(client, stream=True))


async def raw_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    response = await value(endpoint.create(client, "with_raw_response", stream=True))
    seen.append(await first(response.parse()))


async def raw_never_read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    await value(endpoint.create(client, "with_raw_response", stream=True))


async def streaming_never_read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen.append(response.status_code)


async def streaming_bytes_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        seen.append(await first(response.iter_bytes()))


async def helper_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.resource(client).stream(**endpoint.arguments, **endpoint.parsing)) as opened:
        seen.append(await first(opened))


def _without_usage(body: bytes) -> bytes:
    """Forget `usage: null`, which chunks carry once usage was asked for."""
    return body.replace(b', "usage": null', b"")


WHOLE: list[tuple[Use, tuple[Endpoint, ...], bool]] = [
    *((use, ALL, False) for use in (plain, raw, streaming_parsed, streaming_read, streaming_bytes, posted)),
    *((use, PARSING, False) for use in (parse, parse_raw)),
    *((use, STREAMING, True) for use in (stream, stream_by_next, stream_block, stream_raw, stream_streaming)),
    *((use, STREAMING, True) for use in (stream_bytes, stream_lines)),
    (helper, PARSING, True),
]
"""Ways that end with the provider's usage: the use, where it exists, whether it streams."""

PARTIAL: list[tuple[Use, tuple[Endpoint, ...], bool]] = [
    *((use, STREAMING, True) for use in (broken_off, block_broken_off, closed, closed_unread, never_iterated)),
    *((use, STREAMING, True) for use in (raw_broken_off, raw_never_read, streaming_bytes_broken_off)),
    (helper_broken_off, PARSING, True),
    (streaming_never_read, ALL, False),
]
"""Ways that end before the provider's usage was seen."""


def cells(table: list[tuple[Use, tuple[Endpoint, ...], bool]]) -> list[Any]:
    return [
        pytest.param(use, endpoint, streams, id=f"{use.__name__}-{endpoint.name}")
        for use, endpoints, streams in table
        for endpoint in endpoints
    ]


# -- running a cell ---------------------------------------------------------------------------------


@dataclass
class Run:
    """What a caller got: everything it saw, and the exception that ended it."""

    seen: list[Any] = field(default_factory=list)
    error: BaseException | None = None

    def comparable(self) -> list[Any]:
        shown = [_shown(item) for item in self.seen]
        error = self.error
        if error is not None:
            status = getattr(error, "status_code", None)
            shown.append((type(error), str(error), status, type(error.__cause__), type(error.__context__)))
        return shown


def _shown(item: Any) -> Any:
    if not isinstance(item, pydantic.BaseModel):
        return item
    dump = item.model_dump(warnings=False, exclude_unset=True)
    return type(item), _without_null_usage(dump)


def _without_null_usage(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_null_usage(v) for k, v in value.items() if not (k == "usage" and v is None)}
    return [_without_null_usage(v) for v in value] if isinstance(value, list) else value


def run(use: Use, client: Any, endpoint: Endpoint) -> Run:
    """Run a use to its end, and let the collector find what it dropped."""
    result = Run()

    async def main() -> None:
        try:
            await use(client, endpoint, result.seen)
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
            result.error = error.with_traceback(None)
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    return result


@pytest.fixture(autouse=True, scope="module")
def _sdk_untouched() -> Iterator[None]:
    """Take out the hooks of the Django project the tests run in."""
    with override_settings(TOKEN_LIMIT={"ENABLED": False}) if settings.configured else contextlib.nullcontext():
        gc.collect()
        gc.freeze()  # every cell collects: look at what the cell made only
        yield
        gc.unfreeze()


CLIENTS: list[Callable[..., Any]] = [Wire.client, Wire.async_client]


@pytest.fixture(params=CLIENTS, ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param  # type: ignore[no-any-return]


class Metered:
    """A Meter on a memory store with a generous limit, so that every call has a hold."""

    def __init__(self, **config: Any) -> None:
        self.events: list[LLMEvent] = []
        self.meter = Meter(MeterConfig(store="memory://", on_event=self.events.append, **config))
        self.meter.set_limit(TENANT, 1000)

    def run(self, use: Use, client: Any, endpoint: Endpoint) -> Run:
        with self.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
            result = run(use, client, endpoint)
        assert self.meter.flush(5)
        return result

    def event(self) -> LLMEvent:
        """Return the one event; nothing may still be held for it, and the ledger must agree with it."""
        (event,) = self.events
        now = self.meter.config.clock()
        assert self.meter.store.holds() == []
        (status,) = self.meter.usage(TENANT)
        assert status.held == 0
        spend = self.meter.store.spend(TENANT, 0, now + 1)
        assert spend.calls == 1
        assert status.settled == spend.cost_nano
        if event.cost_usd is None:
            assert (spend.unpriced, spend.cost_nano) == (1, 0)
        else:
            assert (spend.unpriced, to_usd(spend.cost_nano)) == (0, event.cost_usd)
        assert (event.tenant_id, event.session_id, event.user, event.tags["plan"]) == (TENANT, "s1", "ann", "gold")
        return event


@pytest.fixture
def metered(caplog: pytest.LogCaptureFixture) -> Iterator[Metered]:
    metered = Metered()
    yield metered
    metered.meter.close()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def price(model: str, **counts: int) -> Any:
    return calc_price(PricedUsage(**counts), model, provider_id="openai").total_price


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(WHOLE))
def test_a_call_is_billed_once_with_the_usage_the_provider_reported(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    untouched = run(use, make(Wire(endpoint.script)), endpoint)
    wired = Wire(endpoint.script)
    metered.meter.patch("openai")
    result = metered.run(use, make(wired), endpoint)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert len(wired.sent) == 1
    assert all(body.closed for body in wired.bodies)
    event = metered.event()
    assert (event.provider, event.endpoint, event.stream) == ("openai", endpoint.name, streams)
    assert event.model == endpoint.answered
    assert event.tags.get("requested_model") == (wire.MODEL if endpoint.answered != "text-embedding-3-small" else None)
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, endpoint.output)
    assert event.total_tokens == wire.INPUT + endpoint.output
    assert (event.cached_tokens, event.reasoning_tokens) == (endpoint.cached, endpoint.reasoning)
    assert (event.request_id, event.error) == (wire.REQUEST_ID, None)
    assert "estimated" not in event.tags
    assert event.cost_usd == price(
        endpoint.answered,
        input_tokens=wire.INPUT,
        output_tokens=endpoint.output,
        **({"cache_read_tokens": endpoint.cached} if endpoint.cached else {}),
    )
    assert event.duration_ms is not None
    assert 0 < event.duration_ms < 10_000


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(PARTIAL))
def test_what_is_not_read_to_its_end_is_billed_once_from_what_was_seen(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    untouched = run(use, make(Wire(endpoint.script)), endpoint)
    metered.meter.patch("openai")
    result = metered.run(use, make(Wire(endpoint.script)), endpoint)

    assert result.error is None
    if use is not streaming_bytes_broken_off:
        assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.endpoint, event.stream, event.error) == (endpoint.name, streams, None)
    assert event.tags["estimated"] is True
    assert event.input_tokens > 0
    assert event.request_id == wire.REQUEST_ID
    assert event.cost_usd is not None
    assert event.cost_usd > 0
