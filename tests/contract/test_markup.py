"""Markups: what a tenant is billed beside what the provider takes, on every store."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.contract.calls import MONTH, NOW, USD, admit, limit_to, new_id, record, settle, state
from token_limit_core.events import LLMEvent
from token_limit_core.limits import COST, EVERYONE, REQUESTS, STRICT, TOKENS, Limit
from token_limit_core.limits.filters import Facts
from token_limit_core.stores.contract import Store
from token_limit_core.stores.queries import EventQuery
from token_limit_core.stores.records import Call
from token_limit_core.windows import PER_DAY, PER_MONTH, TOTAL


def put_on_plan(store: Store, markup: str, *limits: Limit, tenant: str = "acme") -> None:
    store.set_plan("pro", limits, NOW, markup)
    store.assign_plan(tenant, "pro", NOW)


def both(store: Store, tenant: str = "acme") -> tuple[int, int]:
    """Return cost and charge of the month, the same in the ledger and in the roll-ups."""
    total = store.spend(tenant, *MONTH)
    [by_month] = store.report("provider", *MONTH, tenant)
    assert by_month.total == total
    return total.cost_nano, total.charge_nano


@pytest.mark.parametrize("way", ["plan", "tenant", "tenant instead of plan"])
def test_a_limit_counts_what_the_tenant_is_billed(store: Store, way: str) -> None:
    if way != "tenant":
        put_on_plan(store, "20" if way == "plan" else "7")
    if way != "plan":
        assert store.set_markup("acme", "20", NOW)
        assert not store.set_markup("acme", "20", NOW)
    limit_to(store, 12 * USD)
    for place in range(3):  # the first opens the window, the second meets the markup, the third is plain
        assert admit(store, USD, f"c{place}").admitted
        assert state(store).held == 1_200_000_000
        assert settle(store, f"c{place}", 2 * USD) == "stored"
        assert (state(store).settled, state(store).held) == ((place + 1) * 2_400_000_000, 0)
    assert both(store) == (6 * USD, 7_200_000_000)
    [entry] = [row.entry for row in store.events(EventQuery("acme")) if row.entry.event.event_id == "c0"]
    assert (entry.cost_nano, entry.charge_nano) == (2 * USD, 2_400_000_000)
    assert entry.event.charge_usd == Decimal("2.4")


def test_the_event_that_was_settled_knows_its_charge(store: Store) -> None:
    plain, marked_up = (LLMEvent(new_id(), tenant, timestamp=NOW, cost_usd=Decimal(1)) for tenant in ("acme", "globex"))
    store.set_markup("globex", "50", NOW)
    for event in (plain, marked_up):
        store.settle(event.event_id, event, USD, NOW)
    assert (plain.charge_usd, marked_up.charge_usd) == (Decimal(1), Decimal("1.5"))
    assert "charge_usd" not in plain.to_dict()
    assert marked_up.to_dict()["charge_usd"] == "1.500000000"


def test_a_limit_by_cost_counts_what_the_provider_takes(store: Store) -> None:
    put_on_plan(store, "100", Limit("", 100 * USD, plan="pro"), Limit("", 100 * USD, TOTAL, plan="pro", basis=COST))
    limit_to(store, 100 * USD, frequency=PER_DAY, basis=COST, mode=STRICT)
    store.admit(Call("a", "acme", USD, worst_case=3 * USD), NOW)
    expected = {PER_MONTH: 2 * USD, TOTAL: USD, PER_DAY: 3 * USD}
    assert {status.limit.frequency: status.held for status in store.usage("acme", NOW)} == expected
    settle(store, "a", 2 * USD)
    expected = {PER_MONTH: 4 * USD, TOTAL: 2 * USD, PER_DAY: 2 * USD}
    assert {status.limit.frequency: status.settled for status in store.usage("acme", NOW)} == expected


def test_a_strict_limit_holds_the_marked_up_worst_case(store: Store) -> None:
    store.set_markup("acme", "25", NOW)
    limit_to(store, 5 * USD, mode=STRICT)
    assert store.admit(Call("a", "acme", USD, worst_case=4 * USD), NOW).admitted
    assert state(store).held == 5 * USD
    refused = store.admit(Call("b", "acme", 1, worst_case=1), NOW)
    assert (refused.kind, refused.needed_usd) == ("busy", Decimal("1e-9"))


def test_the_marked_up_ceiling_is_held_near_the_end_of_a_limit(store: Store) -> None:
    store.set_markup("acme", "100", NOW)
    limit_to(store, 10 * USD)
    limit_to(store, 10 * USD, frequency=PER_DAY, basis=COST)
    for place in range(2):
        assert store.admit(Call(f"c{place}", "acme", 1, ceiling=USD), NOW).admitted
    held = {status.limit.frequency: status.held for status in store.usage("acme", NOW)}
    assert held == {PER_MONTH: 4 * USD, PER_DAY: 2 * USD}


def test_a_hold_is_raised_with_its_markup(store: Store) -> None:
    store.set_markup("acme", "20", NOW)
    limit_to(store, 10 * USD)
    limit_to(store, 10 * USD, frequency=PER_DAY, basis=COST)
    admit(store, USD, "a")
    store.raise_hold("a", 5 * USD, 0, NOW)
    held = {status.limit.frequency: status.held for status in store.usage("acme", NOW)}
    assert held == {PER_MONTH: 6 * USD, PER_DAY: 5 * USD}
    store.expire(NOW + 10**6)
    assert both(store) == (5 * USD, 6 * USD)


@pytest.mark.parametrize("unit", [TOKENS, REQUESTS])
def test_tokens_and_requests_have_no_markup(store: Store, unit: str) -> None:
    store.set_markup("acme", "100", NOW)
    limit_to(store, 1000, unit=unit)
    store.admit(Call("a", "acme", USD, tokens=10), NOW)
    store.settle("a", LLMEvent("a", "acme", timestamp=NOW, total_tokens=10), USD, NOW)
    assert state(store).settled == (10 if unit == TOKENS else 1)


@pytest.mark.parametrize(
    ("markup", "cost", "charge"),
    [("20", 5, 6), ("10", 5, 6), ("10", 15, 16), ("50", 1, 2), ("50", 3, 4), ("-100", 7, 0), ("0", 7, 7),
     ("12.5", 10**9 + 4, 1_125_000_004), ("10000", 3, 303)],
)  # fmt: skip
def test_a_charge_is_rounded_once_half_even(store: Store, markup: str, cost: int, charge: int) -> None:
    store.set_markup("acme", markup, NOW)
    record(store, cost)
    assert both(store) == (cost, charge)


def test_what_the_application_bills_itself_wins(store: Store) -> None:
    store.set_markup("acme", "100", NOW)
    limit_to(store, 100 * USD)
    for place in range(2):
        call_id = f"c{place}"
        assert store.admit(Call(call_id, "acme", USD, charges=(7 * USD, 8 * USD, None)), NOW).admitted
        assert state(store).held == 7 * USD
        event = LLMEvent(call_id, "acme", timestamp=NOW, charge_usd=Decimal(9))
        store.settle(call_id, event, USD, NOW)
    assert (state(store).settled, state(store).held) == (18 * USD, 0)
    assert both(store) == (2 * USD, 18 * USD)


def test_a_charge_holds_without_an_admission_and_without_a_markup(store: Store) -> None:
    limit_to(store, 100 * USD)
    admit(store, USD, "a")
    store.settle("a", LLMEvent("a", "acme", timestamp=NOW, charge_usd=Decimal(3)), USD, NOW)
    record(store, None, charge_usd=Decimal(2))
    assert (state(store).settled, state(store).held) == (5 * USD, 0)


def test_a_change_of_the_markup_holds_for_what_is_settled_from_then_on(store: Store) -> None:
    put_on_plan(store, "10")
    limit_to(store, 100 * USD)
    for markup, held in (("10", 1_100_000_000), ("20", 1_200_000_000)):
        admit(store, USD, markup)
        assert state(store).held == held
        store.set_plan("pro", (), NOW, "20")
        settle(store, markup, USD)
    assert both(store) == (2 * USD, 2_400_000_000)
    assert (state(store).settled, state(store).held) == (2_400_000_000, 0)


def test_a_hold_that_expires_is_billed_with_its_markup_and_taken_back_in_full(store: Store) -> None:
    store.set_markup("acme", "10", NOW)
    limit_to(store, 100 * USD)
    admit(store, USD, "a")
    store.expire(NOW + 10**6)
    assert both(store) == (USD, 1_100_000_000)
    store.set_markup("acme", "50", NOW)
    settle(store, "a", 2 * USD)
    assert both(store) == (2 * USD, 3 * USD)
    assert state(store).settled == 3 * USD


def test_a_limit_that_is_made_later_starts_from_what_was_billed(store: Store) -> None:
    store.set_markup("acme", "10", NOW)
    record(store, USD, user="ann", feature="chat")
    limit_to(store, 9 * USD)
    limit_to(store, 9 * USD, frequency=TOTAL)
    limit_to(store, 9 * USD, frequency=PER_DAY, basis=COST)
    limit_to(store, 9 * USD, filter="feature=chat")
    settled = {(s.limit.frequency, s.limit.filter): s.settled for s in store.usage("acme", NOW)}
    billed = 1_100_000_000
    expected = {(PER_MONTH, ""): billed, (TOTAL, ""): billed, (PER_DAY, ""): USD, (PER_MONTH, "feature=chat"): billed}
    assert settled == expected


def test_a_limit_on_everyone_counts_each_tenants_charge(store: Store) -> None:
    store.set_markup("acme", "100", NOW)
    limit_to(store, 100 * USD, tenant=EVERYONE)
    for tenant in ("acme", "globex"):
        admit(store, USD, tenant, tenant)
        settle(store, tenant, USD, tenant)
    assert state(store, EVERYONE).settled == 3 * USD


def test_an_adjustment_has_no_markup(store: Store) -> None:
    store.set_markup("acme", "100", NOW)
    store.adjust("acme", -USD, NOW, facts=Facts(user="ann"))
    assert both(store) == (-USD, -USD)


def test_the_history_says_who_set_which_markup(store: Store) -> None:
    store.set_markup("acme", "20", NOW, "ann")
    store.set_markup("acme", None, NOW + 1, "bob")
    changes = [(change.kind, change.actor, change.note) for change in store.history("acme")]
    assert changes == [("markup", "bob", ""), ("markup", "ann", "20 %")]
