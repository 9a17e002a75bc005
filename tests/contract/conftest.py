"""The stores the contract holds for: each fresh, with the spec another process opens it by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledgers import (
    Factory,
    Opened,
    django_mysql,
    django_postgres,
    django_sqlite,
    memory,
    sql_mysql,
    sql_postgres,
    sql_sqlite,
)
from token_limit_core.stores.contract import Store

FACTORIES: list[Factory] = [memory, sql_sqlite, sql_postgres, sql_mysql, django_sqlite, django_postgres, django_mysql]


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    with request.param(request, tmp_path) as opened:
        yield opened


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


@pytest.fixture
def spec(opened: Opened) -> str:
    if opened.spec is None:
        pytest.skip("this store lives in one process")
    return opened.spec
