"""Watch: the shared state of the hooks of one stream: its flight, its reader, and how it settles."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from types import AsyncGeneratorType
from typing import Any, TypeVar

from ..calls.flight import Flight
from ..calls.flow import aland, hand_over, land
from ..calls.growth import Growth
from ..calls.request import Outcome
from ..exchange import Exchange, exchange_of
from ..limits import Decision
from ..runtime.faults import report
from ..scope import Scope, current

Following = TypeVar("Following")

ELSEWHERE = Scope()
"""The reader of a stream in a thread without a Scope, or on an event loop that is not asyncio's."""

UNREAD_SECONDS = 1.0
"""Seconds after the end of its exchange in which a new task may begin to read a stream."""

IDLE_SECONDS = 10.0
"""Seconds after the end of its exchange for which the task that reads a stream may pause. Then the task counts as
blocked, for example on a full queue without a consumer."""


class Watch:
    """The shared state of the hooks of one stream.

    `reader` has read the last chunk: a task on an event loop, else the Scope of a thread; None before the first chunk.
    """

    __slots__ = ("_exchange", "_following", "flight", "growth", "outcome", "reader")

    def __init__(self, flight: Flight, outcome: Callable[[BaseException | None], Outcome]) -> None:
        self.flight: Flight = flight
        self.outcome: Callable[[BaseException | None], Outcome] = outcome
        self.growth: Growth = Growth(flight, outcome)
        self.reader: asyncio.Task[Any] | Scope | None = None
        self._following: Callable[[], Any] = _nothing
        self._exchange: Exchange | None = None
        exchange = exchange_of(flight.scope)
        if exchange is not None and not exchange.ended:
            self.join(exchange)

    def by(self, generator: Following) -> Following:
        """Remember the generator that follows the stream, and return it."""
        self._following = weakref.ref(generator)
        return generator

    @property
    def pulling(self) -> bool:
        """Whether the SDK is reading the next chunk. A close meanwhile is the SDK's, not the caller's."""
        following = self._following()
        if isinstance(following, AsyncGeneratorType):
            return following.ag_running
        return following is not None and following.gi_running

    def land(self, error: BaseException | None = None) -> None:
        """Settle the stream, once."""
        if not self.flight.landed:
            self._part()
            land(self.flight, self._read(error))

    async def aland(self, error: BaseException | None = None) -> None:
        """Do what `land` does, with storage off the event loop."""
        if not self.flight.landed:
            self._part()
            await aland(self.flight, self._read(error))

    def hand_over(self, error: BaseException | None = None) -> None:
        """Settle the stream in the thread of the settler."""
        if not self.flight.landed:
            self._part()
            hand_over(self.flight, self._read(error))

    def join(self, exchange: Exchange) -> None:
        """Let the end of an exchange settle the stream."""
        self._exchange = exchange
        exchange.streams.add(self)

    def leave(self) -> None:
        """Settle the stream at the end of its exchange. If its reader goes on, settle when that ends."""
        reader = self.reader
        if self.flight.landed or reader is ELSEWHERE:
            return  # the finaliser of the second settles it
        if reader is None:
            self._leave_unread()
        elif isinstance(reader, Scope):
            self._leave_thread(exchange_of(reader))
        else:
            self._leave_task(reader)

    def _leave_unread(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.works or self.pulling:
            return  # a thread may begin to read it; else the finaliser settles it
        if exchange.loop is None or not exchange.loop.is_running():
            self.hand_over()
        else:
            self._look_again(exchange.loop, UNREAD_SECONDS)

    def _leave_thread(self, exchange: Exchange | None) -> None:
        if exchange is not None and not exchange.ended:
            self.join(exchange)
        elif not self.pulling:
            self.hand_over()

    def _leave_task(self, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        if not loop.is_running():
            self.hand_over()
        elif not task.done() and task is not this_task():  # this task ends with its exchange
            loop.call_soon_threadsafe(task.add_done_callback, self._task_ended)
            self._look_again(loop, IDLE_SECONDS)
        elif self.pulling:  # another task has begun to read
            self._look_again(loop, IDLE_SECONDS)
        else:
            self.hand_over()

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if self.reader is None and not self.pulling:
            self.hand_over()
        else:
            self.leave()

    def _look_again(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.reader = None  # until the next chunk
        loop.call_soon_threadsafe(loop.call_later, seconds, self._leave_idle)

    def _leave_idle(self) -> None:
        if self.reader is not None:
            self.leave()
        elif self.pulling:
            self._look_again(asyncio.get_running_loop(), IDLE_SECONDS)
        else:
            self.hand_over()

    def look(self) -> Decision | None:
        """See to the hold of the stream; return the refusal to cut it by."""
        try:
            return self.growth.look()
        except Exception:
            report("looking at a stream")
            return None

    def _part(self) -> None:
        if self._exchange is not None:
            self._exchange.streams.discard(self)

    def _read(self, error: BaseException | None) -> Outcome:
        try:
            return self.outcome(error)
        except Exception:
            report("reading the end of a stream")
            return Outcome(error=error)


def _nothing() -> None:
    """Stand in for a generator that is not made yet."""


def this_task() -> asyncio.Task[Any] | Scope:
    """Return the running task."""
    try:
        return asyncio.current_task() or ELSEWHERE
    except RuntimeError:
        return ELSEWHERE


def this_scope() -> Scope:
    """Return the Scope in force in this thread."""
    return current() or ELSEWHERE
