from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.queues import Queue
from token_limit_core.testing import FakeProvider


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A queue of its own in Redis, and a ledger and a provider for its workers."""
    with FakeProvider() as provider:
        queue = Queue(tmp_path, provider)
        yield queue
        queue.drop()
