"""What a tenant is billed for a call: by plan, by tenant, and by the application's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from token_limit_core import ConfigurationError, LimitExhausted, LLMEvent, Meter, MeterConfig
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db")
    yield store
    store.close()


def billed(metered: Metered) -> Decimal:
    """Return the charge of the one event, which the limit, the ledger and the report agree on."""
    (event,) = metered.events
    cost, charge = event.cost_usd, event.charge_usd
    assert cost is not None and charge is not None
    (status,), (row,) = metered.meter.usage(TENANT), metered.meter.report("model", tenant_id=TENANT)
    assert (status.spent_usd, row.cost_usd, row.charge_usd) == (charge, cost, charge)
    metered.meter.close()
    return charge / cost


def test_a_plan_and_a_tenant_have_a_markup(make: Callable[..., Any], store: Store) -> None:
    metered = Metered(store=store)
    metered.meter.set_plan("pro", [], markup=20)
    metered.meter.assign_plan(TENANT, "pro")
    metered.meter.set_markup(TENANT, "50")
    metered.meter.set_markup(TENANT, None)
    metered.run(uses.plain, make(Wire(wire.chat)), CHAT)
    assert billed(metered) == Decimal("1.2")


def test_a_function_of_the_application_says_the_charge(make: Callable[..., Any], store: Store) -> None:
    asked: list[LLMEvent] = []

    def charge(event: LLMEvent) -> Decimal:
        asked.append(event)
        assert event.cost_usd is not None
        return event.cost_usd * 3

    metered = Metered(store=store, markup=charge)
    metered.meter.set_markup(TENANT, 50)
    metered.run(uses.plain, make(Wire(wire.chat)), CHAT)
    (event,) = metered.events
    estimated, settled = asked
    assert (estimated.tenant_id, estimated.user, estimated.model) == (TENANT, "ann", wire.MODEL)
    assert (estimated.tags, settled.cost_usd) == ({"estimated": True}, event.cost_usd)
    assert billed(metered) == 3


def test_the_marked_up_estimate_is_held(store: Store) -> None:
    held: list[Any] = []

    def answer(request: Any) -> Any:
        (status,) = store.usage(TENANT, 2e9)
        (hold,) = store.holds()
        held.append((status.held, hold.amount, hold.charge))
        return wire.chat(request)

    for markup in (None, 100):
        with Meter(MeterConfig(store=store)).patch("openai") as meter:
            meter.set_limit(TENANT, 1000, "total")
            meter.set_markup(TENANT, markup)
            with meter.for_tenant(TENANT):
                assert run(uses.plain, Wire(answer).client(), CHAT).error is None
    (plain, amount, charge), (marked_up, *_) = held
    assert (plain, charge, marked_up) == (amount, None, 2 * amount)


@pytest.mark.parametrize("given", [None, "a lot", -1, Decimal("NaN")])
def test_without_a_usable_answer_of_the_function_the_plan_decides(
    store: Store, given: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    metered = Metered(store=store, markup=lambda event: given)
    metered.meter.set_markup(TENANT, 50)
    metered.run(uses.plain, Wire(wire.chat).client(), CHAT)
    assert billed(metered) == Decimal("1.5")
    assert ("calling markup" in caplog.text) == (given is not None)


def test_a_limit_is_reached_by_what_the_tenant_is_billed(store: Store) -> None:
    metered = Metered(store=store, markup=lambda event: Decimal("0.6"))
    metered.meter.set_limit(TENANT, 1)
    metered.meter.set_limit(TENANT, 1, "per_day", basis="cost")
    client = Wire(wire.chat).client()
    errors = [metered.run(uses.plain, client, CHAT).error for _ in range(3)]
    metered.meter.close()
    assert errors[:2] == [None, None]
    assert isinstance(errors[2], LimitExhausted)
    assert (errors[2].decision.frequency, errors[2].decision.spent_usd) == ("per_month", Decimal("1.2"))


def test_what_is_tracked_by_hand_may_have_a_charge(store: Store) -> None:
    with Meter(MeterConfig(store=store)) as meter:
        meter.set_markup(TENANT, 100)
        known = {"provider": "acme", "model": "m", "tenant_id": TENANT, "cost_usd": 1}
        charges = [meter.track_manually(**known, **more).charge_usd for more in ({}, {"charge_usd": "1.25"})]
        (row,) = meter.report("provider", tenant_id=TENANT)
    assert charges == [Decimal(2), Decimal("1.25")]
    assert (row.cost_usd, row.charge_usd) == (Decimal(2), Decimal("3.25"))


@pytest.mark.parametrize("markup", ["much", True, float("nan"), -101, 10_001])
def test_a_markup_of_no_use_is_refused(store: Store, markup: Any) -> None:
    with Meter(MeterConfig(store=store)) as meter, pytest.raises(ConfigurationError, match="^markup: invalid value"):
        meter.set_markup(TENANT, markup)
