"""Every way to call an SDK, spelt once for synchronous and asynchronous clients."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest

from tests.contract.sdk import wire


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
    final: str = ""
    """How a stream helper gives the whole answer."""
    method: str = "create"
    at: str = ""
    """The resource that has the method, where that is not the name."""

    @property
    def path(self) -> str:
        """Where it is."""
        return "/" + self.name.replace(".", "/")

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return str(self.arguments["model"])

    def resource(self, client: Any, through: str = "") -> Any:
        """Walk to the resource, and to one of its views."""
        found = client
        for step in [*(self.at or self.name).split("."), *([through] if through else [])]:
            found = getattr(found, step)
        return found

    def create(self, client: Any, through: str = "", **arguments: Any) -> Any:
        return getattr(self.resource(client, through), self.method)(**self.arguments, **arguments)


CHAT = Endpoint(
    "chat.completions",
    wire.chat,
    {"model": wire.MODEL, "messages": MESSAGES},
    parsing={"response_format": Parsed},
    final="get_final_completion",
)
RESPONSES = Endpoint(
    "responses",
    wire.responses,
    {"model": wire.MODEL, "input": "What is forty plus two?"},
    parsing={"text_format": Parsed},
    final="get_final_response",
)
COMPLETIONS = Endpoint("completions", wire.completions, {"model": wire.MODEL, "prompt": "What is forty plus two?"})
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

Table = list[tuple[Iterable[Use], tuple[Endpoint, ...], bool]]
"""Ways to call, the endpoints that have them, and whether they stream."""


def cells(table: Table) -> list[Any]:
    """Spread a table into its cells."""
    return [
        pytest.param(use, endpoint, streams, id=f"{use.__name__}-{endpoint.name}")
        for several, endpoints, streams in table
        for use in several
        for endpoint in endpoints
    ]


async def plain(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    seen.append(await value(endpoint.create(client)))


async def raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    response = await value(endpoint.create(client, "with_raw_response"))
    body = response.http_response.content
    seen += [type(response), getattr(response, "request_id", None), body, await value(response.parse())]


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
    response = await value(view.parse(**endpoint.arguments, **endpoint.parsing))
    seen.append(await value(response.parse()))


async def posted(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    seen.append(await value(client.post(endpoint.path, body=endpoint.arguments, cast_to=object)))


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
    seen += [type(response), getattr(response, "request_id", None)]
    seen += [chunk async for chunk in each(await value(response.parse()))]


async def stream_streaming(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        seen += [type(response)]
        seen += [chunk async for chunk in each(await value(response.parse()))]


async def stream_bytes(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        seen.append(_without_usage(b"".join([data async for data in each(response.iter_bytes())])))


async def stream_undecoded(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        body = response.http_response
        raw = body.iter_raw() if hasattr(client, "__enter__") else body.aiter_raw()
        seen.append(_without_usage(b"".join([data async for data in each(raw)])))


async def stream_lines(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        lines = [line async for line in each(response.iter_lines())]
        seen.append(_without_usage("\n".join(lines).encode()))


async def helper(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.resource(client).stream(**endpoint.arguments, **endpoint.parsing)) as opened:
        seen += [event async for event in each(opened)]
        seen.append(await value(getattr(opened, endpoint.final)()))


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
    seen.append(await first(await value(response.parse())))


async def raw_never_read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    await value(endpoint.create(client, "with_raw_response", stream=True))


async def streaming_never_read(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response")) as response:
        seen.append(response.status_code)


async def bytes_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.create(client, "with_streaming_response", stream=True)) as response:
        seen.append(_without_usage(await first(response.iter_bytes())))


async def helper_broken_off(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(endpoint.resource(client).stream(**endpoint.arguments, **endpoint.parsing)) as opened:
        seen.append(await first(opened))


def _without_usage(body: bytes) -> bytes:
    """Forget `usage: null`, which chunks carry once usage was asked for."""
    return body.replace(b', "usage": null', b"")
