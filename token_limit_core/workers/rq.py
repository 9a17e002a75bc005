"""RQ: run each job for the tenant that was in force where the job was created.

Call `install()` once in every process that creates or runs jobs, before the worker starts. It starts no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rq
import rq.job
import wrapt

from ..errors import refusal_in
from ..refusal_log import calm_servers
from . import wire

if TYPE_CHECKING:
    from ..meter import Meter

_installed = False
_meter: Meter | None = None


def install(meter: Meter | None = None) -> None:
    """Propagate tenants through all RQ queues of this process; a second call only replaces the Meter.

    `meter` meters the calls of the jobs; None uses the Meter that was patched last, for example Django's.
    """
    global _installed, _meter
    _meter = meter
    if _installed:
        return
    # every way to enqueue calls Job.create; a retry or a repeat reuses the Job
    wrapt.wrap_function_wrapper(rq.job, "Job.create", _create)
    wrapt.wrap_function_wrapper(rq.queue, "Queue.run_sync", _run)
    for name, wrapper in (("perform_job", _perform), ("handle_exception", _log)):
        owner = next(cls for cls in rq.Worker.__mro__ if name in vars(cls))
        wrapt.wrap_function_wrapper(owner, name, wrapper)
    calm_servers("rq.worker")
    _installed = True


def _create(wrapped: Callable[..., rq.job.Job], instance: Any, args: Any, kwargs: Any) -> rq.job.Job:
    """Write the tenant into the meta of the job, and replace an entry of that name by the application."""
    job = wrapped(*args, **kwargs)
    meta = {name: value for name, value in job.meta.items() if name != wire.KEY}
    data = wire.dump()
    job.meta = meta if data is None else {**meta, wire.KEY: data}
    return job


def _run(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Run a job and its callbacks; the job is the first parameter of every wrapped method."""
    job = kwargs["job"] if "job" in kwargs else args[0]
    with wire.task(job.meta.get(wire.KEY), _meter):
        return wrapped(*args, **kwargs)


def _log(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Log a failed job while its refusal is the current exception: RQ writes the traceback into the log message."""
    refused = refusal_in(args[2]) if len(args) > 2 else None
    if refused is None:
        return wrapped(*args, **kwargs)
    try:
        raise refused
    except BaseException:
        return wrapped(*args, **kwargs)


def _perform(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Do what `_run` does in a worker, and flush: a work horse ends with os._exit, which runs no atexit function."""
    try:
        return _run(wrapped, instance, args, kwargs)
    finally:
        if instance.is_horse:
            wire.flush(_meter)
