"""Streamed bodies: they are produced after the middleware has returned, so each step gets the request's Scope again.

Nothing is left open at a `yield`, so another thread or task may close the body (research: style sections 3c, 3d).

A refusal inside a body comes too late for a status of 402, unless the response waits for its first chunk (`peek`,
which a middleware does where it is configured or the view asked for it with `peek_stream`). After the first byte,
`end_refused_stream` ends a stream of server-sent events with one that says what happened.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from . import scope as scopes
from .errors import refusal_in
from .runtime.views import View, before_view
from .scope import Scope
from .upgrade import sse_error

T = TypeVar("T")
END: Any = object()


class Body(Generic[T]):
    """A body that is stepped inside its Scope; a tenant that it sets on the way stays in force for its next steps."""

    content: Iterable[T] = ()
    scope: Scope | None = None

    def __iter__(self) -> Iterator[T]:
        body = iter(self.content)
        while True:
            token = scopes.enter(self.scope)
            try:
                chunk = next(body, END)  # an exception at the end of every body would cost more than the rest
            finally:
                self.scope = scopes.current()
                scopes.leave(token)
            if chunk is END:
                return
            yield chunk


def stream(content: Iterable[T], scope: Scope | None) -> Iterator[T]:
    """Step a body inside a Scope."""
    body: Body[T] = Body()
    body.content, body.scope = content, scope
    return iter(body)


async def astream(content: Any, scope: Scope | None, at_end: Callable[[], object] | None = None) -> AsyncIterator[Any]:
    """Do what `stream` does for an asynchronous body, and close that when the caller leaves early."""
    body = aiter(content)
    try:
        while True:
            token = scopes.enter(scope)
            try:
                chunk = await anext(body)
            except StopAsyncIteration:
                return
            finally:
                scope = scopes.current()
                scopes.leave(token)
            yield chunk
    finally:
        close = getattr(body, "aclose", None)
        try:
            if close is not None:
                with scopes.use(scope):
                    await close()
        finally:
            if at_end is not None:
                at_end()


def peek_response() -> None:
    """Let the current request's response wait for the first chunk of its body; a refusal before that is its answer."""
    scope = scopes.current()
    if scope is not None:
        scope.request.peeks = True


def peek_stream(view: View) -> View:
    """Do what `peek_response` does for every response of a view, synchronous or asynchronous."""

    async def apeek_response() -> None:
        peek_response()

    return before_view(view, peek_response, apeek_response)


class Peeked(Generic[T]):
    """A body whose first chunk that is not empty was pulled already; what its pulling raises is raised by `peek`."""

    def __init__(self, content: Iterable[T], body: Iterator[T], first: T) -> None:
        self._content = content
        self._body = body
        self._first = first

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._first is END:
            return next(self._body)
        first, self._first = self._first, END
        return first

    def close(self) -> None:
        """Close the body, read or not."""
        close = getattr(self._content, "close", None)
        if close is not None:
            close()


def peek(content: Iterable[T]) -> Peeked[T]:
    """Pull the first chunk of a body that is not empty, and give the body back with it."""
    body = iter(content)
    first: T = b""  # type: ignore[assignment]
    while not first:
        first = next(body, END)
    return Peeked(content, body, first)


class AsyncPeeked(Generic[T]):
    """The same for an asynchronous body, whose first chunk `pull` pulls."""

    def __init__(self, content: AsyncIterable[T]) -> None:
        self._body = aiter(content)
        self._first: T = END

    async def pull(self) -> None:
        """Pull the first chunk that is not empty; raises what that raises."""
        first: T = b""  # type: ignore[assignment]
        while not first:
            first = await anext(self._body, END)
        self._first = first

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._first is END:
            return await anext(self._body)
        first, self._first = self._first, END
        return first

    async def aclose(self) -> None:
        """Close the body, read or not."""
        close = getattr(self._body, "aclose", None)
        if close is not None:
            await close()


async def apeek(content: Any) -> AsyncPeeked[Any]:
    """Do what `peek` does for an asynchronous body."""
    peeked: AsyncPeeked[Any] = AsyncPeeked(content)
    await peeked.pull()
    return peeked


def end_refused_stream(content: Iterable[T], upgrade_url: str | None = None) -> Iterator[T | bytes]:
    """End a stream of server-sent events whose next call is refused with `event: error` and the problem document.

    A refusal before the first chunk goes on to a middleware that can still answer 402 (`peek_stream`).
    """
    started, event = False, None
    try:
        for chunk in content:
            started = started or bool(chunk)
            yield chunk
    except Exception as error:
        event = _last_event(error, started, upgrade_url)
        if event is None:
            raise
    if event is not None:
        yield event


async def aend_refused_stream(content: Any, upgrade_url: str | None = None) -> AsyncIterator[Any]:
    """Do what `end_refused_stream` does for an asynchronous stream, and close that when the caller leaves early."""
    started, event = False, None
    try:
        async for chunk in content:
            started = started or bool(chunk)
            yield chunk
    except Exception as error:
        event = _last_event(error, started, upgrade_url)
        if event is None:
            raise
    finally:
        close = getattr(content, "aclose", None)
        if close is not None:
            await close()
    if event is not None:
        yield event


def _last_event(error: Exception, started: bool, upgrade_url: str | None) -> bytes | None:
    """Make the event for a refusal; None where the error is to be raised."""
    refused = refusal_in(error)
    scope = scopes.current()
    peeked = scope is not None and scope.request.peeks
    if refused is None or (peeked and not started):
        return None
    return sse_error(refused.decision, upgrade_url)
