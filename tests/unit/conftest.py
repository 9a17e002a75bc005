"""Fixtures for the parts by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.acme import AcmePatch
from token_limit_core import LLMEvent, Meter, MeterConfig
from token_limit_core.patches import PATCH_REGISTRY


@pytest.fixture
def events() -> list[LLMEvent]:
    """Collect what `meter` records."""
    return []


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the custom provider."""
    monkeypatch.setitem(PATCH_REGISTRY, "acme", AcmePatch)


@pytest.fixture
def meter(acme: None, events: list[LLMEvent]) -> Iterator[Meter]:
    """Meter the custom provider on a memory store."""
    with Meter(MeterConfig(store="memory://", patches=["acme"], on_event=events.append)) as meter:
        yield meter.patch_all()
