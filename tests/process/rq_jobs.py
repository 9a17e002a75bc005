"""An RQ worker's side: `python -m tests.process.rq_jobs WORKER` runs one of RQ's worker classes on the test's queue."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import redis
import rq

from tests.process import work
from token_limit_core.workers.rq import install

install(work.meter)

ask, wrapped, leave_behind, abandon = work.ask, work.wrapped, work.leave_behind, work.abandon


def queue() -> rq.Queue:
    return rq.Queue(f"{work.PREFIX}queue", connection=redis.Redis.from_url(work.REDIS))


def start_another() -> str:
    return str(queue().enqueue(ask).id)


def flaky() -> str:
    tenant = work.ask()
    for number in range(2):
        marker = Path(os.environ["TASKS_FOLDER"]) / f"failed {number}"
        if not marker.exists():
            marker.touch()
            raise ZeroDivisionError
    return tenant


def on_success(job: rq.job.Job, connection: redis.Redis, result: object) -> None:
    work.ask()


async def coroutine() -> str:
    return await work.aask()


if __name__ == "__main__":
    worker_class = getattr(rq, sys.argv[1])
    worker_class([queue()], connection=queue().connection, name=f"{work.PREFIX}worker").work(logging_level="WARNING")
