"""Notices: each threshold once a limit and window, over all processes, on every store."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.calls import DAY, NOW, USD, admit, call, limit_to, new_id, record, settle, state
from tests.contract.processes import workers
from token_limit_core.events import LLMEvent
from token_limit_core.limits import EVERYONE, REQUESTS, TOKENS, Limit
from token_limit_core.limits.notices import Notice
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call
from token_limit_core.windows import PER_DAY, PER_MONTH, TOTAL


@pytest.fixture
def sent(store: Store) -> list[Notice]:
    sent: list[Notice] = []
    store.thresholds, store.on_notices = (50, 80, 100), sent.extend
    return sent


def told(sent: list[Notice]) -> list[int | str]:
    """Return the percents so far, or that a limit has room again, and forget them."""
    words: list[int | str] = [one.percent if one.kind == "threshold" else one.kind for one in sent]
    sent.clear()
    return words


def test_each_threshold_fires_once(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 10 * USD)
    steps: list[list[int | str]] = []
    for cost in (4, 1, 2, 2, 1, 3):
        call(store, 1, cost * USD)
        steps.append(told(sent))
    assert steps == [[], [50], [], [80], [100], []]


def test_a_call_that_crosses_several_fires_each_of_them(store: Store, sent: list[Notice]) -> None:
    limit = limit_to(store, 10 * USD, name="team")
    call(store, 1, 11 * USD)
    low, _, full = sent
    assert [one.percent for one in sent] == [50, 80, 100]
    assert (full.tenant_id, full.kind, full.limit, full.at) == ("acme", "threshold", limit, NOW)
    assert (full.limit_usd, full.spent_usd, full.user) == (10, 11, "")
    assert low.resets_at == state(store).resets_at
    row = full.to_dict()
    assert (row["percent"], row["limit_usd"], row["spent_usd"], row["name"]) == (100, "10", "11", "team")
    assert json.loads(json.dumps(row)) == row


def test_a_new_window_and_another_limit_fire_again(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 10 * USD, frequency=PER_DAY)
    limit_to(store, 20 * USD)
    call(store, 1, 6 * USD)
    assert told(sent) == [50]
    call(store, 1, 6 * USD, now=NOW + DAY)
    assert sorted((one.limit.frequency, one.percent) for one in sent) == [(PER_DAY, 50), (PER_MONTH, 50)]


@pytest.mark.parametrize("admitted", [True, False])
@pytest.mark.parametrize("way", ["record", "track", "expire", "adjust"])
def test_it_fires_however_the_spend_came(store: Store, sent: list[Notice], way: str, admitted: bool) -> None:
    if not admitted and type(store).__name__ == "RedisStore":
        pytest.skip("counters in Redis are opened by admissions only")
    limit_to(store, 10 * USD)
    if admitted:
        call(store, 1)
    if way == "record":
        record(store, 6 * USD)
    elif way == "track":
        settle(store, new_id(), 6 * USD)
    elif way == "expire":
        admit(store, 6 * USD)
        store.expire(NOW + 10**6)
    else:
        store.adjust("acme", 6 * USD, NOW)
    assert told(sent) == [50]


@pytest.mark.parametrize(("unit", "amount"), [(TOKENS, 100), (REQUESTS, 2)])
def test_tokens_and_requests_have_thresholds(store: Store, sent: list[Notice], unit: str, amount: int) -> None:
    limit_to(store, amount, unit=unit)
    store.admit(Call("a", "acme", 1, tokens=60), NOW)
    store.settle("a", LLMEvent("a", "acme", timestamp=NOW, total_tokens=60), 1, NOW)
    (notice,) = sent
    assert (notice.percent, notice.limit_usd, notice.to_dict()["unit"]) == (50, None, unit)


def test_each_user_has_thresholds_of_its_own(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 10 * USD, filter="user=*")
    for user in ("ann", "bob", "ann"):
        call_id = new_id()
        store.admit(Call(call_id, "acme", 1, user=user), NOW)
        store.settle(call_id, LLMEvent(call_id, "acme", timestamp=NOW, user=user), 6 * USD, NOW)
    assert [(one.user, one.percent) for one in sent] == [("ann", 50), ("bob", 50), ("ann", 80), ("ann", 100)]


def test_a_limit_on_all_tenants_fires_once_for_all(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 10 * USD, tenant=EVERYONE)
    for tenant in ("acme", "globex", "acme"):
        call(store, 1, 3 * USD, tenant)
    assert [(one.tenant_id, one.percent) for one in sent] == [(EVERYONE, 50), (EVERYONE, 80)]


def test_a_raise_fires_recovered_and_thresholds_anew(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 10 * USD)
    call(store, 1, 10 * USD)
    assert told(sent) == [50, 80, 100]
    limit_to(store, 18 * USD)
    assert told(sent) == ["recovered"]
    limit_to(store, 20 * USD)
    assert told(sent) == []
    call(store, 1, 10 * USD)
    assert told(sent) == [80, 100]
    store.top_up("acme", PER_MONTH, 1, NOW)
    assert told(sent) == ["recovered"]


@pytest.mark.parametrize("way", ["top-up", "credit", "plan"])
def test_money_from_elsewhere_fires_recovered(store: Store, sent: list[Notice], way: str) -> None:
    limits = [Limit("", 10 * USD, plan="pro")]
    store.set_plan("pro", limits, NOW)
    store.assign_plan("acme", "pro", NOW)
    call(store, 1, 10 * USD)
    sent.clear()
    if way == "top-up":
        store.top_up("acme", PER_MONTH, 5 * USD, NOW)
    elif way == "credit":
        store.adjust("acme", -USD, NOW)
    else:
        store.set_plan("pro", [Limit("", 30 * USD, plan="pro")], NOW)
    assert told(sent) == ["recovered"]


def test_a_limit_that_is_lowered_fires_at_once(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 100 * USD)
    call(store, 1, 9 * USD)
    limit_to(store, 10 * USD)
    assert told(sent) == [50, 80]
    limit_to(store, 5 * USD)
    assert told(sent) == [100]


def test_a_limit_that_is_made_later_fires_with_its_first_call(store: Store, sent: list[Notice]) -> None:
    record(store, 6 * USD)
    limit_to(store, 10 * USD, frequency=TOTAL)
    call(store, 1)
    assert told(sent) == [50]


def test_nothing_fires_for_a_limit_of_nothing_and_without_thresholds(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 0)
    record(store, USD)
    limit_to(store, 5 * USD, frequency=PER_DAY)
    store.thresholds = ()
    record(store, 9 * USD)
    assert sent == []


def test_a_threshold_fires_once_however_many_threads_cross_it(store: Store, sent: list[Notice]) -> None:
    limit_to(store, 40 * USD)
    call(store, 1)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: call(store, 1, USD), range(40)):
            pass
    assert sorted(one.percent for one in sent) == [50, 80, 100]


def test_notices_wait_until_they_are_delivered(store: Store, sent: list[Notice]) -> None:
    store.delivers_notices = True
    limit_to(store, 10 * USD)
    call(store, 1, 9 * USD)
    rows = store.claim_notices(NOW, NOW + 60, 9)
    assert [json.loads(row.body)["percent"] for row in rows] == [50, 80]
    assert [json.loads(row.body)["id"] for row in rows] == [one.id for one in sent]
    assert store.claim_notices(NOW + 59, NOW + 99, 9) == []
    store.reschedule_notices([rows[0].id], -1)
    again = store.claim_notices(NOW + 60, NOW + 99, 9)
    assert [row.id for row in again] == [rows[1].id]


def test_an_erased_tenant_leaves_no_notice(store: Store, sent: list[Notice]) -> None:
    store.delivers_notices = True
    limit_to(store, 10 * USD)
    call(store, 1, 9 * USD)
    store.rename_tenant("acme", "globex", NOW)
    call(store, 1, USD, tenant="globex")
    assert told(sent) == [50, 80, 100]
    store.erase_tenant("globex", NOW)
    assert store.claim_notices(NOW, NOW + 60, 9) == []


def test_eight_processes_send_each_notice_once(store: Store, spec: str) -> None:
    limit_to(store, 80 * USD)
    with workers(spec, 8, "notice", USD) as started:
        for worker in started:
            worker.go()
        percents = [line for worker in started for line in worker.finish()]
        assert [worker.process.exitcode for worker in started] == [0] * 8
    assert sorted(percents, key=int) == ["50", "80", "100"]
