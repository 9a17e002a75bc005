"""The few threads that keep storage off the event loop: bounded, made on first use, new after a fork."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from .background import BackgroundPool

T = TypeVar("T")

WORKERS = 4
"""How many connections the executor may add per process."""


class Executor:
    """A lazily made thread pool that survives forks."""

    def __init__(self, workers: int = WORKERS) -> None:
        self.workers = workers
        self._pool: BackgroundPool | None = None
        self._pid = 0

    def pool(self) -> BackgroundPool:
        """Return this process's pool."""
        if self._pool is None or self._pid != os.getpid():
            self._pool = BackgroundPool(self.workers, thread_name_prefix="token-limit")
            self._pid = os.getpid()
        return self._pool

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and wait without blocking the loop; at once where the interpreter is ending."""
        try:
            future = asyncio.get_running_loop().run_in_executor(self.pool(), work)
        except RuntimeError:  # the loop of a daemon thread, while the main thread is past the end of its executors
            return work()
        return await future

    def close(self) -> None:
        """Wait for running work and end the threads."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown(wait=True)
        self._pool = None


executor: Executor = Executor()


def on_loop() -> bool:
    """Tell whether this thread runs an event loop, which must not be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
