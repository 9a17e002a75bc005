"""Streams that send their request at the first read: each is billed to the tenant of the call that made it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import bodies
from .. import scope as scopes

if TYPE_CHECKING:
    from .base import BasePatch

Streaming = Callable[..., Iterator[Any]]
AsyncStreaming = Callable[..., AsyncIterator[Any]]


def keep_scope(patch: BasePatch, original: Streaming) -> Streaming:
    """Wrap a method that returns a generator: each step runs in the Scope of the call."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Iterator[Any]:
        stream, scope = original(*args, **kwargs), scopes.current()
        return stream if scope is None or not patch.active else bodies.stream(stream, scope)

    return wrapper


def keep_scope_async(
    patch: BasePatch, original: Callable[..., AsyncIterator[Any]]
) -> Callable[..., AsyncIterator[Any]]:
    """Do what `keep_scope` does for an asynchronous generator."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        stream, scope = original(*args, **kwargs), scopes.current()
        return stream if scope is None or not patch.active else bodies.astream(stream, scope)

    return wrapper
