"""Threads and event loops of one's own: the tenant goes along, frozen before the work leaves the request.

A bare thread starts with an empty context, and its calls are recorded as unattributed. What is here gives each piece
of work a fresh copy of the caller's context, so no thread of a pool keeps a tenant for the next piece.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

from .. import scope as scopes

P = ParamSpec("P")
T = TypeVar("T")


def carry(work: Callable[P, T]) -> Callable[P, T]:
    """Return `work` bound to the tenant now in force, for any thread and any number of calls.

    The tenant is resolved here and now; the request is not kept. Raises `TypeError` for a coroutine function, whose
    body would run elsewhere: give `functools.partial(asyncio.run, main())` or a function that calls `run`.
    """
    if inspect.iscoroutinefunction(work):
        raise TypeError(f"carry: {work!r} is a coroutine function; carry a function that calls asyncio.run")
    scope = scopes.current()
    frozen = None if scope is None else scope.detached()
    context = copy_context()
    context.run(scopes.enter, frozen)  # what is copied keeps nothing of the request

    @functools.wraps(work)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(work, *args, **kwargs)  # a Context cannot be entered twice at a time

    return carried


async def acarry(work: Callable[P, T]) -> Callable[P, T]:
    """Do what `carry` does in asynchronous code, where resolving the tenant may wait for a database."""
    scope = scopes.current()
    if scope is not None:
        await scope.atenant()
    return carry(work)


class ContextExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` whose work belongs to the tenant in force where it is submitted."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule `fn` in a copy of the caller's context; `map` comes through here too."""
        return super().submit(carry(fn), *args, **kwargs)


def run(main: Coroutine[Any, Any, T], *, runner: asyncio.Runner | None = None) -> T:
    """Run a coroutine from synchronous code, as `asyncio.run` does, for the tenant now in force.

    The tenant is looked up here, in the caller's thread and on its database connection. On a `runner` that is kept
    from request to request the whole context is the caller's; its own `run` has everything but the tenant from the
    first one.
    """
    scope = scopes.current()
    if scope is not None:
        scope.tenant()
    if runner is not None:
        return runner.run(main, context=copy_context())
    return asyncio.run(main)
