"""How much a call holds: its estimate, its ceiling near the end of a limit, its worst case, and more as it grows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.calls import NOW, amounts, event_for, limit_to, new_id, record, settle
from token_limit_core.limits import ENFORCE, OBSERVE, STRICT, Limit
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import NEAR, Call
from token_limit_core.windows import PER_DAY, PER_HOUR, PER_MONTH, PER_WEEK

# -- the ceiling, near the end of an enforced limit -------------------------------------------------


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_near_its_end_an_enforced_limit_holds_the_ceiling(store: Store, unit: str) -> None:
    limit_to(store, NEAR * 10 + 1, unit=unit)
    assert store.admit(call(ceiling=10), NOW).admitted
    assert amounts(store) == (0, 1)
    assert store.admit(call(ceiling=10), NOW).admitted
    assert amounts(store) == (0, 2)
    assert store.admit(call(ceiling=10), NOW).admitted  # 639 are left
    assert amounts(store) == (0, 12)


def test_one_call_may_cross_an_enforced_limit_and_no_other_beside_it(store: Store) -> None:
    limit_to(store, 15)
    assert store.admit(call(ceiling=10), NOW).admitted
    assert store.admit(call(ceiling=10), NOW).admitted
    assert amounts(store) == (0, 20)
    assert store.admit(call(ceiling=10), NOW).kind == "busy"


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_some_calls_go_together_however_little_is_left(store: Store, unit: str) -> None:
    limit_to(store, 100, unit=unit)
    record(store, 20, total_tokens=20)
    for count in range(1, 5):
        assert store.admit(call(ceiling=1000)._replace(together=4), NOW).admitted
        assert amounts(store) == (20, 20 * count)
    assert store.admit(call(ceiling=1000)._replace(together=4), NOW).kind == "busy"
    if unit == "usd":
        store.top_up("acme", PER_MONTH, 80, NOW)
        assert store.admit(call(ceiling=1000)._replace(together=4), NOW).admitted
        assert amounts(store) == (20, 4 * 20 + 160 // 4)


@pytest.mark.parametrize("mode", [OBSERVE, STRICT])
def test_other_modes_do_not_hold_the_ceiling(store: Store, mode: str) -> None:
    limit_to(store, 15, mode=mode)
    assert store.admit(call(ceiling=10, worst=3), NOW).admitted
    assert amounts(store) == (0, 3 if mode == STRICT else 1)


def test_a_lost_call_is_billed_its_estimate_and_frees_its_ceiling(store: Store) -> None:
    limit_to(store, 15)
    assert store.admit(call(ceiling=10), NOW).admitted
    assert store.expire(NOW + 10_000) == 1
    assert amounts(store) == (1, 0)


# -- the worst case, on a strict limit --------------------------------------------------------------


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_a_strict_limit_refuses_a_call_without_a_worst_case(store: Store, unit: str) -> None:
    limit_to(store, 100, unit=unit, mode=STRICT)
    limit_to(store, 100, frequency=PER_DAY)
    assert store.admit(call(), NOW).kind == "unpriced"
    assert amounts(store) == amounts(store, frequency=PER_DAY) == (0, 0)
    assert store.admit(call(worst=100), NOW).admitted
    assert amounts(store) == (0, 100)
    assert amounts(store, frequency=PER_DAY) == (0, 1)


def test_a_strict_limit_on_requests_needs_no_worst_case(store: Store) -> None:
    limit_to(store, 1, unit="requests", mode=STRICT)
    assert store.admit(call(), NOW).admitted
    assert store.admit(call(), NOW).kind == "busy"


# -- raised as a call grows -------------------------------------------------------------------------


def test_a_raised_hold_holds_more_in_every_unit(store: Store) -> None:
    limit_to(store, 100)
    limit_to(store, 100, unit="tokens", frequency=PER_DAY)
    limit_to(store, 9, unit="requests", frequency=PER_HOUR)
    limit_to(store, 100, mode=STRICT, frequency=PER_WEEK)
    assert store.admit(call("a", worst=50), NOW).admitted

    raised = store.raise_hold("a", 7, 30, NOW + 1)

    assert raised is not None
    assert raised.admitted
    statuses = sorted(store.usage("acme", NOW), key=lambda status: status.limit.id)
    assert [(status.limit.unit, status.limit.mode, status.held) for status in statuses] == [
        ("usd", ENFORCE, 7),
        ("tokens", ENFORCE, 30),
        ("requests", ENFORCE, 1),
        ("usd", STRICT, 50),
    ]
    [hold] = store.holds("acme")
    assert (hold.amount, hold.tokens) == (50, 30)
    assert store.settle("a", event_for("a", tokens=20), 5, NOW) == "stored"
    assert {s.held for s in store.usage("acme", NOW)} == {0}


def test_raising_never_lowers_and_is_not_counted_twice(store: Store) -> None:
    limit_to(store, 100)
    assert store.admit(call("a"), NOW).admitted
    for amount, held in ((8, 8), (8, 8), (3, 8), (None, 8), (9, 9)):
        assert store.raise_hold("a", amount, 1, NOW) is not None
        assert amounts(store) == (0, held)


def test_a_raise_says_when_the_limit_is_used_up(store: Store) -> None:
    limit_to(store, 10)
    limit_to(store, 3, frequency=PER_DAY, mode=OBSERVE)
    assert store.admit(call("a"), NOW).admitted
    settle(store, new_id(), 4)
    fits = store.raise_hold("a", 6, 0, NOW)
    assert fits is not None
    assert fits.admitted
    over = store.raise_hold("a", 7, 0, NOW)
    assert over is not None
    assert (over.kind, over.frequency, over.status) == ("exhausted", PER_MONTH, 402)
    assert amounts(store) == (4, 7)


def _settle(store: Store) -> None:
    settle(store, "a", 1)


def _release(store: Store) -> None:
    store.release("a", NOW)


def _expire(store: Store) -> None:
    store.expire(NOW + 10_000)


@pytest.mark.parametrize("end", [_settle, _release, _expire])
def test_nothing_is_raised_that_is_not_open(store: Store, end: Callable[[Store], None]) -> None:
    limit_to(store, 100)
    assert store.raise_hold("unknown", 5, 5, NOW) is None
    assert store.admit(call("a"), NOW).admitted
    end(store)
    before = amounts(store)
    assert store.raise_hold("a", 50, 50, NOW) is None
    assert amounts(store) == before


def test_a_raised_hold_that_expires_is_billed_what_it_holds(store: Store) -> None:
    limit_to(store, 100)
    assert store.admit(call("a"), NOW).admitted
    store.raise_hold("a", 42, 7, NOW)
    assert store.expire(NOW + 10_000) == 1
    assert amounts(store) == (42, 0)


def test_a_hold_of_a_removed_limit_can_be_raised(store: Store) -> None:
    limit_to(store, 100)
    store.set_limit(Limit("acme", 100, PER_DAY), NOW)
    assert store.admit(call("a"), NOW).admitted
    store.remove_limit("acme", PER_DAY, NOW)
    raised = store.raise_hold("a", 9, 9, NOW)
    assert raised is not None
    assert raised.admitted
    assert amounts(store) == (0, 9)


def call(call_id: str = "", ceiling: int | None = None, worst: int | None = None) -> Call:
    """A call whose figures are the same in nano-dollars and tokens; its estimate is 1."""
    both = {"ceiling": ceiling, "ceiling_tokens": ceiling, "worst_case": worst, "worst_tokens": worst}
    return Call(call_id or new_id(), "acme", 1, tokens=1, **both)  # type: ignore[arg-type]


# -- kept for work in the background ----------------------------------------------------------------


def test_a_kept_hold_waits_for_an_event_of_another_id(store: Store) -> None:
    limit_to(store, 100)
    assert store.admit(call("a", worst=50), NOW).admitted
    if not store.keep("a", "later", NOW, NOW + 86_400):
        pytest.skip("this store holds nothing for work in the background")
    assert settle(store, "a", 0) == "stored"  # the call that only began it
    assert amounts(store) == (0, 1)
    assert store.expire(NOW + 10_000) == 0
    assert settle(store, "later", 7, started=NOW + 500) == "stored"
    assert amounts(store) == (7, 0)
    assert store.holds() == []
    assert settle(store, "later", 7, started=NOW + 500) == "duplicate"


def test_work_that_is_never_asked_for_is_billed_what_it_held(store: Store) -> None:
    limit_to(store, 100)
    assert store.admit(call("a"), NOW).admitted
    if not store.keep("a", "later", NOW, NOW + 86_400):
        pytest.skip("this store holds nothing for work in the background")
    assert store.expire(NOW + 86_401) == 1
    assert amounts(store) == (1, 0)
    assert settle(store, "later", 7, started=NOW + 500) == "stored"
    assert amounts(store) == (7, 0)


def test_only_an_open_hold_is_kept_and_once(store: Store) -> None:
    limit_to(store, 100)
    assert not store.keep("unknown", "later", NOW, NOW + 86_400)
    for name in ("a", "b"):
        assert store.admit(call(name), NOW).admitted
    settle(store, "a", 1)
    assert not store.keep("a", "later", NOW, NOW + 86_400)
    if store.keep("b", "later", NOW, NOW + 86_400):
        assert store.admit(call("c"), NOW).admitted
        assert not store.keep("c", "later", NOW, NOW + 86_400)
