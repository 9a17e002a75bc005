"""RQ over a real Redis, in worker processes: whose money a job spends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import redis
import rq

from tests.process.queues import Queue
from tests.waiting import wait_until
from token_limit_core import scope as scopes
from token_limit_core.workers.rq import install

JOBS = "tests.process.rq_jobs"


@pytest.fixture
def jobs(queue: Queue) -> Iterator[rq.Queue]:
    """The web application's side of the queue."""
    install(queue.meter)
    with redis.Redis.from_url(queue.redis) as connection:
        yield rq.Queue(f"{queue.prefix}queue", connection=connection)


def send(jobs: rq.Queue, queue: Queue, name: str, tenant: str | None, **options: Any) -> rq.job.Job:
    with nullcontext() if tenant is None else queue.meter.for_tenant(tenant):
        return jobs.enqueue(f"{JOBS}.{name}", **options)


def result_of(job: rq.job.Job) -> Any:
    wait_until(lambda: job.get_status(refresh=True) in ("finished", "failed"))
    assert job.get_status() == "finished", job.latest_result()
    return job.return_value(refresh=True)


@pytest.mark.parametrize("kind", ["Worker", "SimpleWorker"])
def test_a_job_spends_the_money_of_the_tenant_that_sent_it(jobs: rq.Queue, queue: Queue, kind: str) -> None:
    with queue.worker(JOBS, kind):
        for check in (
            jobs_of_two_tenants_and_of_nobody_are_told_apart,
            retries_children_callbacks_and_coroutines_keep_the_tenant,
            meta_that_is_not_ours_does_not_choose_a_tenant,
        ):
            queue.count_anew()
            check(jobs, queue)


def jobs_of_two_tenants_and_of_nobody_are_told_apart(jobs: rq.Queue, queue: Queue) -> None:
    tenants = ["acme", "globex", None] * 4
    made = [send(jobs, queue, "leave_behind" if i % 2 else "ask", tenant) for i, tenant in enumerate(tenants)]
    for job in made:
        result_of(job)
    assert queue.calls("acme", "globex", "", "left behind") == [4, 4, 4, 0]


def retries_children_callbacks_and_coroutines_keep_the_tenant(jobs: rq.Queue, queue: Queue) -> None:
    assert result_of(send(jobs, queue, "flaky", "flaky", retry=rq.Retry(max=2))) == "flaky"
    child = result_of(send(jobs, queue, "start_another", "parent"))
    assert result_of(rq.job.Job.fetch(child, connection=jobs.connection)) == "parent"
    assert result_of(send(jobs, queue, "coroutine", "coroutine")) == "coroutine"
    result_of(send(jobs, queue, "ask", "called back", on_success=rq.Callback(f"{JOBS}.on_success")))
    wait_until(lambda: queue.calls("called back") == [2])
    assert queue.calls("flaky", "parent", "coroutine", "") == [3, 1, 1, 0]


def meta_that_is_not_ours_does_not_choose_a_tenant(jobs: rq.Queue, queue: Queue) -> None:
    forged = {"token_limit": {"v": 1, "tenant": "globex"}, "theirs": 1}
    for tenant in (None, "acme"):
        job = send(jobs, queue, "ask", tenant, meta=forged)
        result_of(job)
        assert job.get_meta()["theirs"] == 1
    assert queue.calls("globex", "acme", "") == [0, 1, 1]


@pytest.mark.parametrize("kind", ["Worker", "SimpleWorker"])
def test_the_end_of_a_process_loses_no_call(jobs: rq.Queue, queue: Queue, kind: str) -> None:
    with queue.worker(JOBS, kind):
        for _ in range(2):
            result_of(send(jobs, queue, "abandon", "acme"))
    assert queue.calls("acme") == [2]
    assert queue.meter.store.holds() == []


@pytest.mark.parametrize("kind", ["Worker", "SimpleWorker"])
def test_a_refused_job_is_no_fault_in_the_log(jobs: rq.Queue, queue: Queue, kind: str) -> None:
    queue.meter.set_limit("broke", 0)
    with queue.worker(JOBS, kind):
        for name in ("ask", "wrapped"):
            job = send(jobs, queue, name, "broke")
            wait_until(lambda job=job: job.get_status(refresh=True) == "failed")  # type: ignore[misc]
    assert "Traceback" not in queue.log()


def test_a_job_run_on_the_spot_is_its_callers(queue: Queue, jobs: rq.Queue) -> None:
    at_once = rq.Queue(jobs.name, connection=jobs.connection, is_async=False)
    with queue.meter.for_tenant("acme"):
        job = at_once.enqueue(on_the_spot)
        assert queue.meter.current_tenant_id == "acme"
    assert (job.return_value(), queue.meter.current_tenant_id) == ("acme", None)


def on_the_spot() -> str | None:
    scope = scopes.current()
    assert scope is not None
    scopes.enter(None)
    return scope.tenant()
