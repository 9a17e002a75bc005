"""What every store promises, whatever engine it is on. Amounts are nano-dollars, times unix seconds (UTC)."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.calls import (
    DAY,
    LATE,
    MONTH,
    NOW,
    USD,
    admit,
    amounts,
    assert_adds_up,
    at,
    call,
    cost_of,
    limit_to,
    record,
    settle,
    state,
)
from tests.contract.processes import workers
from tests.support import environment
from token_limit_core.events import LLMEvent
from token_limit_core.limits import ENFORCE, OBSERVE, Limit
from token_limit_core.stores.contract import Store
from token_limit_core.stores.entries import Spend
from token_limit_core.stores.memory.store import MemoryStore
from token_limit_core.stores.queries import TenantQuery
from token_limit_core.stores.records import Call
from token_limit_core.stores.running import ATTEMPTS
from token_limit_core.stores.transactional import TransactionalStore
from token_limit_core.windows import PER_DAY, PER_MONTH

# -- admission ----------------------------------------------------------------------------------


def test_without_limits_every_call_is_admitted_and_nothing_is_held(store: Store) -> None:
    assert admit(store, 5 * USD).admitted
    assert store.holds() == []
    assert store.usage("acme", NOW) == []


def test_a_call_is_admitted_while_something_is_left(store: Store) -> None:
    limit_to(store, 10)
    assert call(store, 9).admitted
    assert call(store, 9).admitted  # one is left, so the call that crosses still goes out
    assert call(store, 1).kind == "exhausted"
    assert amounts(store) == (18, 0)
    assert_adds_up(store)


def test_a_limit_of_zero_refuses_everything(store: Store) -> None:
    limit_to(store, 0)
    assert call(store, 0).kind == "exhausted"
    assert admit(store, None).kind == "exhausted"


def test_spent_is_exhausted_and_says_when_it_resets(store: Store) -> None:
    limit_to(store, 10 * USD)
    call(store, 4 * USD, cost=11 * USD)
    decision = admit(store, USD)
    assert (decision.kind, decision.status, decision.tenant_id) == ("exhausted", 402, "acme")
    assert (decision.limit_usd, decision.spent_usd, decision.held_usd) == (Decimal(10), Decimal(11), Decimal(0))
    assert decision.remaining_usd == 0
    assert (decision.frequency, decision.resets_at, decision.retry_after) == (PER_MONTH, MONTH[1], None)


def test_only_holds_in_the_way_is_busy_and_says_when_to_retry(store: Store) -> None:
    limit_to(store, 10 * USD, frequency=PER_DAY)
    call(store, 3 * USD)
    admit(store, 7 * USD)
    decision = admit(store, USD)
    assert (decision.kind, decision.status, decision.frequency) == ("busy", 429, PER_DAY)
    assert (decision.limit_usd, decision.spent_usd, decision.held_usd) == (Decimal(10), Decimal(3), Decimal(7))
    assert decision.resets_at == at("2027-01-16")
    assert decision.retry_after is not None


def test_a_busy_tenant_is_admitted_once_a_call_settles_below_its_hold(store: Store) -> None:
    limit_to(store, 10)
    admit(store, 10, "first")
    assert admit(store, 1).kind == "busy"
    settle(store, "first", 2)
    assert admit(store, 1).admitted
    assert amounts(store) == (2, 1)


def test_a_call_must_fit_every_limit_and_a_refusal_holds_on_none(store: Store) -> None:
    limit_to(store, 100, frequency=PER_MONTH)
    limit_to(store, 10, frequency=PER_DAY)
    call(store, 10)
    refused = admit(store, 5)
    assert (refused.kind, refused.frequency) == ("exhausted", PER_DAY)
    assert amounts(store, frequency=PER_MONTH) == amounts(store, frequency=PER_DAY) == (10, 0)
    assert store.holds() == []
    limit_to(store, 1000, frequency=PER_DAY)
    limit_to(store, 10, frequency=PER_MONTH)
    assert admit(store, 5).frequency == PER_MONTH
    assert amounts(store, frequency=PER_DAY) == (10, 0)


def test_observe_never_refuses_and_tells_what_it_would_have_done(store: Store) -> None:
    limit_to(store, 10, mode=OBSERVE)
    first = admit(store, 10)
    assert (first.kind, first.observed) == ("admitted", ())
    busy = admit(store, 10)
    assert (busy.kind, busy.observed) == ("admitted", ("busy",))
    record(store, 10)
    spent = admit(store, 10)
    assert (spent.kind, spent.observed) == ("admitted", ("exhausted",))
    assert amounts(store) == (10, 30)


def test_observe_and_enforce_side_by_side_each_do_their_own(store: Store) -> None:
    limit_to(store, 5, frequency=PER_MONTH, mode=OBSERVE)
    limit_to(store, 10, frequency=PER_DAY, mode=ENFORCE)
    assert call(store, 5).observed == ()
    assert call(store, 5).observed == ("exhausted",)
    assert call(store, 5).kind == "exhausted"
    assert amounts(store, frequency=PER_MONTH) == (10, 0)


def test_an_unpriced_call_is_held_at_nothing_and_recorded_as_unpriced(store: Store) -> None:
    limit_to(store, 10)
    assert admit(store, None, "a").admitted
    [hold] = store.holds()
    assert (hold.amount, hold.held) == (None, 0)
    assert settle(store, "a", None) == "stored"
    assert store.spend("acme", *MONTH) == Spend(
        calls=1, input_tokens=0, output_tokens=0, cost_nano=0, unpriced=1, charge_nano=0
    )
    assert amounts(store) == (0, 0)


def test_tenants_do_not_share_a_limit(store: Store) -> None:
    limit_to(store, 10, tenant="acme")
    limit_to(store, 10, tenant="globex")
    call(store, 10, tenant="acme")
    assert call(store, 1, tenant="acme").kind == "exhausted"
    assert call(store, 1, tenant="globex").admitted


def test_the_largest_limit_and_its_sums_are_exact(store: Store) -> None:
    largest = 10**9 * USD
    limit_to(store, largest)
    assert call(store, largest - 1).admitted
    assert amounts(store) == (largest - 1, 0)
    assert call(store, largest).admitted
    assert call(store, 1).kind == "exhausted"
    assert amounts(store) == (2 * largest - 1, 0)
    assert cost_of(store) == 2 * largest - 1


# -- settling -----------------------------------------------------------------------------------


def test_settle_records_once_however_often_it_is_called(store: Store) -> None:
    limit_to(store, 100)
    admit(store, 10, "a")
    assert [settle(store, "a", 7) for _ in range(3)] == ["stored", "duplicate", "duplicate"]
    assert amounts(store) == (7, 0)
    assert store.spend("acme", *MONTH).calls == 1
    assert store.holds() == []


def test_a_call_without_a_hold_can_be_settled(store: Store) -> None:
    limit_to(store, 100)
    assert call(store, 1).admitted  # the window is open
    assert settle(store, "never admitted", 7) == "stored"
    assert settle(store, "never admitted", 7) == "duplicate"
    assert amounts(store) == (8, 0)


def test_a_released_hold_is_free_again_and_its_call_can_still_be_settled(store: Store) -> None:
    limit_to(store, 10)
    admit(store, 10, "a")
    assert store.release("a", NOW)
    assert not store.release("a", NOW)
    assert amounts(store) == (0, 0)
    assert settle(store, "a", 4) == "stored"
    assert amounts(store) == (4, 0)
    assert store.holds() == []


def test_release_and_renew_do_nothing_for_what_is_not_open(store: Store) -> None:
    limit_to(store, 10)
    admit(store, 5, "a")
    settle(store, "a", 5)
    assert not store.release("a", NOW)
    assert not store.renew("a", NOW + 3600)
    assert not store.release("unknown", NOW)
    assert not store.renew("unknown", NOW + 3600)
    assert amounts(store) == (5, 0)


def test_a_call_settles_in_the_window_it_was_admitted_in(store: Store) -> None:
    before, after = at("2027-01-31 23:59:59.9"), at("2027-02-01 00:00:30")
    limit_to(store, 100, frequency=PER_MONTH)
    limit_to(store, 100, frequency=PER_DAY)
    admit(store, 10, "a", now=before)
    call(store, 1, now=after)
    settle(store, "a", 8, started=before, now=after)
    for frequency in (PER_MONTH, PER_DAY):
        assert amounts(store, now=before, frequency=frequency) == (8, 0)
        assert amounts(store, now=after, frequency=frequency) == (1, 0)
    assert_adds_up(store, now=before)
    assert_adds_up(store, now=after)


def test_a_call_is_also_charged_to_limits_that_came_while_it_flew(store: Store) -> None:
    limit_to(store, 100, frequency=PER_MONTH)
    admit(store, 10, "a")
    limit_to(store, 100, frequency=PER_DAY)
    call(store, 1)
    settle(store, "a", 8)
    assert amounts(store, frequency=PER_MONTH) == amounts(store, frequency=PER_DAY) == (9, 0)
    assert_adds_up(store)


def test_a_call_outlives_the_limit_it_was_held_on(store: Store) -> None:
    limit_to(store, 100)
    admit(store, 10, "a")
    assert store.remove_limit("acme", None, NOW) == 1
    assert settle(store, "a", 8) == "stored"
    assert cost_of(store) == 8
    limit_to(store, 100)
    call(store, 1)
    assert amounts(store) == (9, 0)


# -- holds that expire --------------------------------------------------------------------------


def test_an_expired_hold_is_settled_at_what_it_held(store: Store) -> None:
    limit_to(store, 100)
    admit(store, 10, "a")
    assert store.expire(LATE - 1) == 0
    assert store.expire(LATE) == 1
    assert store.expire(LATE) == 0
    assert amounts(store) == (10, 0)
    assert store.spend("acme", *MONTH) == Spend(
        calls=0, input_tokens=0, output_tokens=0, cost_nano=10, unpriced=0, charge_nano=10
    )
    assert store.holds() == []
    assert_adds_up(store)


@pytest.mark.parametrize(("estimate", "cost"), [(10, 4), (10, 25), (10, 10), (None, 7), (10, None)])
def test_a_settle_after_the_expiry_corrects_it(store: Store, estimate: int | None, cost: int | None) -> None:
    limit_to(store, 100)
    admit(store, estimate, "a")
    store.expire(LATE)
    assert [settle(store, "a", cost, now=LATE + 5) for _ in range(2)] == ["stored", "duplicate"]
    assert amounts(store) == (0 if cost is None else cost, 0)
    spend = store.spend("acme", *MONTH)
    assert (spend.calls, spend.unpriced) == (1, 1 if cost is None else 0)
    assert store.expire(LATE + 10) == 0
    assert_adds_up(store)


def test_an_expiry_and_its_correction_stay_in_the_window_of_the_call(store: Store) -> None:
    before, after = at("2027-01-31 23:59:59"), at("2027-02-01 00:30")
    limit_to(store, 100, frequency=PER_MONTH)
    admit(store, 10, "a", now=before)
    call(store, 1, now=after)
    assert store.expire(after) == 1
    assert (amounts(store, now=before), amounts(store, now=after)) == ((10, 0), (1, 0))
    settle(store, "a", 3, started=before, now=after)
    assert (amounts(store, now=before), amounts(store, now=after)) == ((3, 0), (1, 0))


def test_before_it_answers_busy_admission_settles_what_has_expired(store: Store) -> None:
    limit_to(store, 10)
    admit(store, 10, "lost")
    assert admit(store, 1, now=LATE - 1).kind == "busy"
    assert admit(store, 1, now=LATE).kind == "exhausted"
    assert store.holds() == []
    settle(store, "lost", 2, now=LATE)
    assert admit(store, 1, now=LATE).admitted


def test_admission_settles_expired_holds_of_its_own_tenant_only(store: Store) -> None:
    for tenant in ("acme", "globex"):
        limit_to(store, 10, tenant=tenant)
        admit(store, 10, tenant=tenant)
    admit(store, 1, tenant="acme", now=LATE)
    assert [hold.tenant_id for hold in store.holds()] == ["globex"]
    assert store.expire(LATE, "globex") == 1


def test_with_something_left_the_call_after_an_expiry_is_admitted(store: Store) -> None:
    limit_to(store, 10)
    admit(store, 9, "lost")
    store.expire(LATE)
    assert call(store, 5, now=LATE).admitted
    assert amounts(store) == (14, 0)


def test_a_renewed_hold_lives_on(store: Store) -> None:
    limit_to(store, 100)
    admit(store, 10, "a")
    assert store.renew("a", LATE + 60)
    assert store.expire(LATE) == 0
    assert [hold.expires_at for hold in store.holds()] == [LATE + 60]
    assert store.expire(LATE + 60) == 1
    assert not store.renew("a", LATE + 120)


def test_holds_are_listed_oldest_first_with_what_they_hold(store: Store) -> None:
    month = limit_to(store, 100, frequency=PER_MONTH)
    day = limit_to(store, 100, frequency=PER_DAY)
    limit_to(store, 100, tenant="globex")
    admit(store, 3, "younger", now=NOW + 60)
    admit(store, 5, "older")
    store.admit(Call("other", "globex", 1, hold_seconds=60, origin="batch"), NOW + 30)
    assert [hold.call_id for hold in store.holds()] == ["older", "other", "younger"]
    older, younger = store.holds("acme")
    assert (older.amount, older.created_at, older.expires_at, older.state) == (5, NOW, LATE, "open")
    assert set(older.items) == {("acme", month.id, "", MONTH[0]), ("acme", day.id, "", at("2027-01-15"))}
    assert younger.amount == 3
    [other] = store.holds("globex")
    assert (other.origin, other.expires_at) == ("batch", NOW + 90)


# -- limits and windows -------------------------------------------------------------------------


def test_setting_a_limit_again_keeps_its_row_and_its_counters(store: Store) -> None:
    first = limit_to(store, 10)
    call(store, 4)
    admit(store, 3)
    second = limit_to(store, 20, mode=OBSERVE, now=NOW + 60)
    assert second.id == first.id
    assert [(limit.amount, limit.mode) for limit in store.limits("acme")] == [(20, OBSERVE)]
    assert amounts(store, now=NOW + 60) == (4, 3)


def test_a_raised_and_a_lowered_limit_hold_for_the_next_call(store: Store) -> None:
    limit_to(store, 10)
    call(store, 10)
    assert call(store, 1).kind == "exhausted"
    limit_to(store, 11)
    assert call(store, 1).admitted
    limit_to(store, 5)
    assert call(store, 1).limit_usd == Decimal("5e-9")
    assert state(store).remaining_usd == 0


def test_a_limit_made_in_the_middle_of_a_window_starts_from_the_ledger(store: Store) -> None:
    record(store, 3, when=at("2027-01-02"))
    record(store, 4, when=NOW)
    record(store, 90, when=at("2026-12-31 23:59:59"))
    limit_to(store, 8, frequency=PER_MONTH)
    limit_to(store, 8, frequency=PER_DAY)
    assert amounts(store, frequency=PER_MONTH) == (7, 0)  # told before the first call opens the window
    assert call(store, 1).admitted
    assert amounts(store, frequency=PER_MONTH) == (8, 0)
    assert amounts(store, frequency=PER_DAY) == (5, 0)
    assert call(store, 1).frequency == PER_MONTH
    assert_adds_up(store)


def test_a_limit_that_comes_back_starts_from_the_ledger(store: Store) -> None:
    limit_to(store, 10)
    call(store, 6)
    store.remove_limit("acme", PER_MONTH, NOW)
    call(store, 3)
    limit_to(store, 10)
    assert amounts(store) == (9, 0)
    call(store, 1)
    assert amounts(store) == (10, 0)


def test_a_new_window_is_a_new_counter(store: Store) -> None:
    limit_to(store, 10, frequency=PER_DAY)
    call(store, 10)
    assert call(store, 1).kind == "exhausted"
    tomorrow = NOW + DAY
    assert call(store, 10, now=tomorrow).admitted
    assert amounts(store, now=NOW, frequency=PER_DAY) == (10, 0)
    assert amounts(store, now=tomorrow, frequency=PER_DAY) == (10, 0)


def test_a_day_and_a_month_limit_coexist(store: Store) -> None:
    limit_to(store, 15, frequency=PER_MONTH)
    limit_to(store, 10, frequency=PER_DAY)
    assert call(store, 10).admitted
    assert call(store, 1).frequency == PER_DAY
    assert call(store, 5, now=NOW + DAY).admitted
    assert call(store, 1, now=NOW + DAY).frequency == PER_MONTH
    assert_adds_up(store, now=NOW + DAY)


def test_a_limit_with_a_later_date_waits_and_then_starts_from_the_ledger(store: Store) -> None:
    start = at("2027-01-20")
    limit_to(store, 10)
    limit_to(store, 7, start=start)
    assert [status.limit.amount for status in store.usage("acme", start - 1)] == [10]
    assert [status.limit.amount for status in store.usage("acme", start)] == [7]
    call(store, 6, now=start - 1)
    assert call(store, 1, now=start).admitted
    assert amounts(store, now=start) == (7, 0)
    refused = call(store, 1, now=start)
    assert (refused.kind, refused.limit_usd) == ("exhausted", Decimal("7e-9"))
    assert call(store, 1, now=start - 1).admitted
    assert_adds_up(store, now=start)


def test_a_call_in_flight_over_an_effective_date_is_charged_to_both_limits(store: Store) -> None:
    start = at("2027-01-20")
    limit_to(store, 10)
    limit_to(store, 10, start=start)
    admit(store, 3, "a", now=start - 1)
    call(store, 1, now=start + 1)
    settle(store, "a", 4, started=start - 1, now=start + 2)
    assert amounts(store, now=start - 1) == (5, 0)
    assert amounts(store, now=start + 2) == (5, 0)


def test_a_new_tenant_is_welcomed_with_one_limit_however_many_welcome_it(store: Store) -> None:
    def welcome(_: int) -> bool:
        return store.welcome(Limit("acme", 100, effective_from=NOW), NOW)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(welcome, range(8))) == 1
    assert [row.amount for row in store.limits("acme")] == [100]
    store.remove_limit("acme", None, NOW)
    assert not welcome(0)
    assert store.limits("acme") == []


def test_cancelling_a_limit_that_waits_lets_the_earlier_one_go_on(store: Store) -> None:
    store.set_limit(Limit("acme", 100, effective_from=NOW), NOW)
    waiting = store.set_limit(Limit("acme", 50, effective_from=NOW + 3600), NOW)
    other = store.set_limit(Limit("acme", 10, PER_DAY, effective_from=NOW), NOW)
    store.cancel_limit(waiting, NOW)
    assert [(row.amount, row.effective_until) for row in store.limits("acme")] == [(100, None), (10, None)]
    store.cancel_limit(other, NOW)
    assert [status.limit.amount for status in store.usage("acme", NOW + 7200)] == [100]


def test_a_first_limit_may_lie_in_the_future(store: Store) -> None:
    start = at("2027-01-20")
    limit_to(store, 0, start=start)
    assert call(store, 1).admitted
    assert store.usage("acme", NOW) == []
    assert call(store, 1, now=start).kind == "exhausted"


def test_a_limit_set_now_yields_to_the_one_that_waits(store: Store) -> None:
    start = at("2027-01-20")
    limit_to(store, 7, start=start)
    limit_to(store, 10)
    limit_to(store, 12)
    assert [status.limit.amount for status in store.usage("acme", NOW)] == [12]
    assert [status.limit.amount for status in store.usage("acme", start)] == [7]


def test_a_later_limit_replaces_the_one_that_waited(store: Store) -> None:
    limit_to(store, 10)
    limit_to(store, 7, start=at("2027-01-20"))
    limit_to(store, 8, start=at("2027-01-25"))
    limit_to(store, 9, start=at("2027-01-25"))
    assert [limit.amount for limit in store.limits("acme")] == [10, 9]
    assert [status.limit.amount for status in store.usage("acme", at("2027-01-24"))] == [10]
    assert [status.limit.amount for status in store.usage("acme", at("2027-01-25"))] == [9]


def test_a_date_in_the_past_can_be_given_again(store: Store) -> None:
    start = at("2027-01-20")
    limit_to(store, 10, start=NOW - DAY)
    limit_to(store, 7, start=start)
    limit_to(store, 8, now=start + DAY, start=NOW - DAY)
    assert [status.limit.amount for status in store.usage("acme", start + DAY)] == [8]


def test_a_limit_that_was_read_back_can_be_scheduled(store: Store) -> None:
    current = limit_to(store, 10)
    start = at("2027-01-20")
    store.set_limit(replace(current, amount=20, effective_from=start), NOW)
    assert [status.limit.amount for status in store.usage("acme", NOW)] == [10]
    assert [status.limit.amount for status in store.usage("acme", start)] == [20]


def test_limits_are_removed_by_frequency_or_all(store: Store) -> None:
    limit_to(store, 10, frequency=PER_MONTH)
    limit_to(store, 10, frequency=PER_DAY)
    limit_to(store, 20, frequency=PER_DAY, start=at("2027-01-20"))
    limit_to(store, 0, tenant="globex")
    call(store, 1)
    assert store.remove_limit("acme", PER_DAY, NOW) == 2
    assert [limit.frequency for limit in store.limits("acme")] == [PER_MONTH]
    assert store.remove_limit("acme", None, NOW) == 1
    assert store.remove_limit("acme", None, NOW) == 0
    assert call(store, 1).admitted
    assert call(store, 1, tenant="globex").kind == "exhausted"


def test_removing_what_is_not_there_makes_no_tenant(store: Store) -> None:
    assert store.remove_limit("nobody", None, NOW) == 0
    assert store.tenants(TenantQuery(), NOW).total == 0


TENANTS = ["A", "a", "ä", "a\u0308", "acme", "acme ", " acme", "", "tenant-🦆", "x" * 255, "x" * 254 + "X", "ж" * 255]


def test_tenant_ids_are_compared_byte_for_byte(store: Store) -> None:
    for number, tenant in enumerate(TENANTS, start=1):
        limit_to(store, number, tenant=tenant)
        record(store, number, tenant=tenant)
        admit(store, 0, f"held-{number}", tenant=tenant, now=at("2027-02-01"))
    for number, tenant in enumerate(TENANTS, start=1):
        assert [(limit.tenant_id, limit.amount) for limit in store.limits(tenant)] == [(tenant, number)]
        assert cost_of(store, tenant) == number
        assert amounts(store, tenant) == (number, 0)
        assert [(hold.tenant_id, hold.call_id) for hold in store.holds(tenant)] == [(tenant, f"held-{number}")]


# -- recording, queries, pruning ----------------------------------------------------------------


def test_records_in_bulk_answer_for_each_event_in_its_order(store: Store) -> None:
    for tenant in ("a", "b"):
        limit_to(store, 100, tenant=tenant)
        call(store, 0, tenant=tenant)
    settle(store, "known", 1, tenant="a")
    ids = [("e1", "b"), ("e2", "a"), ("e1", "b"), ("known", "a"), ("e1", "a"), ("e3", "b"), ("e4", "new")]
    results = store.record([(LLMEvent(i, tenant, timestamp=NOW), 10) for i, tenant in ids], NOW)
    assert results == ["stored", "stored", "duplicate", "duplicate", "stored", "stored", "stored"]
    assert (amounts(store, "a"), amounts(store, "b")) == ((21, 0), (20, 0))
    assert cost_of(store, "new") == 10
    assert store.record([], NOW) == []


def test_recording_a_call_in_flight_closes_its_hold(store: Store) -> None:
    limit_to(store, 100)
    admit(store, 10, "a")
    assert store.record([(LLMEvent("a", "acme", timestamp=NOW), 4)], NOW) == ["stored"]
    assert amounts(store) == (4, 0)
    assert store.holds() == []


def test_spend_sums_a_span_of_a_tenants_ledger(store: Store) -> None:
    record(store, 5, when=NOW, input_tokens=100, output_tokens=20)
    record(store, None, when=NOW + 1, input_tokens=7, output_tokens=1, model="mystery")
    record(store, 9, when=NOW + 2, input_tokens=1000)
    record(store, 50, when=NOW, tenant="globex")
    assert store.spend("acme", NOW, NOW + 2) == Spend(2, 107, 21, 5, 1, 5)
    assert store.spend("acme", NOW + 2, NOW + 3) == Spend(1, 1000, 0, 9, 0, 9)
    assert store.spend("nobody", NOW, NOW + 3) == Spend(0, 0, 0, 0, 0, 0)


def test_whatever_an_event_carries_can_be_recorded(store: Store) -> None:
    tags = {"nul": "a\0b", "half": "\ud83d", "nan": float("nan"), "set": {1}, "deep": {"when": datetime.now(UTC), 3: 4}}
    event = LLMEvent(
        "odd",
        "acme",
        timestamp=NOW,
        model="m\0" + "\ud83d" * 300,
        error="e" * 300,
        user="🦆" * 300,
        session_id="s",
        stream=True,
        duration_ms=12.5,
        cost_usd=Decimal("0.000000007"),
        image_count=2,
        tags=tags,
    )
    assert store.record([(event, 7)], NOW) == ["stored"]
    assert cost_of(store) == 7


def test_prune_settles_expired_holds_and_deletes_only_what_is_old(store: Store) -> None:
    now = at("2027-03-20")
    limit_to(store, 1000, now=at("2027-01-01"))
    for day, cost in [("2027-01-10", 1), ("2027-02-10", 2), ("2027-02-20", 4), ("2027-03-05", 8)]:
        call(store, cost, now=at(day))
    admit(store, 16, "lost", now=at("2027-01-11"))
    admit(store, 32, "open", now=now)
    pruned = store.prune(before=now, now=now)
    assert pruned.expired == 1
    assert (pruned.events, pruned.holds, pruned.counters) == (3, pruned.holds, 1)
    assert [hold.call_id for hold in store.holds()] == ["open"]
    assert cost_of(store) == 4 + 8
    assert amounts(store, now=at("2027-01-10")) == (0, 0)
    assert amounts(store, now=at("2027-02-10")) == (6, 0)  # its window ended less than 35 days ago
    assert amounts(store, now=now) == (8, 32)
    assert store.prune(before=now, now=now) == (0, 0, 0, 0)


def test_prune_keeps_what_is_younger_than_asked_for_and_ids_that_may_come_again(store: Store) -> None:
    now = at("2027-03-20")
    limit_to(store, 1000, now=at("2027-01-01"))
    for call_id, day in [("old", "2027-01-10"), ("asked", "2027-01-20"), ("young", "2027-02-20")]:
        settle(store, call_id, 1, started=at(day))
    assert store.prune(before=at("2027-01-15"), now=now).events == 1
    assert settle(store, "asked", 1, started=at("2027-01-20"), now=now) == "duplicate"
    store.prune(before=now, now=now)
    assert settle(store, "young", 1, started=at("2027-02-20"), now=now) == "duplicate"


def test_a_closed_store_may_be_used_again(store: Store) -> None:
    store.check()
    limit_to(store, 10)
    store.close()
    assert call(store, 1).admitted
    assert amounts(store) == (1, 0)


# -- threads ------------------------------------------------------------------------------------

THREADS = 8


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Run `work(number)` in threads that start at the same moment; return the results."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_threads_spend_a_limit_to_its_end_and_no_further(store: Store) -> None:
    estimate = 1000
    limit_to(store, 60 * estimate + 1, frequency=PER_MONTH)
    limit_to(store, 300 * estimate, frequency=PER_DAY)

    def spend(_: int) -> int:
        settled = 0
        while (decision := call(store, estimate)).kind != "exhausted":
            settled += decision.admitted
        return settled

    assert sum(together(spend)) == 61
    assert amounts(store) == (61 * estimate, 0)
    assert store.holds() == []
    assert_adds_up(store)


def test_threads_stay_within_the_bound_when_calls_cost_more_than_was_held(store: Store) -> None:
    estimate, limit = 1000, 40_500
    limit_to(store, limit)

    def spend(number: int) -> int:
        excess = 0
        for cost in itertools.cycle((estimate // 2, estimate, estimate * 2)):
            decision = call(store, estimate, cost)
            if decision.kind == "exhausted":
                return excess
            excess += max(0, cost - estimate) if decision.admitted else 0
        raise AssertionError

    excesses = sum(together(spend))
    settled, held = amounts(store)
    assert limit <= settled < limit + estimate + excesses
    assert held == 0
    assert_adds_up(store)


def test_nothing_is_lost_when_a_window_opens_under_settles(store: Store) -> None:
    limit_to(store, 10**6, frequency=PER_DAY, now=NOW - DAY)
    days = [NOW + number * DAY for number in range(4)]
    steps = [threading.Barrier(THREADS) for _ in days]

    def work(number: int) -> None:
        for day, step in zip(days, steps, strict=True):
            step.wait()
            for _ in range(3):
                if number % 2:
                    record(store, 10, when=day)
                else:
                    assert call(store, 10, now=day).admitted

    together(work)
    for day in days:
        assert amounts(store, now=day, frequency=PER_DAY) == (10 * 3 * THREADS, 0)
        assert_adds_up(store, now=day)


def test_one_call_settled_from_many_threads_is_stored_once(store: Store) -> None:
    limit_to(store, 1000)
    admit(store, 10, "a")
    results = together(lambda _: settle(store, "a", 7))
    assert sorted(results) == ["duplicate"] * (THREADS - 1) + ["stored"]
    assert amounts(store) == (7, 0)


def test_expiry_release_and_settle_at_once_leave_the_counters_right(store: Store) -> None:
    limit_to(store, 10**6)
    rounds = [f"round-{number}" for number in range(6)]
    steps = [threading.Barrier(THREADS) for _ in rounds]

    def work(number: int) -> None:
        for call_id, step in zip(rounds, steps, strict=True):
            if number == 0:
                admit(store, 10, call_id)
            step.wait()
            if number % 3 == 0:
                settle(store, call_id, 7, now=LATE)
            elif number % 3 == 1:
                store.expire(LATE)
            else:
                store.release(call_id, LATE)

    together(work)
    assert amounts(store) == (7 * len(rounds), 0)
    assert store.holds() == []
    assert_adds_up(store)


def test_bulk_records_of_the_same_tenants_in_any_order_do_not_lock_each_other_out(store: Store) -> None:
    tenants = ["a", "b", "c", "d"]
    for tenant in tenants:
        limit_to(store, 10**6, tenant=tenant)

    def work(number: int) -> None:
        for tenant in tenants:
            call(store, 1, tenant=tenant)
        order = tenants if number % 2 else tenants[::-1]
        events = [(LLMEvent(f"{number}-{tenant}", tenant, timestamp=NOW), 10) for tenant in order]
        assert store.record(events, NOW) == ["stored"] * len(tenants)

    together(work)
    for tenant in tenants:
        assert amounts(store, tenant) == (THREADS * 11, 0)


def test_limits_changed_under_calls_lose_nothing(store: Store) -> None:
    limit_to(store, 10**6)

    def work(number: int) -> None:
        for turn in range(6):
            if number == 0:
                limit_to(store, 10**6 + turn, frequency=PER_DAY)
                store.remove_limit("acme", PER_DAY if turn % 2 else PER_MONTH, NOW)
                limit_to(store, 10**6 + turn, frequency=PER_MONTH)
            else:
                assert call(store, 10).admitted

    together(work)
    call(store, 0)
    assert cost_of(store) == 10 * 6 * (THREADS - 1)
    assert store.holds() == []
    assert_adds_up(store)


class Contended(TransactionalStore):
    """A store whose transactions meet conflicts before they come through."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.conflicts: list[Exception] = []
        self.attempts = 0

    def begin(self) -> Any:
        self.attempts += 1
        if self.conflicts:
            raise self.conflicts.pop()
        return self.inner.begin()

    def is_conflict(self, error: Exception) -> bool:
        return isinstance(error, BlockingIOError)


def test_a_conflict_is_tried_again_until_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_limit_core.stores.running.time.sleep", lambda seconds: None)
    store = Contended()
    store.conflicts = [BlockingIOError()] * (ATTEMPTS - 1)
    limit_to(store, 10)
    assert store.attempts == ATTEMPTS
    assert call(store, 1).admitted


def test_a_conflict_that_stays_and_any_other_fault_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_limit_core.stores.running.time.sleep", lambda seconds: None)
    store = Contended()
    store.conflicts = [BlockingIOError()] * ATTEMPTS
    with pytest.raises(BlockingIOError):
        admit(store, 1)
    store.attempts, store.conflicts = 0, [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        admit(store, 1)
    assert store.attempts == 1


# -- processes ----------------------------------------------------------------------------------


def test_processes_spend_a_limit_to_its_end_and_no_further(store: Store, spec: str) -> None:
    estimate = 1000
    limit_to(store, 60 * estimate + 1, frequency=PER_MONTH)
    limit_to(store, 300 * estimate, frequency=PER_DAY)
    with workers(spec, 4, "spend", estimate) as started:
        for worker in started:
            worker.go()
        settled = [line for worker in started for line in worker.finish()]
        assert [worker.process.exitcode for worker in started] == [0] * 4
    assert len(set(settled)) == 61
    assert amounts(store) == (61 * estimate, 0)
    assert store.spend("acme", *MONTH).calls == 61
    assert store.holds() == []
    assert_adds_up(store)


def test_what_was_settled_survives_kill_9_and_what_was_held_expires(store: Store, spec: str) -> None:
    estimate = 1000
    limit_to(store, 10**9)
    with workers(spec, 3, "spend", estimate) as busy, workers(spec, 1, "hold", estimate) as stuck:
        for worker in busy + stuck:
            worker.go()
        orphan = stuck[0].line()
        settled = [worker.line() for worker in busy for _ in range(10)]
        for worker in busy + stuck:
            worker.kill()
        settled += [line for worker in busy for line in worker.finish()]
        stuck[0].finish()
        assert [worker.process.exitcode for worker in busy + stuck] == [-signal.SIGKILL] * 4

    assert [settle(store, call_id, estimate) for call_id in settled] == ["duplicate"] * len(settled)
    recorded = store.spend("acme", *MONTH).calls
    assert len(settled) <= recorded <= len(settled) + 3  # killed between the settle and the print
    orphans = store.holds()
    assert orphan in {hold.call_id for hold in orphans}
    assert len(orphans) <= 4
    assert_adds_up(store)

    limit_to(store, (recorded + len(orphans)) * estimate)
    assert admit(store, 1, now=LATE - 1).kind == "busy"
    limit_to(store, (recorded + len(orphans)) * estimate + 1)
    store.expire(LATE)
    assert call(store, 1, now=LATE).admitted
    assert store.holds() == []
    assert amounts(store) == ((recorded + len(orphans)) * estimate + 1, 0)
    assert store.spend("acme", *MONTH).calls == recorded + 1
    assert_adds_up(store)


@pytest.mark.new_store
def test_processes_may_start_on_a_new_store_at_once(spec: str) -> None:
    with workers(spec, 4, "hold", 5) as started:
        for worker in started:
            worker.go()
        assert all(worker.line() for worker in started)  # without a limit each is admitted


def test_a_store_survives_a_fork_on_both_sides(store: Store, spec: str) -> None:
    limit_to(store, 1000)
    with workers(spec, 1, "fork", 5) as [worker]:
        worker.go()
        assert sorted(worker.finish()) == ["child", "parent"]
        assert worker.process.exitcode == 0
    assert amounts(store) == (20, 0)
    assert store.spend("acme", *MONTH).calls == 4


def test_a_fork_under_a_busy_memory_store_leaves_the_child_a_working_one() -> None:
    script = """
import os, threading
from token_limit_core.stores.memory import MemoryStore
store, held, done = MemoryStore(), threading.Event(), threading.Event()
def work():
    with store.begin():
        held.set()
        done.wait()
threading.Thread(target=work).start()
held.wait()
child = os.fork()
if not child:
    os._exit(len(store.limits("acme")))
status = os.waitpid(child, 0)[1]
done.set()
raise SystemExit(status)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, env=environment(), timeout=30).returncode == 0


def test_a_limit_raised_in_one_process_holds_for_the_next_call_in_another(store: Store, spec: str) -> None:
    limit_to(store, 0)
    with workers(spec, 1, "hold", 5) as [worker]:
        limit_to(store, 10)
        worker.go()
        call_id = worker.line()
        assert [hold.call_id for hold in store.holds()] == [call_id]
        assert settle(store, call_id, 6) == "stored"
    assert amounts(store) == (6, 0)
