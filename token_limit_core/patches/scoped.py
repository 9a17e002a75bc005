"""Streams that send their request when they are first read: the tenant that asked for one pays for it."""

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
    """Step the generator that a method returns inside the Scope of its call."""

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
