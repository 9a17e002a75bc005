"""Event loops that are kept for many runs: each run is billed to its caller, not to the caller of the first run.

`asyncio.Runner` runs every coroutine in the context of its first run. An application that keeps a Runner from request
to request would bill all of them to the tenant of the first one. Code that runs there does not know its caller, so the
Scope of the caller is put into the Runner's context before.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from .. import scope as scopes
from .base import BasePatch


class LoopsPatch(BasePatch):
    """Hooks `asyncio.Runner`."""

    name = "asyncio"

    def _install(self) -> None:
        self._swap(asyncio.Runner, "run", self._hooked(asyncio.Runner.run))

    def _hooked(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(runner: Any, *args: Any, **kwargs: Any) -> Any:
            if self.active and runner._context is not None:  # None before the first run, which copies the caller's
                with contextlib.suppress(RuntimeError):  # it runs already, which the original has an error for
                    runner._context.run(scopes.enter, scopes.current())
            return original(runner, *args, **kwargs)

        return run
