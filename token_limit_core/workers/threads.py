"""Propagate the tenant to threads and event loops that the application starts.

A plain thread starts with an empty context, and its calls are recorded as unattributed. These functions resolve the
tenant in the caller, and run each piece of work in a copy of the caller's context. So no thread of a pool keeps a
tenant for its next piece of work.
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
from ..exchange import for_thread

P = ParamSpec("P")
T = TypeVar("T")


def carry(work: Callable[P, T]) -> Callable[P, T]:
    """Return `work` bound to the tenant now in force, for any thread and any number of calls.

    The tenant is resolved at once, and no reference to the request is kept; if the resolver fails, the request is kept
    and asked again. Raises `TypeError` for a coroutine function, as its body would run outside: pass
    `functools.partial(asyncio.run, main())` or a function that calls `run`.
    """
    if inspect.iscoroutinefunction(work):
        raise TypeError(
            f"carry: {work!r} is a coroutine function; expected a plain function, such as one that calls asyncio.run"
        )
    scope = scopes.current()
    frozen = None if scope is None else scope.detached()
    if scope is not None and scope.unresolved:
        frozen = for_thread(scope)  # resolves the tenant later
    context = copy_context()
    context.run(scopes.enter, frozen)  # the copy keeps no reference to the request

    @functools.wraps(work)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(work, *args, **kwargs)  # a Context cannot be entered twice at once

    return carried


async def acarry(work: Callable[P, T]) -> Callable[P, T]:
    """Do what `carry` does in asynchronous code, where the tenant may be resolved with an async look-up."""
    scope = scopes.current()
    if scope is not None:
        await scope.atenant()
    return carry(work)


class ContextExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` that runs work for the tenant in force where it is submitted."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule `fn` in a copy of the caller's context; `map` calls this too."""
        return super().submit(carry(fn), *args, **kwargs)


def run(main: Coroutine[Any, Any, T], *, runner: asyncio.Runner | None = None) -> T:
    """Run a coroutine from synchronous code, as `asyncio.run` does, for the tenant now in force.

    The tenant is resolved in the caller's thread, on its database connection. With a `runner` that serves many
    requests, the coroutine runs in a copy of the caller's whole context; `Runner.run` alone would reuse the context of
    the first request.
    """
    scope = scopes.current()
    if scope is not None:
        scope.tenant()
    if runner is not None:
        return runner.run(main, context=copy_context())
    return asyncio.run(main)
