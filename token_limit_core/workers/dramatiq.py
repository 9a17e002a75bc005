"""Dramatiq: the tenant in force where a message is sent is in force while it is processed.

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
    """Carry tenants over a broker, the global one if None; a broker that does so already is left as it is.

    `meter` is the one that meters the actors' calls; None is the one patched last, as Django's.
    """
    broker = dramatiq.get_broker() if broker is None else broker
    if any(isinstance(each, TenantMiddleware) for each in broker.middleware):
        return
    calm_servers("dramatiq.worker.WorkerThread")
    # first, so that it is the last to leave: retries and pipelines send their messages in the Scope of this one
    first = type(broker.middleware[0]) if broker.middleware else None
    broker.add_middleware(TenantMiddleware(meter), before=first)


class TenantMiddleware(dramatiq.Middleware):
    """Carries the tenant in the options of messages."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter
        self._running = _Running()

    def before_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        """Put the tenant into the options.

        A retry is the message that is being processed: it keeps what came with it, whatever tenant the actor has set.
        So does a message where no tenant is in force: a thread of the worker enqueues a delayed one once more.
        """
        if message.message_id not in self._running.messages and (data := wire.dump()) is not None:
            message.options[wire.KEY] = data

    def after_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        """Take it out again, now that it is sent: the application may send the same object for somebody else."""
        if message.message_id not in self._running.messages and wire.dump() is not None:
            message.options.pop(wire.KEY, None)

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Enter the Scope that came with the message."""
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
        """Leave it."""
        entered = self._running.messages.pop(message.message_id, None)
        if entered is not None:
            token, scope = entered
            scopes.leave(token)
            scope.end()

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Leave it."""
        self.after_process_message(broker, message)

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Store what was captured."""
        wire.flush(self._meter)


class _Running(threading.local):
    """What a worker thread processes, by message id, with the way back to what was in force before."""

    def __init__(self) -> None:
        self.messages: dict[str, tuple[Token[scopes.Scope | None], Exchange]] = {}
