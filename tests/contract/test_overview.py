"""What the overview and the filtered lists read from a store, whatever engine it is on."""

from __future__ import annotations

from typing import Any

from tests.contract.calls import DAY, MONTH, NOW, admit, limit_to, record
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores.contract import Store
from token_limit_core.stores.queries import EventQuery, TenantQuery
from token_limit_core.stores.records import KeptFigures
from token_limit_core.stores.reports import Standings


def ids(store: Store, **query: Any) -> list[str]:
    return [row.tenant_id for row in store.tenants(TenantQuery(**query), NOW).rows]


def stand(store: Store) -> None:
    """Make tenants of every standing: two near a limit, one over, one without a limit, one suspended."""
    for tenant, spent in (("fine", 79), ("near", 80), ("nearly", 99), ("over", 100)):
        limit_to(store, 100, tenant=tenant)
        record(store, spent, tenant=tenant)
    record(store, 500, tenant="free")
    store.set_plan("pro", [Limit("", 1000, plan="pro")], NOW)
    store.assign_plan("planned", "pro", NOW)
    store.suspend("planned", NOW)


def test_tenants_are_filtered_by_how_they_stand(store: Store) -> None:
    stand(store)
    assert ids(store, standing="near") == ["near", "nearly"]
    assert ids(store, standing="over") == ["over"]
    assert ids(store, standing="unlimited") == ["free"]
    assert ids(store, standing="suspended") == ["planned"]
    assert ids(store, plan="pro") == ["planned"]
    assert ids(store, plan="basic") == []
    assert ids(store, standing="near", search="ly") == ["nearly"]
    assert store.tenants(TenantQuery(standing="near", size=1), NOW).total == 2


def test_standings_count_what_the_filters_list(store: Store) -> None:
    assert store.standings(NOW) == Standings(0, 0, 0, 0, 0)
    stand(store)
    assert store.standings(NOW) == Standings(6, 2, 1, 1, 1)


def test_figures_are_kept_by_one_who_has_claimed_it(store: Store) -> None:
    assert store.figures("overview") is None
    assert store.claim_figures("overview", NOW, NOW + 60)
    assert not store.claim_figures("overview", NOW + 59, NOW + 99)
    kept = KeptFigures("overview", "{}", NOW, failure="none")
    store.keep_figures(kept)
    assert store.figures("overview") == kept
    assert store.claim_figures("overview", NOW, NOW + 60)
    assert store.figures("overview") == kept._replace(claimed_until=NOW + 60)


def test_figures_that_may_name_an_erased_tenant_are_gone(store: Store) -> None:
    record(store, 1)
    store.claim_figures("overview", NOW, NOW + 60)
    store.keep_figures(KeptFigures("overview", "acme", NOW))
    store.claim_figures("overview", NOW, NOW + 60)
    store.erase_tenant("acme", NOW)
    store.keep_figures(KeptFigures("overview", "acme", NOW))  # of one who began before
    assert store.figures("overview") is None


def test_a_report_of_a_size_has_the_dearest_keys_that_have_a_value(store: Store) -> None:
    for user, cost in (("ann", 5), ("bob", 9), ("cho", 2), (None, 50)):
        record(store, cost, user=user, model="m" if user else "")
    for tenant in (None, "acme"):
        assert [row.key for row in store.report("user", *MONTH, tenant, 2)] == ["bob", "ann"]
    assert [row.key for row in store.report("model", *MONTH, size=5)] == ["m"]
    assert store.report("session", *MONTH, size=5) == []


def test_events_are_found_by_their_own_id_and_by_the_providers(store: Store) -> None:
    for event_id, request_id in (("one", "req-1"), ("one/expired", None), ("two", "req-2")):
        event = LLMEvent(event_id, "acme", timestamp=NOW - DAY, request_id=request_id)
        store.record([(event, 1)], NOW)

    def found(**query: Any) -> list[str]:
        return sorted(row.entry.event.event_id for row in store.events(EventQuery(**query)))

    assert found(call="one") == ["one", "one/expired"]
    assert found(call="req-2") == ["two"]
    assert found(call="req-2", tenant_id="globex") == []


def test_events_are_filtered_by_their_kind(store: Store) -> None:
    limit_to(store, 100)
    admit(store, 5)
    record(store, 1)
    store.expire(NOW + DAY)
    kinds = {kind: [row.entry.kind for row in store.events(EventQuery(kind=kind))] for kind in ("call", "expiry")}
    assert kinds == {"call": ["call"], "expiry": ["expiry"]}


def test_events_are_filtered_by_what_is_assumed_and_what_is_not_checked(store: Store) -> None:
    record(store, 1, model="assumed", tags={"price_assumed": "gpt-5"})
    record(store, 1, model="unverified", tags={"unverified": True})
    record(store, 1, model="plain")
    assert [row.entry.event.model for row in store.events(EventQuery(assumed=True))] == ["assumed"]
    assert [row.entry.event.model for row in store.events(EventQuery(unverified=True))] == ["unverified"]
