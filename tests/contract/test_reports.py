"""What consoles read from a store, whatever engine it is on. Amounts are nano-dollars, times unix seconds (UTC)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.calls import DAY, MONTH, NOW, admit, at, call, limit_to, record
from token_limit_core.errors import LimitChanged, StoreError
from token_limit_core.ingest.keys import make_key
from token_limit_core.limits import OBSERVE, Limit
from token_limit_core.stores.contract import Store
from token_limit_core.stores.entries import Spend
from token_limit_core.stores.queries import EventQuery, TenantQuery
from token_limit_core.stores.records import Call
from token_limit_core.stores.reports import Reports
from token_limit_core.windows import PER_DAY, PER_MONTH


def ids(store: Store, now: float = NOW, **query: Any) -> list[str]:
    return [row.tenant_id for row in store.tenants(TenantQuery(**query), now).rows]


def models(store: Store, **query: Any) -> list[str]:
    return [row.entry.event.model for row in store.events(EventQuery(**query))]


# -- tenants ------------------------------------------------------------------------------------


def test_tenants_come_with_their_month_and_their_limits(store: Store) -> None:
    limit_to(store, 100)
    limit_to(store, 10, frequency=PER_DAY)
    call(store, 3)
    admit(store, 4)
    record(store, 7, when=at("2027-01-02"), input_tokens=5)
    record(store, 9, when=at("2026-12-31"))
    record(store, None, tenant="globex")
    page = store.tenants(TenantQuery(), NOW)
    acme, globex = page.rows
    assert page.total == 2
    assert (acme.tenant_id, acme.month) == ("acme", Spend(2, 5, 0, 10, 0, 10))
    assert {status.limit.frequency: (status.settled, status.held) for status in acme.limits} == {
        PER_MONTH: (10, 4),
        PER_DAY: (3, 4),
    }
    assert (globex.month, globex.limits) == (Spend(1, 0, 0, 0, 1, 0), ())


def test_a_window_that_no_call_has_opened_stands_at_what_was_spent_in_it(store: Store) -> None:
    record(store, 7, when=at("2027-01-02"))
    record(store, 2)
    limit_to(store, 100)
    limit_to(store, 10, frequency=PER_DAY)
    limit_to(store, 5, tenant="globex")
    acme, globex = store.tenants(TenantQuery(), NOW).rows
    assert list(acme.limits) == store.usage("acme", NOW)
    assert sorted(status.settled for status in acme.limits) == [2, 9]
    assert [(status.settled, status.held) for status in globex.limits] == [(0, 0)]


def test_tenants_are_sorted_by_id_spend_or_share_of_their_fullest_limit(store: Store) -> None:
    limit_to(store, 1000, tenant="big")
    record(store, 500, tenant="big")
    limit_to(store, 20, tenant="day", frequency=PER_DAY)
    limit_to(store, 10_000, tenant="day")
    record(store, 18, tenant="day")
    record(store, 300, tenant="day", when=at("2027-01-02"))
    record(store, 400, tenant="free")
    limit_to(store, 0, tenant="none")
    limit_to(store, 10, tenant="quiet")
    record(store, 9, tenant="quiet", when=at("2026-12-31"))
    limit_to(store, 1, tenant="to come", start=NOW + DAY)
    record(store, 2, tenant="to come")
    assert ids(store) == ["big", "day", "free", "none", "quiet", "to come"]
    assert ids(store, sort="spend") == ["big", "free", "day", "to come", "none", "quiet"]
    assert ids(store, sort="share") == ["none", "day", "big", "quiet", "free", "to come"]


def test_a_credit_is_less_than_nothing_spent_and_no_share_of_a_limit(store: Store) -> None:
    record(store, -5, tenant="owed")
    limit_to(store, 1, tenant="owed")
    record(store, 0, tenant="zero")
    limit_to(store, 5, tenant="alone")
    assert ids(store, sort="spend") == ["alone", "zero", "owed"]
    assert ids(store, sort="share") == ["alone", "owed", "zero"]


def test_tenants_are_sorted_by_name_and_by_calls(store: Store) -> None:
    for tenant, name, calls in (("t1", "globex", 1), ("t2", "", 3), ("t3", "Acme", 2)):
        for _ in range(calls):
            record(store, 1, tenant=tenant)
        if name:
            store.name_tenant(tenant, name, NOW)
    assert ids(store, sort="name") == ["t3", "t1", "t2"]
    assert ids(store, sort="calls") == ["t2", "t3", "t1"]
    assert store.tenants(TenantQuery(sort="calls", offset=3), NOW).total == 3


def test_pages_of_tenants_follow_each_other(store: Store) -> None:
    names = [f"tenant-{number}" for number in range(7)]
    for number, name in enumerate(names):
        record(store, number, tenant=name)
    for sort, expected in (("id", names), ("spend", names[::-1])):
        pages = [store.tenants(TenantQuery("", sort, offset, 3), NOW) for offset in (0, 3, 6, 9)]  # type: ignore[arg-type]
        assert [row.tenant_id for page in pages for row in page.rows] == expected
        assert {page.total for page in pages} == {7}


def test_tenants_are_found_by_a_part_of_their_id_in_either_case(store: Store) -> None:
    for name in ("Acme", "acme-2", "100%", "under_score", "underXscore"):
        record(store, 1, tenant=name)
    assert ids(store, search="ACME") == ["Acme", "acme-2"]
    assert ids(store, search="%") == ["100%"]
    assert ids(store, search="r_s") == ["under_score"]
    assert ids(store, search="nobody") == []
    assert store.tenants(TenantQuery("cme", size=1), NOW).total == 2
    assert ids(store, tenant_id="Acme") == ["Acme"]
    assert ids(store, tenant_id="acme") == []


# -- spend and events ---------------------------------------------------------------------------


def test_the_rollup_gives_a_tenants_days_by_provider_and_model(store: Store) -> None:
    today, second = int(NOW // DAY), int(at("2027-01-02") // DAY)
    record(store, 3, provider="openai", model="b", input_tokens=1, output_tokens=2)
    record(store, 4, provider="openai", model="b")
    record(store, 5, provider="anthropic", model="a", when=at("2027-01-02 23:59:59"))
    record(store, None, provider="openai", model="c")
    record(store, 1, tenant="globex")
    record(store, 1, when=at("2027-02-01"))
    assert store.rollup("acme", *MONTH) == [
        (second, "anthropic", "a", Spend(1, 0, 0, 5, 0, 5)),
        (today, "openai", "b", Spend(2, 1, 2, 7, 0, 7)),
        (today, "openai", "c", Spend(1, 0, 0, 0, 1, 0)),
    ]
    assert store.rollup("nobody", *MONTH) == []


def test_events_are_listed_newest_first_with_all_they_carry(store: Store) -> None:
    record(store, 7, when=NOW, model="new", tags={"a": ["b"]}, user="ann", image_count=2, duration_ms=1.5, stream=True)
    record(store, None, when=NOW - 10, model="old", error="APIError 500")
    new, old = store.events(EventQuery("acme"))
    event = new.entry.event
    assert (event.model, event.tags, event.user, event.image_count) == ("new", {"a": ["b"]}, "ann", 2)
    assert (event.duration_ms, event.stream, event.timestamp, new.entry.cost_nano) == (1.5, True, NOW, 7)
    assert (old.entry.event.error, old.entry.cost_nano, old.entry.kind) == ("APIError 500", None, "call")


def test_events_are_filtered_by_each_condition_and_all_together(store: Store) -> None:
    record(store, 1, model="a", provider="openai", when=NOW - 3)
    record(store, 2, model="b", provider="openai", when=NOW - 2, error="Timeout", tags={"estimated": True})
    record(store, None, model="c", provider="google", when=NOW - 1, tags={"estimated": False})
    record(store, 4, model="d", provider="google", tenant="globex", when=NOW)
    assert models(store) == ["d", "c", "b", "a"]
    assert models(store, tenant_id="acme") == ["c", "b", "a"]
    assert models(store, provider="google") == ["d", "c"]
    assert models(store, model="b") == ["b"]
    assert models(store, failed=True) == models(store, estimated=True) == ["b"]
    assert models(store, unpriced=True) == ["c"]
    assert models(store, start=NOW - 2, end=NOW) == ["c", "b"]
    assert models(store, tenant_id="acme", provider="openai", failed=True, estimated=True, start=NOW - 9) == ["b"]
    assert models(store, tenant_id="nobody") == []


def test_pages_of_events_follow_each_other_even_among_events_of_one_moment(store: Store) -> None:
    for number in range(7):
        record(store, 1, model=f"m{number}", when=NOW + number // 4, tenant=f"t{number % 2}")
    seen: list[str] = []
    after = None
    while rows := store.events(EventQuery(after=after, size=2)):
        seen += [row.entry.event.model for row in rows]
        after = rows[-1].cursor
    assert len(seen) == 7
    assert {*seen[:3]} == {"m4", "m5", "m6"}
    assert {*seen[3:]} == {"m0", "m1", "m2", "m3"}


# -- holds --------------------------------------------------------------------------------------


def test_pages_of_open_holds_are_oldest_first(store: Store) -> None:
    limit_to(store, 100)
    limit_to(store, 100, tenant="globex")
    for number in range(4):
        admit(store, number, f"call-{number}", now=NOW + number)
    admit(store, 1, "other", tenant="globex", now=NOW)
    store.release("call-1", NOW)
    page = store.hold_page("acme", size=2)
    assert ([hold.call_id for hold in page.rows], page.total) == (["call-0", "call-2"], 3)
    assert [hold.call_id for hold in store.hold_page("acme", offset=2).rows] == ["call-3"]
    assert [(hold.amount, hold.created_at, hold.state) for hold in page.rows] == [
        (0, NOW, "open"),
        (2, NOW + 2, "open"),
    ]
    assert store.hold_page().total == 4


# -- history ------------------------------------------------------------------------------------


def changes(store: Store, tenant: str | None = "acme") -> list[tuple[Any, ...]]:
    return [
        (row.kind, row.actor, row.old_amount, row.new_amount, row.old_mode, row.new_mode)
        for row in store.history(tenant)
    ]


def test_every_change_of_a_limit_is_in_the_history_newest_first(store: Store) -> None:
    store.set_limit(Limit("acme", 10, effective_from=NOW), NOW, by="ann")
    store.set_limit(Limit("acme", 20, mode=OBSERVE, effective_from=NOW + 1), NOW + 1, by="bob")
    limit_to(store, 5, frequency=PER_DAY, now=NOW + 2)
    limit_to(store, 5, tenant="globex")
    store.remove_limit("acme", PER_MONTH, NOW + 3, by="cy")
    assert changes(store) == [
        ("remove", "cy", 20, None, "observe", None),
        ("set", "", None, 5, None, "enforce"),
        ("set", "bob", 10, 20, "enforce", "observe"),
        ("set", "ann", None, 10, None, "enforce"),
    ]
    first = store.history("acme")[-1]
    assert (first.at, first.tenant_id, first.frequency, first.effective_from) == (NOW, "acme", PER_MONTH, NOW)
    assert len(store.history()) == 5
    [newest] = store.history(size=1)
    assert newest.kind == "remove"
    assert store.history(after=newest.cursor)[0].frequency == PER_DAY
    assert [row.actor for row in store.history(actor="N")] == ["ann"]
    assert [row.actor for row in store.history("acme", first.cursor, actor="n")] == []
    assert store.history(actor="%") == []


def test_a_limit_to_come_and_its_cancelling_are_in_the_history(store: Store) -> None:
    limit_to(store, 10)
    limit_to(store, 20, start=NOW + DAY)
    planned = limit_to(store, 30, start=NOW + 2 * DAY)
    store.cancel_limit(planned, NOW, by="ann")
    assert changes(store)[:3] == [
        ("cancel", "ann", 30, None, "enforce", None),
        ("set", "", 20, 30, "enforce", "enforce"),
        ("set", "", 10, 20, "enforce", "enforce"),
    ]
    assert store.history("acme")[0].effective_from == NOW + 2 * DAY


def test_tidying_away_a_limit_that_has_ended_is_no_change(store: Store) -> None:
    limit_to(store, 5)
    store.set_limit(Limit("acme", 9, effective_from=NOW + DAY), NOW)
    before = store.history()
    ended = store.limits("acme")[0]
    store.cancel_limit(ended, NOW + 2 * DAY, by="ann")
    assert [limit.amount for limit in store.limits("acme")] == [9]
    assert store.history() == before


def test_a_first_limit_by_default_is_in_the_history(store: Store) -> None:
    assert store.welcome(Limit("acme", 10, effective_from=NOW), NOW)
    assert not store.welcome(Limit("acme", 20, effective_from=NOW), NOW)
    assert changes(store) == [("set", "", None, 10, None, "enforce")]


def test_a_hold_that_a_person_gives_back_is_in_the_history(store: Store) -> None:
    limit_to(store, 10, now=NOW - 1)
    for call_id, amount in (("stuck", 4), ("unpriced", None), ("left", 5)):
        store.admit(Call(call_id, "acme", amount), NOW)
    assert store.release("left", NOW)
    assert store.release("stuck", NOW + 1, by="ann")
    assert not store.release("stuck", NOW + 2, by="bob")
    assert store.release("unpriced", NOW + 2, by="bob")
    assert changes(store)[:-1] == [
        ("release", "bob", None, None, None, None),
        ("release", "ann", 4, None, None, None),
    ]


def test_keys_made_and_revoked_are_in_the_history(store: Store) -> None:
    key = make_key("north", ["acme"], now=NOW).key
    assert store.add_api_key(key, by="ann")
    assert not store.add_api_key(key, by="bob")
    assert store.revoke_api_key(key.public_id, NOW + 1)
    assert not store.revoke_api_key(key.public_id, NOW + 2, by="bob")
    assert [(row.at, row.kind, row.actor, row.tenant_id, row.filter) for row in store.history()] == [
        (NOW + 1, "revoke-key", "", "", key.public_id),
        (NOW, "make-key", "ann", "", key.public_id),
    ]
    assert store.history("acme") == []


def test_removing_what_is_not_there_is_no_change(store: Store) -> None:
    assert store.remove_limit("acme", None, NOW, by="ann") == 0
    assert store.history() == []


def test_a_change_of_what_has_changed_meanwhile_is_refused_and_leaves_no_trace(store: Store) -> None:
    first = limit_to(store, 10)
    store.set_limit(replace(first, amount=20, id=0), NOW, expected=[first])
    with pytest.raises(LimitChanged):
        store.set_limit(replace(first, amount=30, id=0), NOW, expected=[first])
    with pytest.raises(LimitChanged):
        store.set_limit(Limit("acme", 30, effective_from=NOW), NOW, expected=[])
    with pytest.raises(LimitChanged):
        store.cancel_limit(first, NOW)
    assert [limit.amount for limit in store.limits("acme")] == [20]
    assert len(store.history()) == 2


def test_a_store_without_rows_says_so() -> None:
    for ask in (
        lambda: Reports().tenants(TenantQuery(), NOW),
        lambda: Reports().rollup("acme", *MONTH),
        lambda: Reports().events(EventQuery()),
        lambda: Reports().hold_page(),
        lambda: Reports().history(),
    ):
        with pytest.raises(StoreError, match="Reports keeps no rows"):
            ask()
