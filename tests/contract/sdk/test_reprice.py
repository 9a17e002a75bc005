"""Repricing: the difference that a corrected price makes is booked once, and limits follow."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from token_limit_core import Meter, MeterConfig
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store

MILLION = 1_000_000
DAY = "2000-01-01"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db")
    yield store
    store.close()


def meter_at(store: Store, price: Any) -> Meter:
    return Meter(MeterConfig(store=store, prices={"house": price} if price else {}))


def track(meter: Meter, **fields: Any) -> None:
    meter.track_manually(provider="acme", model="house", input_tokens=MILLION, tenant_id="acme", user="ann", **fields)


def spent(meter: Meter) -> tuple[Decimal | None, Decimal, Decimal]:
    """Return what the limit counts, and the cost and the charge of the report, the same by model and by user."""
    (status,) = meter.usage("acme")
    (by_model,), (by_user,) = meter.report("model"), meter.report("user")
    assert (by_model.cost_usd, by_model.charge_usd, by_model.calls) == (by_user.cost_usd, by_user.charge_usd, 3)
    return status.spent_usd, by_model.cost_usd, by_model.charge_usd


def test_the_difference_is_shown_then_booked_once(store: Store) -> None:
    meter = meter_at(store, {"input": 1})
    meter.set_limit("acme", 100)
    meter.set_markup("acme", 50)
    track(meter)
    track(meter)
    track(meter, cost_usd=7)
    assert spent(meter) == (Decimal("13.5"), 9, Decimal("13.5"))

    dearer = meter_at(store, {"input": 3})
    (row,) = dearer.reprice(DAY)
    assert (row.provider, row.model, row.calls) == ("acme", "house", 2)
    assert (row.before_usd, row.after_usd, row.charge_before_usd, row.charge_after_usd) == (2, 6, 3, 9)
    assert spent(meter) == (Decimal("13.5"), 9, Decimal("13.5"))

    assert dearer.reprice(DAY, book=True, by="ann") == [row]
    assert spent(meter) == (Decimal("19.5"), 13, Decimal("19.5"))
    assert dearer.reprice(DAY, book=True) == []
    assert [(change.kind, change.actor) for change in store.history("acme")][:1] == [("reprice", "ann")]

    cheaper = meter_at(store, {"input": 2})
    (again,) = cheaper.reprice(DAY, book=True)
    assert (again.before_usd, again.after_usd) == (6, 4)
    assert spent(meter) == (Decimal("16.5"), 11, Decimal("16.5"))
    assert meter.reprice("2999-01-01") == []


def test_calls_of_an_assumed_price_are_corrected(store: Store) -> None:
    assumed = meter_at(store, None)
    assumed.set_limit("acme", 100)
    track(assumed)
    known = meter_at(store, {"input": 1})
    (row,) = known.reprice(DAY, book=True)
    (status,) = known.usage("acme")
    assert (row.before_usd, row.after_usd, status.spent_usd) == (5, 1, 1)


def test_a_price_that_is_still_the_same_books_nothing(store: Store) -> None:
    meter = Meter(MeterConfig(store=store))
    meter.track_manually(provider="openai", model="gpt-4o", input_tokens=1000, output_tokens=10, tenant_id="acme")
    assert meter.reprice(DAY, book=True) == []
