"""Dramatiq: process each message for the tenant that was in force where the message was sent.

Call `install()` once per broker, in every process that sends or processes messages.
"""

from __future__ import annotations

import threading
from contextvars import Token
from typing import TYPE_CHECKING, Any

import dramatiq

from .. import scope as scopes
from ..exchange import Exchange
from ..refusal_log import calm_servers
from . import wire

if TYPE_CHECKING:
    from ..meter import Meter


def install(broker: dramatiq.Broker | None = None, meter: Meter | None = None) -> None:
    """Propagate tenants through a broker, by default the global one; a no-op for a broker that has the middleware.

    `meter` meters the calls of the actors; None uses the Meter that was patched last, for example Django's.
    """
    broker = dramatiq.get_broker() if broker is None else broker
    if any(isinstance(each, TenantMiddleware) for each in broker.middleware):
        return
    calm_servers("dramatiq.worker.WorkerThread")
    # first, so that its after-hooks run last: retries and pipelines send their messages inside the Scope of this one
    first = type(broker.middleware[0]) if broker.middleware else None
    broker.add_middleware(TenantMiddleware(meter), before=first)


class TenantMiddleware(dramatiq.Middleware):
    """Carries the tenant in the options of messages."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter
        self._running = _Running()

    def before_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        """Write the tenant into the options.

        A retry is the message being processed: it keeps the tenant that came with it, also if the actor has set
        another one. A message also keeps its tenant if none is in force: a worker thread enqueues delayed ones again.
        """
        if message.message_id not in self._running.messages and (data := wire.dump()) is not None:
            message.options[wire.KEY] = data

    def after_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        """Remove the tenant after sending: the application may send the same object for another tenant."""
        if message.message_id not in self._running.messages and wire.dump() is not None:
            message.options.pop(wire.KEY, None)

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Enter the Scope of the message."""
        scope = wire.load(message.options.get(wire.KEY), self._meter)
        self._running.messages[message.message_id] = scopes.enter(scope), scope

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: Any | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Leave the Scope of the message."""
        entered = self._running.messages.pop(message.message_id, None)
        if entered is not None:
            token, scope = entered
            scopes.leave(token)
            scope.end()

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Leave the Scope of the message."""
        self.after_process_message(broker, message)

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Flush settled calls to the store."""
        wire.flush(self._meter)


class _Running(threading.local):
    """The Scope of each message that a worker thread processes, by message id, and the token to leave it."""

    def __init__(self) -> None:
        self.messages: dict[str, tuple[Token[scopes.Scope | None], Exchange]] = {}
