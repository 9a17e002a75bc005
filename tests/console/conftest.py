from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from token_limit_core import Meter

from .mounts import MOUNTS, Client, by_header
from .site import fill, make_meter, sqlite


@pytest.fixture(params=["memory", "sqlite"])
def meter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meter]:
    meter = fill(make_meter("memory://")) if request.param == "memory" else sqlite(tmp_path)
    yield meter
    meter.close()


@pytest.fixture(params=list(MOUNTS))
def mount(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def client(mount: str, meter: Meter) -> Iterator[Client]:
    with MOUNTS[mount](meter, by_header) as client:
        yield client
