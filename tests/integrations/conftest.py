"""Fixtures for what runs together with packages that an application may have beside the SDKs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.sdk.metered import sdk_untouched


@pytest.fixture(autouse=True, scope="module")
def _sdk_untouched() -> Iterator[None]:
    with sdk_untouched():
        yield
