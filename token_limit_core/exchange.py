"""Exchange: a Scope with an end, such as a request. Streams that the application has left open are settled then.

Work that an exchange hands to another thread has a Scope of its own, which ends when the work does. A task of asyncio
has the Scope of the code that started it, so its end is not known here: each stream knows the task that reads it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .scope import Scope


class OpenStream(Protocol):
    """A metered stream that is not settled yet."""

    def join(self, exchange: Exchange, /) -> None:
        """Let the end of an exchange settle the stream."""

    def leave(self) -> None:
        """Settle the stream at the end of its exchange, or at the end of what reads it, if that goes on."""


class Exchange(Scope):
    """The Scope of a request, a WebSocket or a queued task; `loop` is the event loop that serves it."""

    ended: bool = False

    def __init__(
        self, tenant_id: str | None = None, *, loop: asyncio.AbstractEventLoop | None = None, **options: Any
    ) -> None:
        super().__init__(tenant_id, **options)
        self.loop = loop
        self.streams: set[OpenStream] = set()
        self.works: set[Work] = set()

    def adopt(self, work: Work) -> None:
        """Take over the open streams of work that has ended."""
        while work.streams:
            work.streams.pop().join(self)
        if self.ended:  # meanwhile, in another thread
            self.end()

    def end(self) -> None:
        """Settle the streams that nobody reads any more; does no I/O."""
        self.ended = True
        for stream in list(self.streams):  # one step, so that another thread may add to the set meanwhile
            self.streams.discard(stream)
            stream.leave()


class Inner(Scope):
    """A Scope whose tenant is that of the Scope above it."""

    def __init__(self, above: Scope, attributes: dict[str, Any] | None) -> None:
        super().__init__(above.tenant_id, parent=above, session_id=above.session_id, attributes=attributes)
        self.above = above

    def tenant(self) -> str | None:
        """Return the tenant of the Scope above."""
        if self.tenant_id is None:
            self.tenant_id, self.unresolved = self.above.tenant(), self.above.unresolved
        return self.tenant_id

    async def atenant(self) -> str | None:
        """Do what `tenant()` does, without blocking the event loop."""
        if self.tenant_id is None:
            self.tenant_id, self.unresolved = await self.above.atenant(), self.above.unresolved
        return self.tenant_id

    def tenant_elsewhere(self) -> str | None:
        """Do what `tenant()` does in a thread that does not serve the request."""
        if self.tenant_id is None:
            self.tenant_id, self.unresolved = self.above.tenant_elsewhere(), self.above.unresolved
        return self.tenant_id


class Work(Inner, Exchange):
    """The Scope of a thread, or of one task of a thread pool, that an exchange has started."""

    def __init__(self, above: Scope) -> None:
        super().__init__(above, above.attributes)

    def tenant(self) -> str | None:
        """Return the tenant of the exchange, which may be over."""
        return self.tenant_elsewhere()

    async def atenant(self) -> str | None:
        """Do what `tenant()` does, without blocking the event loop."""
        if self.tenant_id is None:
            self.tenant_id, self.unresolved = await self.above.atenant_elsewhere(), self.above.unresolved
        return self.tenant_id

    def end(self) -> None:
        """Pass the open streams on to the exchange, or settle them if that has ended."""
        exchange = exchange_of(self.above)
        if exchange is not None:
            exchange.works.discard(self)
            if not exchange.ended:
                exchange.adopt(self)
        super().end()


def exchange_of(scope: Scope | None) -> Exchange | None:
    """Return the nearest exchange: the Scope itself or one above it; None outside of requests and queued tasks."""
    while scope is not None and not isinstance(scope, Exchange):
        scope = scope.parent
    return scope


def for_thread(scope: Scope) -> Scope:
    """Return the Scope for work that `scope` hands to another thread."""
    exchange = exchange_of(scope)
    if exchange is None:
        return scope
    work = Work(scope)
    exchange.works.add(work)
    return work
