"""pytest fixtures for applications that use this library; pytest finds them by itself. See docs/testing.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .meter import Meter
    from .testing import Clock, FakeProvider


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """Run a fake OpenAI on loopback for the length of the test."""
    from .testing import FakeProvider

    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def token_limit_clock() -> Clock:
    """Give a clock that stands still in the middle of a month until the test turns it."""
    from .testing import Clock

    return Clock()


@pytest.fixture
def token_limit_meter(fake_provider: FakeProvider, token_limit_clock: Clock) -> Iterator[Meter]:
    """Meter every SDK with a memory store and the clock; calls to the fake provider are priced as OpenAI's."""
    from .config import MeterConfig
    from .meter import Meter

    config = MeterConfig(store="memory://", clock=token_limit_clock, hosts={fake_provider.host: "openai"})
    with Meter(config) as meter:
        yield meter.patch_all()
