"""Streamed bodies: run each step inside the request's Scope, because a body is produced after the middleware returns.

No context is left open at a `yield`, so another thread or task may close the body.

A refusal inside a body comes too late for status 402, unless the response waits for its first chunk (`peek`). A
middleware peeks if it is configured to, or if the view is decorated with `peek_stream`. After the first byte,
`end_refused_stream` ends a stream of server-sent events with an error event.
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
    """A body whose steps run inside its Scope; a tenant that one step sets stays in force for the next steps."""

    content: Iterable[T] = ()
    scope: Scope | None = None

    def __iter__(self) -> Iterator[T]:
        body = iter(self.content)
        while True:
            token = scopes.enter(self.scope)
            try:
                chunk = next(body, END)  # a default is cheaper than catching StopIteration
            finally:
                self.scope = scopes.current()
                scopes.leave(token)
            if chunk is END:
                return
            yield chunk


def stream(content: Iterable[T], scope: Scope | None) -> Iterator[T]:
    """Run each step of a body inside a Scope."""
    body: Body[T] = Body()
    body.content, body.scope = content, scope
    return iter(body)


async def astream(content: Any, scope: Scope | None, at_end: Callable[[], object] | None = None) -> AsyncIterator[Any]:
    """Do what `stream` does for an asynchronous body, and close the body if the caller stops early.

    `at_end` is called once, after the body has ended or has been closed.
    """
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
    """Hold back the status of the current response until its first chunk; a refusal before it is answered with 402."""
    scope = scopes.current()
    if scope is not None:
        scope.request.peeks = True


def peek_stream(view: View) -> View:
    """Call `peek_response` for every response of a view, synchronous or asynchronous: a decorator."""

    async def apeek_response() -> None:
        peek_response()

    return before_view(view, peek_response, apeek_response)


class Peeked(Generic[T]):
    """A body whose first non-empty chunk has been read already; `peek` makes it."""

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
        """Close the body, whether it was read or not."""
        close = getattr(self._content, "close", None)
        if close is not None:
            close()


def peek(content: Iterable[T]) -> Peeked[T]:
    """Read the first non-empty chunk of a body, and return a body that still yields it. Raises what the body raises."""
    body = iter(content)
    first: T = b""  # type: ignore[assignment]
    while not first:
        first = next(body, END)
    return Peeked(content, body, first)


class AsyncPeeked(Generic[T]):
    """An asynchronous body whose first non-empty chunk is read by `pull`."""

    def __init__(self, content: AsyncIterable[T]) -> None:
        self._body = aiter(content)
        self._first: T = END

    async def pull(self) -> None:
        """Read the first non-empty chunk. Raises what the body raises."""
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
        """Close the body, whether it was read or not."""
        close = getattr(self._body, "aclose", None)
        if close is not None:
            await close()


async def apeek(content: Any) -> AsyncPeeked[Any]:
    """Do what `peek` does for an asynchronous body."""
    peeked: AsyncPeeked[Any] = AsyncPeeked(content)
    await peeked.pull()
    return peeked


def end_refused_stream(content: Iterable[T], upgrade_url: str | None = None) -> Iterator[T | bytes]:
    """End a stream of server-sent events with `event: error` and the problem document if an LLM call is refused.

    Under `peek_stream` a refusal before the first chunk is raised, as the middleware can still answer 402.
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
    """Do what `end_refused_stream` does for an asynchronous stream, and close the stream if the caller stops early."""
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
    """Return the event for a refusal; None if the error must be raised instead."""
    refused = refusal_in(error)
    scope = scopes.current()
    peeked = scope is not None and scope.request.peeks
    if refused is None or (peeked and not started):
        return None
    return sse_error(refused.decision, upgrade_url, None if scope is None else scope.language)
