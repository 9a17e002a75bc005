"""The stores the contract holds for: each factory gives a fresh store and the spec another process opens it by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import postgres_schema
from token_limit_core.stores import open_store
from token_limit_core.stores.base import Store


class Opened(NamedTuple):
    """A fresh store, and the spec by which `worker.py` opens the same one (None: not from another process)."""

    store: Store
    spec: str | None


@contextmanager
def memory(tmp_path: Path) -> Iterator[Opened]:
    yield Opened(open_store("memory://"), None)


@contextmanager
def sql_sqlite(tmp_path: Path) -> Iterator[Opened]:
    url = f"sqlite:///{tmp_path}/ledger.db"
    yield Opened(open_store(url), url)


@contextmanager
def sql_postgres(tmp_path: Path) -> Iterator[Opened]:
    with postgres_schema() as url:
        store = open_store(url)
        yield Opened(store, url)
        store.close()


Factory = Callable[[Path], AbstractContextManager[Opened]]
FACTORIES: list[Factory] = [memory, sql_sqlite, sql_postgres]


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    with request.param(tmp_path) as opened:
        yield opened
        opened.store.close()


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


@pytest.fixture
def spec(opened: Opened) -> str:
    if opened.spec is None:
        pytest.skip("this store lives in one process")
    return opened.spec
