"""Fixtures for what is proved on a real SDK."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.sdk.metered import Metered
from tests.contract.sdk.wire import Wire


@pytest.fixture(params=[Wire.client, Wire.async_client], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a client on a wire: synchronous, then asynchronous."""
    made: Callable[..., Any] = request.param
    return made


@pytest.fixture
def maker() -> Iterator[Any]:
    """Start a provider of everything on loopback; the sockets that its clients leave open are closed here."""
    from tests.contract.sdk.makers import Maker  # which imports SDKs that take seconds

    maker = Maker()
    yield maker
    maker.server.stop()
    if "litellm" in sys.modules:
        sys.modules["litellm"].in_memory_llm_clients_cache.flush_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def metered(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Metered]:
    """Meter calls to the SDK a test module names; at the end nothing may have been logged as our fault."""
    metered = Metered(getattr(request.module, "PATCH", "openai"))
    yield metered
    metered.meter.close()
    faults = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert faults == []
