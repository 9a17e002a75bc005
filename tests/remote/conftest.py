"""Fixtures for what services report to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.receiver import Receiver
from tests.waiting import PATIENCE
from token_limit_core.delivery import transport
from token_limit_core.stores import open_store


@pytest.fixture(autouse=True)
def _patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for an answer: after a timeout a call goes through, and a busy machine may take that long."""
    monkeypatch.setattr(transport, "CONNECT_SECONDS", PATIENCE)
    monkeypatch.setattr(transport, "READ_SECONDS", PATIENCE)
    monkeypatch.setattr(transport, "CHECK_READ_SECONDS", PATIENCE)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Run a backend over a ledger in a file."""
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    with Receiver(store) as receiver:
        yield receiver
    store.close()
