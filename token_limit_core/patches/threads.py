"""Threads: work runs in the Scope of the code that hands it to a thread.

A new thread starts with an empty context, and a pool's thread keeps the context of the code that started it: calls made
there would be billed to no tenant, or to another one. Only our variable is propagated, no other part of the context.
`propagate_threads=False` switches this off.
"""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import scope as scopes
from ..exchange import Work, for_thread
from ..refusal_log import calm_thread
from ..runtime.background import BackgroundPool, BackgroundThread
from ..scope import Scope
from .base import BasePatch

_UNSCOPED: Any = (BackgroundPool, getattr(concurrent.futures, "InterpreterPoolExecutor", BackgroundPool))
"""Pools that no Scope follows: ours, and one since Python 3.14 that pickles its tasks, which a Scope cannot be."""

_TASKS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""The methods of `multiprocessing.pool.ThreadPool` that every task goes through; the first argument is a function."""


class ThreadsPatch(BasePatch):
    """Hooks `threading.Thread`, `ThreadPoolExecutor` and `multiprocessing.pool.ThreadPool`.

    `ThreadPoolExecutor.map`, `loop.run_in_executor` and `threading.Timer` go through these.
    """

    name = "threads"

    def _install(self) -> None:
        self._swap(threading.Thread, "start", self._start(threading.Thread.start))
        self._swap(ThreadPoolExecutor, "submit", self._submit(ThreadPoolExecutor.submit))
        self._when_imported("multiprocessing.pool", self._hook_thread_pool)
        if threading.excepthook is threading.__excepthook__:  # a hook of the application sees refusals as before
            self._swap(threading, "excepthook", calm_thread)

    def _hook_thread_pool(self, module: Any) -> None:
        pool = module.ThreadPool
        self._swap(pool, "__init__", self._without_scope(pool.__init__))
        for name in _TASKS:
            self._swap(pool, name, self._each(getattr(pool, name)))

    def _on(self) -> bool:
        return self.active and bool(self.engines) and self.engine().config.propagate_threads

    def _start(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def start(thread: threading.Thread) -> Any:
            scope = scopes.current()
            if scope is None or not _follows_scope(thread) or not self._on():
                return original(thread)
            restore = _replace_run(thread, for_thread(scope))
            try:
                return original(thread)
            except BaseException:
                restore()
                raise

        return start

    def _submit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def submit(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            if not self._on():
                return original(pool, fn, *args, **kwargs)
            scope = scopes.current()
            if not isinstance(pool, _UNSCOPED):
                fn = functools.partial(_run, None if scope is None else for_thread(scope), fn)
            token = scopes.enter(None)  # a thread that the pool starts now will run the work of others as well
            try:
                return original(pool, fn, *args, **kwargs)
            finally:
                scopes.leave(token)

        return submit

    def _without_scope(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def init(*args: Any, **kwargs: Any) -> Any:
            with scopes.use(None if self._on() else scopes.current()):
                return original(*args, **kwargs)

        return init

    def _each(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def hand_over(pool: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            task = functools.partial(_run_below, scopes.current(), func) if self._on() else func
            return original(pool, task, *args, **kwargs)

        return hand_over


def _follows_scope(thread: threading.Thread) -> bool:
    """Return whether a thread works for the code that starts it: not ours, a library pool's, or one with a context."""
    pooled = isinstance(thread, BackgroundThread) or type(thread).__module__.startswith("anyio.")
    return not pooled and getattr(thread, "_context", None) is None  # Thread(context=...) since Python 3.14


def _replace_run(thread: threading.Thread, scope: Scope) -> Callable[[], None]:
    """Make a thread run in a Scope; return a function that restores it.

    `run` is replaced on the object, because subclasses override it.
    """
    own, plain = vars(thread).get("run"), thread.run

    def restore() -> None:
        if own is None:
            vars(thread).pop("run", None)
        else:
            thread.run = own  # type: ignore[method-assign]

    def run() -> None:
        restore()  # ends the cycle between the thread and this function
        _run(scope, plain)

    thread.run = run  # type: ignore[method-assign]
    return restore


def _run(scope: Scope | None, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run a function in a Scope and leave nothing of that behind in the thread."""
    token = scopes.enter(scope)
    try:
        return fn(*args, **kwargs)
    finally:
        scopes.leave(token)
        if isinstance(scope, Work):
            scope.end()


def _run_below(scope: Scope | None, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run one of many tasks that were handed over at once."""
    return _run(None if scope is None else for_thread(scope), fn, *args, **kwargs)
