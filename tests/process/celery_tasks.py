"""A Celery application, as `celery -A tests.process.celery_tasks worker` runs it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery

from tests.process import work
from token_limit_core.workers.celery import install


def configure(app: Celery, url: str, prefix: str) -> Celery:
    """Let an application use a corner of a Redis of its own."""
    app.conf.update(
        broker_url=url,
        result_backend=url,
        broker_transport_options={"global_keyprefix": prefix},
        result_backend_transport_options={"global_keyprefix": prefix},
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    return app


def main() -> Celery:
    app = configure(Celery("tasks"), work.REDIS, work.PREFIX)
    install(work.meter)
    for function in (work.ask, work.wrapped, work.leave_behind, work.abandon):
        app.task(name=function.__name__)(function)

    @app.task(name="add_tenant")
    def add_tenant(names: list[str]) -> list[str]:
        return [*names, work.ask()]

    @app.task(name="start_another")
    def start_another() -> str:
        return str(app.send_task("ask").id)

    @app.task(name="replaced", bind=True)
    def replaced(self: Any) -> None:
        with work.meter.for_tenant("other"):
            raise self.replace(app.signature("ask"))

    @app.task(name="flaky", bind=True, max_retries=2)
    def flaky(self: Any) -> str:
        tenant = work.ask()
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return tenant

    @app.task(name="unreliable", autoretry_for=(ZeroDivisionError,), bind=True, default_retry_delay=0, max_retries=1)
    def unreliable(self: Any) -> str:
        tenant = work.ask()
        return tenant if self.request.retries else str(1 / 0)

    @app.task(name="die_once", acks_late=True, reject_on_worker_lost=True)
    def die_once() -> str:
        marker = Path(os.environ["TASKS_FOLDER"]) / "died"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return work.ask()

    return app


app = main()
