"""A ledger that worker processes write to, and the processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.servers import ROOT, end
from tests.support import environment, redis_url
from token_limit_core import Meter, MeterConfig
from token_limit_core.testing import FakeProvider


class Queue:
    """Where tasks go in Redis, and what they have spent."""

    def __init__(self, folder: Path, provider: FakeProvider) -> None:
        self.redis = redis_url()
        self.prefix = f"test-{uuid.uuid4().hex}-"
        self.folder = folder
        self.provider = provider
        self.store = f"sqlite:///{folder / 'ledger.db'}"
        self.settings: dict[str, Any] = {"store": self.store}  # of the workers' Meter
        self.meter = Meter(MeterConfig(store=self.store, patches=[]))
        self.since = 0.0

    def count_anew(self) -> None:
        """Count the calls from now on; a worker takes longer to start than to do the tasks of several tests."""
        self.since = time.time()

    def calls(self, *tenants: str) -> list[int]:
        """Count the recorded calls of tenants."""
        return [self.meter.store.spend(tenant, self.since, 4e9).calls for tenant in tenants]

    def log(self) -> str:
        """Return what the workers have printed."""
        return (self.folder / "worker.log").read_text()

    def drop(self) -> None:
        """Remove every key of the test's."""
        self.meter.close()
        with redis.Redis.from_url(self.redis) as client:
            for key in client.scan_iter(f"*{self.prefix}*"):
                client.delete(key)

    @contextmanager
    def worker(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker; it has ended in good order when the block is left."""
        variables = {
            "TASKS_PROVIDER": self.provider.base_url,
            "TASKS_PREFIX": self.prefix,
            "TASKS_REDIS": self.redis,
            "TASKS_METER": json.dumps(self.settings),
            "TASKS_FOLDER": str(self.folder),
        }
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**environment(), **variables, "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            try:
                end(process)
            finally:
                print(self.log()[-4000:])
