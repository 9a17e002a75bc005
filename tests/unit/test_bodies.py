"""Streamed bodies: peeked into before they begin, ended with an event when a call in them is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from token_limit_core import Decision, LimitExceededException, Meter
from token_limit_core import scope as scopes
from token_limit_core.bodies import (
    aend_refused_stream,
    apeek,
    end_refused_stream,
    peek,
    peek_response,
    peek_stream,
)
from token_limit_core.errors import refusal
from token_limit_core.scope import Scope

REFUSED = refusal(Decision("exhausted", "acme"))


class Body:
    """A body that may fail after its chunks, and knows whether it was closed; synchronous and asynchronous."""

    def __init__(self, *chunks: Any, error: Exception | None = None) -> None:
        self.closed = 0
        self._chunks = iter(chunks)
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for chunk in self._chunks:
            return chunk
        if self._error is not None:
            raise self._error
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


async def both(body: Body, end: bool = False, **options: Any) -> tuple[list[Any], list[Any]]:
    """Read a copy of a body through each wrapper."""
    chunks, error = list(body._chunks), body._error
    first, second = Body(*chunks, error=error), Body(*chunks, error=error)
    if end:
        return list(end_refused_stream(first, **options)), [c async for c in aend_refused_stream(second, **options)]
    return list(peek(first)), [chunk async for chunk in await apeek(second)]


@pytest.mark.parametrize("chunks", [[], [b"a"], [b"a", b"", b"b"], ["text", "more"]])
async def test_a_peeked_body_is_the_body(chunks: list[Any]) -> None:
    assert await both(Body(*chunks)) == (chunks, chunks)


async def test_empty_chunks_are_no_first_byte() -> None:
    assert await both(Body(b"", "", b"a")) == ([b"a"], [b"a"])


async def test_what_the_first_chunk_raises_is_raised_by_the_peek() -> None:
    with pytest.raises(LimitExceededException):
        peek(Body(b"", error=REFUSED))
    with pytest.raises(LimitExceededException):
        await apeek(Body(b"", error=REFUSED))


async def test_a_peeked_body_that_nobody_reads_is_closed() -> None:
    body, abody = Body(b"a", b"b"), Body(b"a", b"b")
    peek(body).close()
    await (await apeek(abody)).aclose()
    assert (body.closed, abody.closed) == (1, 1)


@pytest.mark.parametrize("error", [REFUSED, ExceptionGroup("tasks", [REFUSED])], ids=["as it is", "in a group"])
async def test_a_refusal_ends_a_stream_with_the_problem_document(error: Exception) -> None:
    for chunks in await both(Body("data: a\n\n", error=error), end=True, upgrade_url="/plans/"):
        assert chunks[0] == "data: a\n\n"
        kind, data, end = chunks[1].decode().split("\n", 2)
        assert (kind, end) == ("event: error", "\n")
        problem = json.loads(data.removeprefix("data: "))
        assert (problem["status"], problem["kind"], problem["upgrade_url"]) == (402, "exhausted", "/plans/")


async def test_other_errors_and_whole_streams_are_left_alone() -> None:
    assert await both(Body("a", "b"), end=True) == (["a", "b"], ["a", "b"])
    with pytest.raises(ZeroDivisionError):
        list(end_refused_stream(Body("a", error=ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        [chunk async for chunk in aend_refused_stream(Body("a", error=ZeroDivisionError()))]


async def test_a_refusal_before_the_first_byte_is_left_to_a_middleware_that_can_answer_it() -> None:
    scope = Scope()
    with scopes.use(scope):
        peek_response()
    with scopes.use(Scope("acme", parent=scope)):
        for chunks in ([], [b""]):
            with pytest.raises(LimitExceededException):
                list(end_refused_stream(Body(*chunks, error=REFUSED)))
            with pytest.raises(LimitExceededException):
                [chunk async for chunk in aend_refused_stream(Body(*chunks, error=REFUSED))]
        assert [len(chunks) for chunks in await both(Body("a", error=REFUSED), end=True)] == [2, 2]
    assert [len(chunks) for chunks in await both(Body(error=REFUSED), end=True)] == [1, 1]


async def test_leaving_a_stream_early_closes_it() -> None:
    def chunks() -> Iterator[str]:
        try:
            yield from ("a", "b")
        finally:
            left.append(True)

    left: list[bool] = []
    stream = end_refused_stream(chunks())
    next(stream)
    del stream
    body = Body("a", "b")
    astream: Any = aend_refused_stream(body)
    await anext(astream)
    await astream.aclose()
    assert (left, body.closed) == ([True], 1)


async def test_a_view_asks_for_the_peek_of_its_own_request(meter: Meter) -> None:
    @peek_stream
    def view(number: int) -> int:
        return number

    @peek_stream
    async def aview(number: int) -> int:
        return number

    assert (view(1), await aview(number=2)) == (1, 2)  # outside of a request there is nothing to ask
    for call in (view, aview):
        scope = Scope(engine=meter)
        with scopes.use(scope), meter.for_tenant("acme"):
            answer: Any = call(3)
            assert (await answer if call is aview else answer) == 3
        assert scope.peeks
    assert (view.__name__, aview.__name__) == ("view", "aview")
