"""RQ: the tenant in force where a job is made is in force while it runs.

Call `install()` once in every process that makes or runs jobs, before the worker starts. It starts nothing.
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
    """Carry tenants over RQ, for all its queues in this process; calling it again changes the Meter.

    `meter` is the one that meters the jobs' calls; None is the one patched last, as Django's.
    """
    global _installed, _meter
    _meter = meter
    if _installed:
        return
    # one funnel each: every way to enqueue makes its Job here, a retry or a repeat keeps the Job that it has
    wrapt.wrap_function_wrapper(rq.job, "Job.create", _create)
    wrapt.wrap_function_wrapper(rq.queue, "Queue.run_sync", _run)
    for name, wrapper in (("perform_job", _perform), ("handle_exception", _log)):
        owner = next(cls for cls in rq.Worker.__mro__ if name in vars(cls))
        wrapt.wrap_function_wrapper(owner, name, wrapper)
    calm_servers("rq.worker")
    _installed = True


def _create(wrapped: Callable[..., rq.job.Job], instance: Any, args: Any, kwargs: Any) -> rq.job.Job:
    """Put the tenant into the job's meta, in place of anything the application passed on under that name."""
    job = wrapped(*args, **kwargs)
    meta = {name: value for name, value in job.meta.items() if name != wire.KEY}
    data = wire.dump()
    job.meta = meta if data is None else {**meta, wire.KEY: data}
    return job


def _run(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Run a job and its callbacks; the signature of every wrapped method begins with the job."""
    job = kwargs["job"] if "job" in kwargs else args[0]
    with wire.task(job.meta.get(wire.KEY), _meter):
        return wrapped(*args, **kwargs)


def _log(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Log a failed job while its refusal is being handled: RQ writes the traceback into the text of the record."""
    refused = refusal_in(args[2]) if len(args) > 2 else None
    if refused is None:
        return wrapped(*args, **kwargs)
    try:
        raise refused
    except BaseException:
        return wrapped(*args, **kwargs)


def _perform(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Do what `_run` does in a worker; a work horse ends with os._exit, which runs no atexit function."""
    try:
        return _run(wrapped, instance, args, kwargs)
    finally:
        if instance.is_horse:
            wire.flush(_meter)
