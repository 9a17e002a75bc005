"""What tenants are billed stands beside what providers take, where a plan has a markup."""

from __future__ import annotations

import pytest

from token_limit_core import Meter

from .mounts import Client
from .site import NOW


@pytest.fixture
def marked_up(meter: Meter) -> None:
    meter.set_plan("pro", [{"amount": 500}], markup=20)
    meter.assign_plan("payer", "pro")
    with meter.for_tenant("payer"):
        meter.track_manually(provider="openai", model="gpt-markup", cost_usd="100", timestamp=NOW - 60)


@pytest.mark.usefixtures("marked_up")
@pytest.mark.parametrize("path", ["", "tenants?q=payer", "tenant?id=payer"])
def test_the_charge_stands_beside_the_cost(client: Client, path: str) -> None:
    text = client.get(path).text
    assert "$100.00" in text
    assert "billed $120.00" in text


@pytest.mark.usefixtures("marked_up")
def test_without_a_markup_only_the_cost_is_shown(client: Client) -> None:
    assert "billed" not in client.get("tenants", q="globex").text.lower()
