"""API keys, deliveries and batches of events, on every store."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.contract.calls import NOW, limit_to
from token_limit_core.events import LLMEvent
from token_limit_core.ingest.keys import ApiKey, make_key
from token_limit_core.stores.contract import Store
from token_limit_core.stores.queries import RefusalQuery
from token_limit_core.stores.records import Call, Refusal
from token_limit_core.stores.reports import Refused

TENANT = "acme"
DESTINATION = "https://limits.example.com/events"


def event(event_id: str, tenant_id: str = TENANT, timestamp: float = NOW) -> LLMEvent:
    return LLMEvent(event_id, tenant_id, provider="openai", model="gpt-4o-mini", timestamp=timestamp)


def key(account: str = "north", **fields: Any) -> ApiKey:
    return dataclasses.replace(make_key(account, ["acme", "eu-*"], now=NOW).key, **fields)


def test_a_key_is_found_listed_and_revoked_once(store: Store) -> None:
    first, second, other = key(), key(created_at=NOW + 1), key("south")
    for one in (second, other, first):
        assert store.add_api_key(one)
    assert not store.add_api_key(key("south", public_id=first.public_id))

    assert store.api_key(first.public_id) == first
    assert store.api_key("nothing") is None
    assert store.api_keys("north") == [first, second]
    assert store.api_keys() == [first, second, other]
    assert store.revoke_api_key(first.public_id, NOW + 5)
    assert not store.revoke_api_key(first.public_id, NOW + 9)
    assert store.api_key(first.public_id) == dataclasses.replace(first, revoked_at=NOW + 5)


def test_a_batch_is_recorded_once_and_counts_on_every_window(store: Store) -> None:
    limit_to(store, 10**12)
    limit_to(store, 10**12, frequency="per_day")
    store.admit(Call("warm-up", TENANT, 0), NOW)
    batch = [(event(f"e{number}", timestamp=NOW - 86400 * (number % 2)), 1000) for number in range(1200)]

    assert store.record(batch, NOW) == ["stored"] * 1200
    assert store.record([*batch, (event("new"), 7)], NOW) == ["duplicate"] * 1200 + ["stored"]
    day, month = sorted(store.usage(TENANT, NOW), key=lambda status: status.limit.frequency)
    assert (day.settled, month.settled) == (600 * 1000 + 7, 1200 * 1000 + 7)
    assert store.spend(TENANT, 0, NOW + 1).cost_nano == 1200 * 1000 + 7
    assert sum(row.total.cost_nano for row in store.rollup(TENANT, NOW - 2 * 86400, NOW + 86400)) == 1200 * 1000 + 7


def test_one_id_twice_in_a_batch_is_one_event(store: Store) -> None:
    assert store.record([(event("same"), 5), (event("same"), 5)], NOW) == ["stored", "duplicate"]
    assert store.spend(TENANT, 0, NOW + 1).cost_nano == 5


def test_a_batch_may_close_holds(store: Store) -> None:
    limit_to(store, 10**9)
    store.admit(Call("held", TENANT, 1000), NOW)

    assert store.record([(event("held"), 400), (event("other"), 30)], NOW) == ["stored", "stored"]
    (status,) = store.usage(TENANT, NOW)
    assert (status.settled, status.held) == (430, 0)
    assert store.holds(TENANT) == []


def test_the_tenants_of_a_batch_are_kept_apart(store: Store) -> None:
    batch = [(event(f"e{n}", f"t{n % 3}"), n) for n in range(9)]
    assert store.record(batch, NOW) == ["stored"] * 9
    assert [store.spend(f"t{n}", 0, NOW + 1).cost_nano for n in range(3)] == [9, 12, 15]


@pytest.fixture
def sending(store: Store) -> Store:
    store.destinations = (DESTINATION,)
    return store


def claimed(store: Store, now: float = NOW, claimer: str = "me", limit: int = 10) -> list[Any]:
    return store.claim_deliveries(DESTINATION, claimer, now, now + 60, limit)


def test_what_is_settled_or_recorded_is_to_be_delivered(sending: Store) -> None:
    sending.settle("a", event("a"), 5, NOW)
    sending.settle("a", event("a"), 5, NOW)
    sending.record([(event("b"), 6), (event("b"), 6), (event("c"), None)], NOW)

    assert sending.waiting_deliveries(DESTINATION, NOW, 100) == 3
    claims = claimed(sending)
    assert [claim.entry.event.event_id for claim in claims] == ["a", "b", "c"]
    assert [claim.entry.cost_nano for claim in claims] == [5, 6, None]


def test_a_claim_keeps_others_away_until_it_ends(sending: Store) -> None:
    for name in "abc":
        sending.settle(name, event(name), 5, NOW)
    mine = claimed(sending, limit=2)

    assert [claim.entry.event.event_id for claim in claimed(sending, claimer="you")] == ["c"]
    sending.free_deliveries([mine[0].id])
    assert [claim.entry.event.event_id for claim in claimed(sending, claimer="you")] == ["a"]
    assert [claim.entry.event.event_id for claim in claimed(sending, NOW + 61, "you")] == ["a", "b", "c"]


def test_a_delivery_ends_or_is_parked_until_it_is_let_go(sending: Store) -> None:
    for name in "abc":
        sending.settle(name, event(name), 5, NOW)
    a, b, c = (claim.id for claim in claimed(sending))
    sending.park_deliveries([b])
    sending.end_deliveries([a, b])

    assert claimed(sending, NOW + 61)[0].id == c
    assert sending.unpark_deliveries(DESTINATION) == 1
    assert sorted(claim.id for claim in claimed(sending, NOW + 130)) == [b, c]
    assert sending.waiting_deliveries("elsewhere", NOW, 10) == 0


# -- refusals -----------------------------------------------------------------------------------


def refused(calls: int = 1, **fields: Any) -> Refusal:
    return Refusal(
        **{
            "tenant_id": "acme",
            "minute": 1_800_000_000,
            "kind": "exhausted",
            "limited_by": "per_month",
            "calls": calls,
            "last_at": 1_800_000_001.5,
            **fields,
        }
    )


def test_refusals_of_one_key_add_up_and_keep_the_last_call(store: Store) -> None:
    store.add_refusals([refused(2, model="a", user="ann"), refused(kind="busy")])
    store.add_refusals([refused(3, model="b", last_at=1_800_000_009.5, endpoint="messages", feature="x" * 300)])

    busy, exhausted = sorted(store.refusals(RefusalQuery()), key=lambda row: row.kind)
    assert (busy.kind, busy.calls) == ("busy", 1)
    assert (exhausted.calls, exhausted.model, exhausted.endpoint, exhausted.user) == (5, "b", "messages", None)
    assert (exhausted.last_at, exhausted.minute, exhausted.limited_by) == (1_800_000_009.5, 1_800_000_000, "per_month")


def test_refusals_are_listed_by_tenant_and_time_newest_first(store: Store) -> None:
    minutes = [1_800_000_000 + 60 * number for number in range(3)]
    store.add_refusals([refused(minute=minute) for minute in minutes] + [refused(tenant_id="Acme")])

    assert [row.minute for row in store.refusals(RefusalQuery("acme"))] == minutes[::-1]
    assert [row.minute for row in store.refusals(RefusalQuery("acme", minutes[1]))] == minutes[:0:-1]
    assert [row.tenant_id for row in store.refusals(RefusalQuery("Acme"))] == ["Acme"]
    assert len(store.refusals(RefusalQuery(size=2))) == 2
    assert store.refusals(RefusalQuery("nobody")) == []


def test_refusals_are_filtered_and_counted_by_kind(store: Store) -> None:
    rows = [refused(3, user="ann"), refused(kind="busy"), refused(2, tenant_id="globex", limited_by="per_day")]
    store.add_refusals([*rows, refused(7, minute=1_800_000_060, last_at=1_800_000_061.0, user="bob")])

    def found(**fields: Any) -> list[int]:
        return [row.calls for row in store.refusals(RefusalQuery(**fields))]

    assert found() == [7, 1, 3, 2]
    assert found(offset=1, size=2) == [1, 3]
    assert found(end=1_800_000_060.0) == [1, 3, 2]
    assert (found(kind="busy"), found(limited_by="per_day"), found(user="ann")) == ([1], [2], [3])
    assert store.refused(0.0) == [Refused("exhausted", 2, 12), Refused("busy", 1, 1)]
    assert store.refused(1_800_000_060.0, "acme") == [Refused("exhausted", 1, 7)]
    assert store.refused(0.0, "nobody") == []
