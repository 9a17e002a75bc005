"""Fixtures for what services report to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.receiver import Receiver
from token_limit_core.stores import open_store


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Run a backend over a ledger in a file."""
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    with Receiver(store) as receiver:
        yield receiver
    store.close()
