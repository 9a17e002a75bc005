"""Notices of calls: `on_threshold` after the commit, once for each threshold."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from token_limit_core import Notice


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db"


@pytest.mark.parametrize(("settings", "percents"), [({}, [50, 80, 100]), ({"thresholds": [90]}, [90])])
def test_calls_cross_thresholds(store: str, settings: dict[str, Any], percents: list[int]) -> None:
    sent: list[Notice] = []
    metered = Metered(store=store, on_threshold=sent.append, markup=lambda event: 1, **settings)
    metered.meter.set_limit(TENANT, 10)
    client = Wire(wire.chat).client()
    for _ in range(10):
        assert metered.run(uses.plain, client, CHAT).error is None
    metered.meter.close()
    assert [notice.percent for notice in sent] == percents
    assert (sent[-1].limit_usd, sent[-1].spent_usd) == (Decimal(10), Decimal(percents[-1] // 10))


def test_a_hook_that_fails_is_logged(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(notice: Notice) -> None:
        raise ZeroDivisionError

    metered = Metered(store=store, on_threshold=fail, markup=lambda event: 1000)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert metered.run(uses.plain, Wire(wire.chat).client(), CHAT).error is None
    metered.meter.close()
    assert "calling on_threshold" in caplog.text
