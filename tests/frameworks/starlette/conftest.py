"""A meter over a fake provider, and clients that are signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.frameworks import llm
from tests.waiting import PATIENCE
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core.testing import FakeProvider

Signed = Callable[..., TestClient]


class Events(list[LLMEvent]):
    """What was captured, in order."""

    def __init__(self) -> None:
        self.meters: list[Meter] = []

    def tenants(self) -> list[str]:
        assert all(meter.flush(PATIENCE) for meter in self.meters)
        return [event.tenant_id for event in self]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider, llm.connect(provider.base_url):
        yield provider


@pytest.fixture
def make_meter(provider: FakeProvider, events: Events) -> Iterator[Callable[..., Meter]]:
    with ExitStack() as stack:

        def make(**config: Any) -> Meter:
            given = {"store": "memory://", "hosts": {provider.host: "openai"}, "on_event": events.append, **config}
            meter = stack.enter_context(Meter(MeterConfig(**given)))
            events.meters.append(meter)
            return meter

        yield make


@pytest.fixture
def meter(make_meter: Callable[..., Meter]) -> Meter:
    return make_meter()


@pytest.fixture(params=["memory", "sqlite"])
def stored(request: pytest.FixtureRequest, make_meter: Callable[..., Meter], tmp_path: Path) -> Meter:
    """Give a meter over each kind of store: one that stays on the event loop, and one that must not."""
    return make_meter(store="memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'token_limit.db'}")


@pytest.fixture
def signed() -> Iterator[Signed]:
    """Open clients of an application; closing them ends it."""
    with ExitStack() as stack:

        def sign_in(app: Any, token: str | None = "alice", **options: Any) -> TestClient:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return stack.enter_context(TestClient(app, headers=headers, **options))

        yield sign_in
