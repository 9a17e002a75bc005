"""Editing a limit: what is typed is checked field by field, and saved only over the rows that were shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from token_limit_core import Meter, MeterConfig
from token_limit_core.errors import ConfigurationError, LimitChanged
from token_limit_core.management import edits

NOW = 1_800_021_600.0  # 15 January 2027, 14:00 UTC
GOOD = {"tenant_id": "acme", "amount": "25", "frequency": "per_month", "unit": "usd", "mode": "enforce"}


@pytest.fixture
def meter() -> Iterator[Meter]:
    with Meter(MeterConfig(store="memory://", clock=lambda: NOW)) as meter:
        yield meter


def draft(meter: Meter, before: Any = None, **given: Any) -> edits.Draft:
    return edits.draft(meter.store, {**GOOD, **given} if before is None else given, NOW, before)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tenant_id", "x" * 256, "1 to 255 characters"),
        ("amount", "", "Expected an amount"),
        ("amount", "-1", "out of range"),
        ("amount", "NaN", "not finite"),
        ("amount", "1e400", "out of range"),
        ("amount", "0.0000000001", "nine digits"),
        ("unit", "bananas", "expected"),
        ("frequency", "per_fortnight", "expected"),
        ("mode", "loose", "expected"),
        ("timezone", "Mars/Olympus", "unknown time zone"),
        ("anchor", "32", "from 1 to 31"),
        ("user", " u1", "no call can match"),
        ("model", "\n", "no call can match"),
        ("provider", "x" * 65, "no call can match"),
        ("basis", "profit", "expected"),
        ("name", "x" * 256, "at most 255"),
        ("effective_date", "soon", "expected an ISO date"),
        ("effective_date", "2027-01-15T13:59", "in the past"),
    ],
)
def test_an_invalid_field_has_its_error_and_the_others_have_none(
    meter: Meter, field: str, value: str, message: str
) -> None:
    drafted = draft(meter, **{field: value})
    assert drafted.errors.keys() == {field}
    assert message in drafted.errors[field]
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        edits.save(meter.store, drafted, NOW, "ann")
    assert meter.limits("acme") == []


def test_all_invalid_fields_are_found_at_once(meter: Meter) -> None:
    wrong = {"amount": "x", "anchor": "32", "timezone": "Mars", "mode": "y", "effective_date": "z"}
    assert draft(meter, **wrong).errors.keys() == wrong.keys()


@pytest.mark.parametrize(("unit", "amount"), [("tokens", "1.5"), ("requests", "-1"), ("tokens", "1e400")])
def test_counts_are_whole(meter: Meter, unit: str, amount: str) -> None:
    assert draft(meter, unit=unit, amount=amount).errors.keys() == {"amount"}


def test_a_limit_is_created_with_every_keyword(meter: Meter) -> None:
    given = {
        "amount": "5000", "unit": "tokens", "frequency": "per_month", "timezone": "Europe/Berlin", "anchor": "15",
        "user": "*", "model": "gpt-4*", "name": "Trial", "effective_date": "2027-02-01",
    }  # fmt: skip
    drafted = draft(meter, **given)
    assert (drafted.errors, drafted.new_tenant, drafted.before) == ({}, True, None)
    saved = edits.save(meter.store, drafted, NOW, "ann")
    known = edits.keywords_of(saved, NOW)
    assert {name: known[name] for name in given} == {**given, "effective_date": "2027-02-01T00:00"}
    assert meter.store.history("acme")[0].actor == "ann"


def test_a_limit_that_exists_is_not_created_again_but_another_filter_is(meter: Meter) -> None:
    meter.set_limit("acme", 5)
    assert "already has a limit per month" in draft(meter).errors["tenant_id"]
    assert draft(meter, model="gpt-4*").errors == {}
    assert not draft(meter, model="gpt-4*").new_tenant


def test_a_change_keeps_what_is_not_given(meter: Meter) -> None:
    before = meter.set_limit("acme", 5, timezone="Asia/Tokyo", user="u1", name="Trial", basis="cost")
    drafted = draft(meter, before, amount="7", tenant_id="globex", frequency="per_day", user="u2")
    saved = edits.save(meter.store, drafted, NOW, "ann")
    assert saved.identity == before.identity
    assert (saved.amount, saved.measure, saved.name) == (7 * 10**9, before.measure, "Trial")


def test_a_limit_that_has_not_begun_needs_its_date(meter: Meter) -> None:
    before = meter.set_limit("acme", 5, effective_date="2027-02-01")
    assert "has not begun yet" in draft(meter, before, amount="7", effective_date="").errors["effective_date"]
    assert draft(meter, before, amount="7").errors == {}


def test_of_two_drafts_the_second_is_not_saved(meter: Meter) -> None:
    before = meter.set_limit("acme", 5)
    first, second = (draft(meter, before, amount=amount) for amount in ("7", "8"))
    edits.save(meter.store, first, NOW, "ann")
    with pytest.raises(LimitChanged):
        edits.save(meter.store, second, NOW, "bob")
    rows = edits.rows_of(meter.store, before)
    assert edits.version_of(rows) != second.version
    assert "it is $7.00 (enforce) now" in edits.changed(rows, NOW)
    with pytest.raises(LimitChanged):
        edits.cancel(meter.store, rows[0], edits.version_of([before]), NOW, "bob")
    edits.cancel(meter.store, rows[0], edits.version_of(rows), NOW, "bob")
    assert meter.limits("acme") == []
