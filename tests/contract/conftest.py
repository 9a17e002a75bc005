"""The stores the contract holds for: each empty, with the spec another process opens it by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledgers import (
    Factory,
    Kept,
    Opened,
    django_mysql,
    django_postgres,
    django_sqlite,
    fresh,
    memory,
    redis_postgres,
    redis_sqlite,
    sql_mysql,
    sql_postgres,
    sql_sqlite,
)
from token_limit_core.stores.contract import Store

FACTORIES: list[Factory] = [
    memory, sql_sqlite, sql_postgres, sql_mysql, redis_sqlite, redis_postgres,
    django_sqlite, django_postgres, django_mysql,
]  # fmt: skip


@pytest.fixture(scope="session")
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.close()


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def opened(request: pytest.FixtureRequest, tmp_path: Path, kept: Kept) -> Iterator[Opened]:
    lend = fresh if request.node.get_closest_marker("new_store") else kept.lend
    with request.param(request, tmp_path, lend) as opened:
        yield opened


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


@pytest.fixture
def spec(opened: Opened) -> str:
    if opened.spec is None:
        pytest.skip("this store lives in one process")
    return opened.spec
