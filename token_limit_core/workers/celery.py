"""Celery: run each task for the tenant that was in force where the task was sent.

Call `install()` once in every process that sends or runs tasks, in the module that makes the Celery app. It connects
Celery signals and starts no thread, so it may run in the parent of a prefork pool.
"""

from __future__ import annotations

from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Task, current_task, signals

from .. import scope as scopes
from ..errors import LimitExceededException
from ..exchange import Exchange
from ..refusal_log import calm_servers
from . import wire

if TYPE_CHECKING:
    from ..meter import Meter

_ENTERED = "_token_limit_entered"


def install(meter: Meter | None = None) -> None:
    """Propagate tenants through all Celery apps of this process; a second call only replaces the Meter.

    `meter` meters the calls of the tasks; None uses the Meter that was patched last, for example Django's.
    """
    calm_servers("celery.app.trace")
    for signal, receiver in (
        (signals.before_task_publish, _publish),
        (signals.task_prerun, partial(_enter, meter)),
        (signals.task_postrun, _leave),
        # billiard ends a prefork child with os._exit, which runs no atexit function
        (signals.worker_process_shutdown, partial(_flush, meter)),
        (signals.worker_shutdown, partial(_flush, meter)),
    ):
        signal.disconnect(dispatch_uid=__name__)
        signal.connect(receiver, weak=False, dispatch_uid=__name__)


def _publish(headers: dict[str, Any] | None = None, **kwargs: Any) -> None:
    """Write the tenant into the headers of the message, and replace an entry of that name by the application.

    The next task of a chain, and a task sent by a task, are published inside the Scope of the running task. A retry
    has the id of the running task: it keeps the tenant that came with it, also if the task has set another one.
    """
    if headers is None:
        return
    headers.pop(wire.KEY, None)
    running: Any = current_task.request if current_task else None
    retried = (
        running is not None
        and not running.is_eager
        and running.id == headers.get("id")
        and headers.get("retries") == running.retries + 1  # a replacement has the same id, but not the next number
    )
    data = running.get(wire.KEY) if retried else wire.dump()
    if data is not None:
        headers[wire.KEY] = data


def _enter(meter: Meter | None, task: Task[Any, Any], **kwargs: Any) -> None:
    request = task.request
    # an eager task is not published: it runs inside its caller, and the caller's Scope stays in force
    task_scope = None if request.is_eager else wire.load(request.get(wire.KEY), meter)
    if LimitExceededException not in task.throws:  # so that Celery logs a refusal as an expected exception
        task.throws = (*task.throws, LimitExceededException)
    setattr(request, _ENTERED, (scopes.enter(task_scope or scopes.current()), task_scope))


def _leave(task: Task[Any, Any], **kwargs: Any) -> None:
    """Restore the Scope from before the task; in eager mode that is the caller's."""
    entered: tuple[Token[scopes.Scope | None], Exchange | None] | None = task.request.__dict__.pop(_ENTERED, None)
    if entered is not None:
        token, task_scope = entered
        scopes.leave(token)
        if task_scope is not None:
            task_scope.end()


def _flush(meter: Meter | None, **kwargs: Any) -> None:
    wire.flush(meter)
