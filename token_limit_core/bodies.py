"""Streamed bodies: they are produced after the middleware has returned, so each step gets the request's Scope again.

Nothing is left open at a `yield`, so another thread or task may close the body (research: style sections 3c, 3d).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, TypeVar

from . import scope as scopes
from .scope import Scope

T = TypeVar("T")
END: Any = object()


def stream(content: Iterable[T], scope: Scope | None) -> Iterator[T]:
    """Step a body inside its Scope; a tenant that the body sets on the way stays in force for its next steps."""
    body = iter(content)
    while True:
        token = scopes.enter(scope)
        try:
            chunk = next(body, END)  # an exception at the end of every body would cost more than the rest
        finally:
            scope = scopes.current()
            scopes.leave(token)
        if chunk is END:
            return
        yield chunk


async def astream(content: Any, scope: Scope | None) -> AsyncIterator[Any]:
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
        if close is not None:
            await close()
