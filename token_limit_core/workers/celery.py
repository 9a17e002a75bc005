"""Celery: the tenant in force where a task is started is in force while it runs.

Call `install()` once in every process that starts or runs tasks, in the module that makes the Celery app. It connects
signals of Celery's and starts nothing, so it may run in the parent of a prefork pool.
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
    """Carry tenants over Celery, for all its apps in this process; calling it again changes the Meter.

    `meter` is the one that meters the tasks' calls; None is the one patched last, as Django's.
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
    """Put the tenant into the message's headers, in place of anything the application passed on under that name.

    A chain's next link and a task started by a task are published while that runs, in its Scope. A retry has the id
    of the task that runs: it keeps what came with that, whatever tenant the task has set on its way.
    """
    if headers is None:
        return
    headers.pop(wire.KEY, None)
    running: Any = current_task.request if current_task else None
    retried = (
        running is not None
        and not running.is_eager
        and running.id == headers.get("id")
        and headers.get("retries") == running.retries + 1  # else it is a replacement, which has the id, too
    )
    data = running.get(wire.KEY) if retried else wire.dump()
    if data is not None:
        headers[wire.KEY] = data


def _enter(meter: Meter | None, task: Task[Any, Any], **kwargs: Any) -> None:
    request = task.request
    # an eager task was not published: it runs inside its caller, whose Scope stays in force
    own = None if request.is_eager else wire.load(request.get(wire.KEY), meter)
    if LimitExceededException not in task.throws:  # so that Celery logs a refusal as an expected exception
        task.throws = (*task.throws, LimitExceededException)
    setattr(request, _ENTERED, (scopes.enter(own or scopes.current()), own))


def _leave(task: Task[Any, Any], **kwargs: Any) -> None:
    """Restore what was in force before the task, which in eager mode is its caller's."""
    entered: tuple[Token[scopes.Scope | None], Exchange | None] | None = task.request.__dict__.pop(_ENTERED, None)
    if entered is not None:
        token, own = entered
        scopes.leave(token)
        if own is not None:
            own.end()


def _flush(meter: Meter | None, **kwargs: Any) -> None:
    wire.flush(meter)
