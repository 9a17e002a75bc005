"""Limits of every window, unit, mode and filter, plans and top-ups, on every store, against a model in plain Python."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.calls import DAY, NOW, at, new_id
from tests.contract.model import Added, Model, Row, matches
from tests.contract.processes import Worker, workers
from token_limit_core.errors import LimitChanged
from token_limit_core.events import LLMEvent
from token_limit_core.limits import ENFORCE, EVERYONE, OBSERVE, STRICT, Limit
from token_limit_core.limits.filters import Facts, filter_of
from token_limit_core.runtime.faults import ConfigurationError
from token_limit_core.stores.contract import Store
from token_limit_core.stores.plans import Plan
from token_limit_core.stores.records import Call
from token_limit_core.windows import FREQUENCIES, PER_DAY, PER_HOUR, PER_MINUTE, PER_MONTH, PER_YEAR, TOTAL

TENANTS = ("acme", "globex", "")
USERS = (None, "alice", "bob")
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-3")
FILTERS = [
    "",
    filter_of(user="*"),
    filter_of(user="alice"),
    filter_of(model="gpt-4o*"),
    filter_of(model="claude-3", user="*"),
    filter_of(provider="openai", feature="ch*"),
]


def some_limit(dice: random.Random, **fields: Any) -> Limit:
    frequency = dice.choice(FREQUENCIES)
    unit = dice.choice(("usd", "usd", "tokens", "requests"))
    amount = {"usd": dice.randint(0, 40), "tokens": dice.randint(0, 400), "requests": dice.randint(0, 10)}[unit]
    return Limit(
        fields.pop("tenant_id", ""),
        amount,
        frequency,
        mode=dice.choice((ENFORCE, ENFORCE, STRICT, OBSERVE)),
        filter=dice.choice(FILTERS),
        unit=unit,
        timezone=dice.choice(("UTC", "Europe/Berlin", "Asia/Kathmandu")),
        anchor={PER_MONTH: dice.choice(("", "31")), PER_YEAR: dice.choice(("", "2000-01-15"))}.get(frequency, ""),
        **fields,
    )


def some_call(dice: random.Random) -> Call:
    estimate = dice.randint(0, 6)
    return Call(
        new_id(),
        dice.choice(TENANTS),
        estimate,
        hold_seconds=10 * DAY,
        tokens=dice.randint(1, 50),
        provider=dice.choice(("openai", "anthropic")),
        model=dice.choice(MODELS),
        user=dice.choice(USERS),
        feature=dice.choice((None, "chat", "search")),
        worst_case=estimate + dice.randint(0, 4),
        worst_tokens=60,
        ceiling=dice.choice((None, estimate + dice.randint(0, 3))),
        ceiling_tokens=dice.choice((None, dice.randint(1, 60))),
        together=dice.choice((1, 4)),
    )


def event_of(call: Call, started: float, tokens: int) -> LLMEvent:
    return LLMEvent(
        call.call_id, call.tenant_id, provider=call.provider, model=call.model, user=call.user, feature=call.feature,
        total_tokens=tokens, timestamp=started,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_call_is_admitted_exactly_if_it_fits_every_limit(store: Store, seed: int) -> None:
    dice, model, now = random.Random(seed), Model(), NOW
    for name in ("pro", "free"):
        change_plan(store, model, dice, name, now)
    flying: list[tuple[Call, float]] = []
    for _ in range(180):
        now += dice.choice((0.0, 1.0, 20.0, 400.0, 5000.0, 40_000.0))
        step = dice.random()
        if step < 0.55:
            call = some_call(dice)
            expected = model.decide(call, now)
            decision = store.admit(call, now)
            assert decision.admitted == expected, (decision, call, model.limits_of(call.tenant_id))
            if expected:
                model.admitted(call, now)
                flying.append((call, now))
        elif step < 0.85 and flying:
            call, started = flying.pop(dice.randrange(len(flying)))
            cost, tokens = dice.randint(0, 8), dice.randint(0, 60)
            assert store.settle(call.call_id, event_of(call, started, tokens), cost, now) == "stored"
            row = next(row for row in model.rows if row.call.call_id == call.call_id)
            row.cost, row.tokens = cost, tokens
        else:
            change(store, model, dice, now)
    assert_adds_up(store, model, now)


def change_plan(store: Store, model: Model, dice: random.Random, name: str, now: float) -> None:
    limits = {limit.identity: limit for limit in (some_limit(dice, plan=name) for _ in range(3))}
    store.set_plan(name, list(limits.values()), now)
    model.set_plan(name, list(limits.values()))


def change(store: Store, model: Model, dice: random.Random, now: float) -> None:
    """Change a limit, a plan, a tenant or what it has spent, in the store and in the model."""
    tenant, kind = dice.choice(TENANTS), dice.randrange(7)
    if kind == 0:
        limit = some_limit(dice, tenant_id=dice.choice((*TENANTS, EVERYONE)), effective_from=now)
        store.set_limit(limit, now)
        model.set_limit(limit)
    elif kind == 1:
        change_plan(store, model, dice, dice.choice(("pro", "free")), now)
    elif kind == 2:
        plan = dice.choice(("pro", "free", None))
        store.assign_plan(tenant, plan, now)
        model.assign_plan(tenant, plan)
    elif kind == 3:
        suspended = tenant in model.suspended
        assert store.resume(tenant, now) if suspended else store.suspend(tenant, now)
        model.suspended ^= {tenant}
    elif kind == 4 and model.own.get(tenant):
        limit = dice.choice(model.own[tenant])
        store.remove_limit(tenant, limit.frequency, now, filter=limit.filter)
        model.remove_limit(limit)
    elif kind == 5:
        top_up(store, model, dice, tenant, now)
    else:
        amount, user = dice.randint(-5, 5) or 1, dice.choice(USERS)
        store.adjust(tenant, amount, now, facts=Facts(user=user))
        model.adjustments.append((tenant, user, now, amount))


def top_up(store: Store, model: Model, dice: random.Random, tenant: str, now: float) -> None:
    limits = [row for row in model.limits_of(tenant) if row.unit == "usd" and row.tenant_id != EVERYONE]
    if limits:
        limit = dice.choice(limits)
        user = dice.choice(("alice", "bob")) if "user=*" in limit.filter else ""
        store.top_up(tenant, limit.frequency, 5, now, filter=limit.filter, user=user)
        model.top_ups.append(Added(tenant, limit.frequency, limit.filter, user, 5, now))


def assert_adds_up(store: Store, model: Model, now: float) -> None:
    """Every counter says what the model says, to the nano-dollar."""
    for tenant in TENANTS:
        for status in store.usage(tenant, now):
            state = model.state(status.limit, tenant, status.subject, now)
            assert (status.settled, status.held) == state, status
            assert status.extra == model.added(status.limit, tenant, status.subject, now)


def test_an_expiry_and_its_correction_count_in_every_unit(store: Store) -> None:
    for frequency, unit in ((PER_DAY, "usd"), (PER_MONTH, "tokens"), (PER_YEAR, "requests")):
        store.set_limit(Limit("acme", 100, frequency, unit=unit), NOW)
    call = Call("lost", "acme", 5, tokens=30, provider="openai", model="m", user="alice")
    assert store.admit(call, NOW).admitted
    assert store.expire(NOW + 1000) == 1
    assert [(s.limit.unit, s.settled, s.held) for s in store.usage("acme", NOW)] == [
        ("usd", 5, 0),
        ("tokens", 30, 0),
        ("requests", 1, 0),
    ]
    store.settle("lost", event_of(call, NOW, 12), 2, NOW + 2000)
    assert [(s.settled, s.held) for s in store.usage("acme", NOW)] == [(2, 0), (12, 0), (1, 0)]
    store.remove_limit("acme", None, NOW)
    for frequency, unit in ((PER_DAY, "usd"), (PER_MONTH, "tokens"), (PER_YEAR, "requests")):
        store.set_limit(Limit("acme", 100, frequency, unit=unit), NOW)
    assert [s.settled for s in store.usage("acme", NOW)] == [2, 12, 1]  # the ledger says the same


def test_a_minute_that_is_used_up_is_busy_until_it_ends(store: Store) -> None:
    store.set_limit(Limit("acme", 2, PER_MINUTE, unit="requests"), NOW)
    for _ in range(2):
        call = Call(new_id(), "acme", 1)
        assert store.admit(call, NOW + 10).admitted
        store.settle(call.call_id, event_of(call, NOW + 10, 0), 1, NOW + 11)
    refused = store.admit(Call(new_id(), "acme", 1), NOW + 14.5)
    assert (refused.kind, refused.status, refused.retry_after) == ("busy", 429, 46)
    assert (refused.limit, refused.spent, refused.left, refused.unit, refused.limit_usd) == (2, 2, 0, "requests", None)
    assert store.admit(Call(new_id(), "acme", 1), NOW + 60).admitted
    store.set_limit(Limit("acme", 0, PER_HOUR), NOW)
    assert store.admit(Call(new_id(), "acme", 1), NOW + 120).kind == "exhausted"  # waiting does not help


def test_a_strict_limit_never_holds_more_than_it_has(store: Store) -> None:
    store.set_limit(Limit("acme", 10, mode=STRICT), NOW)
    assert store.admit(Call("a", "acme", 1, worst_case=6), NOW).admitted
    busy = store.admit(Call("b", "acme", 1, worst_case=6), NOW)
    assert (busy.kind, busy.needed) == ("busy", busy.needed_usd)
    assert store.admit(Call("c", "acme", 1, worst_case=4), NOW).admitted
    too_much = store.admit(Call("d", "acme", 1, worst_case=11), NOW)
    assert (too_much.kind, too_much.status) == ("does_not_fit", 402)
    assert store.admit(Call("e", "acme", None), NOW).kind == "unpriced"


def test_ended_minutes_are_removed_as_new_ones_open(store: Store) -> None:
    limit = store.set_limit(Limit("acme", 100, PER_MINUTE, filter=filter_of(user="*")), NOW)
    for minute in range(12):
        assert store.admit(Call(new_id(), "acme", 1, user="alice"), NOW + 60 * minute).admitted
    started = [status.window.start for status in (store.usage("acme", NOW + 60 * n, "alice")[0] for n in range(12))]
    assert len(set(started)) == 12
    assert store.prune(NOW + 90 * DAY, NOW + 200 * DAY).counters <= 2
    assert limit.each_user


def test_a_limit_whose_unit_or_windows_change_starts_from_the_ledger(store: Store) -> None:
    first = store.set_limit(Limit("acme", 100), NOW)
    call = Call("a", "acme", 3, tokens=7)
    assert store.admit(call, NOW).admitted
    store.settle("a", event_of(call, NOW, 7), 3, NOW)
    second = store.set_limit(Limit("acme", 100, unit="tokens"), NOW)
    assert second.id != first.id
    assert [(s.settled, s.held) for s in store.usage("acme", NOW)] == [(7, 0)]
    third = store.set_limit(Limit("acme", 100, unit="tokens", timezone="Asia/Tokyo", anchor="16"), NOW)
    assert third.id != second.id
    assert [s.settled for s in store.usage("acme", NOW)] == [7]  # 15 January 21:00 in Tokyo: since 16 December
    assert [s.settled for s in store.usage("acme", at("2027-01-15 15:00"))] == [0]


def test_what_the_asked_for_model_or_the_answering_one_matches_counts(store: Store) -> None:
    for pattern in ("alias", "real-*"):
        store.set_limit(Limit("acme", 100, filter=filter_of(model=pattern)), NOW)
    call = Call("a", "acme", 3, model="alias")
    assert store.admit(call, NOW).admitted
    event = LLMEvent("a", "acme", model="real-1", timestamp=NOW, tags={"requested_model": "alias"})
    store.settle("a", event, 4, NOW)
    assert [(s.settled, s.held) for s in store.usage("acme", NOW)] == [(4, 0), (4, 0)]


# -- plans --------------------------------------------------------------------------------------


def test_an_own_limit_replaces_its_plans_and_gives_it_back(store: Store) -> None:
    store.set_plan("pro", [Limit("", 10, plan="pro"), Limit("", 5, filter=filter_of(user="*"), plan="pro")], NOW)
    store.assign_plan("acme", "pro", NOW)
    assert spend(store, "acme", 4)
    store.set_limit(Limit("acme", 1), NOW)
    assert not spend(store, "acme", 1)
    store.set_limit(Limit("acme", 100), NOW)
    assert spend(store, "acme", 5)
    store.remove_limit("acme", None, NOW)
    state = {status.limit.filter: status for status in store.usage("acme", NOW)}[""]
    assert (state.plan, state.settled, state.ceiling) == ("pro", 9, 10)
    assert spend(store, "acme", 1)
    refused = store.admit(Call(new_id(), "acme", 1), NOW)
    assert (refused.kind, refused.plan) == ("exhausted", "pro")


def spend(store: Store, tenant: str, cost: int, user: str | None = None, now: float = NOW) -> bool:
    call = Call(new_id(), tenant, cost, user=user)
    admitted = store.admit(call, now).admitted
    if admitted:
        store.settle(call.call_id, event_of(call, now, 0), cost, now)
    return admitted


def test_a_plan_that_is_left_and_entered_again_starts_from_the_ledger(store: Store) -> None:
    for name in ("pro", "free"):
        store.set_plan(name, [Limit("", 10, plan=name)], NOW)
    for plan in ("pro", "free", "pro"):
        assert store.assign_plan("acme", plan, NOW)
        assert not store.assign_plan("acme", plan, NOW)
        flying = Call(new_id(), "acme", 1)
        assert store.admit(flying, NOW).admitted
        assert spend(store, "acme", 2)
        store.settle(flying.call_id, event_of(flying, NOW, 0), 1, NOW)
    assert [(s.plan, s.settled, s.held) for s in store.usage("acme", NOW)] == [("pro", 9, 0)]
    with pytest.raises(ConfigurationError, match=r"plan: unknown plan 'gold'; known plans are 'free', 'pro'"):
        store.assign_plan("acme", "gold", NOW)
    with pytest.raises(ConfigurationError, match=r"plan: 'pro' has 1 tenants"):
        store.remove_plan("pro", NOW)
    assert store.remove_plan("free", NOW)
    assert [(plan.name, plan.tenants) for plan in store.plans()] == [("pro", 1)]


def test_a_plan_that_was_changed_since_it_was_read_is_not_overwritten(store: Store) -> None:
    monthly, daily = Limit("", 10, plan="pro"), Limit("", 3, PER_DAY, plan="pro")
    store.set_plan("pro", [monthly], NOW, expected=Plan("pro"))
    [read] = store.plans()
    store.set_plan("pro", read.limits, NOW, "20", expected=read)
    for limits, markup in (([monthly, daily], ""), ([], "30")):
        with pytest.raises(LimitChanged):
            store.set_plan("pro", limits, NOW, markup, expected=read)
    with pytest.raises(LimitChanged):
        store.set_plan("pro", [], NOW, expected=Plan("pro"))
    [plan] = store.plans()
    assert (plan.markup, plan.limits, len(store.history())) == ("20", read.limits, 2)


def test_people_who_edit_one_plan_at_once_lose_nothing(store: Store) -> None:
    def add(number: int) -> None:
        limit = Limit("", 1 + number, filter=filter_of(model=f"model-{number}"), plan="pro")
        for _ in range(100):
            read = next(iter(store.plans()), Plan("pro"))
            try:
                store.set_plan("pro", [*read.limits, limit], NOW, read.markup, expected=read)
                return
            except LimitChanged:
                continue
        raise AssertionError("always another one was first")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    [plan] = store.plans()
    assert sorted(limit.amount for limit in plan.limits) == list(range(1, 9))


def kinds(started: list[Worker], user: str = "ann") -> set[str]:
    """Let each process make a call, all at once; return what became of them."""
    for worker in started:
        worker.ask(user)
    return {worker.line() for worker in started}


def test_a_plan_that_is_changed_here_holds_at_the_next_call_of_eight_processes(store: Store, spec: str) -> None:
    store.set_plan("pro", [Limit("", 0, plan="pro")], NOW)
    store.assign_plan("acme", "pro", NOW)
    with workers(spec, 8, "calls", 5) as started:
        for worker in started:
            worker.go()
        assert kinds(started) == {"exhausted"}
        store.set_plan("pro", [Limit("", 1000, plan="pro")], NOW)
        assert kinds(started) == {"admitted"}
        store.set_plan("pro", [Limit("", 1000, plan="pro"), Limit("", 1, filter="user=*", plan="pro")], NOW)
        assert kinds(started) == {"exhausted"}
        store.set_plan("pro", [], NOW)
        assert kinds(started) == {"admitted"}
        store.suspend("acme", NOW)
        assert kinds(started) == {"suspended"}
    assert store.spend("acme", 0, NOW + DAY).cost_nano == 16 * 5


def test_each_user_has_an_own_counter_over_eight_processes(store: Store, spec: str) -> None:
    store.set_plan("pro", [Limit("", 20, filter="user=*", plan="pro")], NOW)
    store.assign_plan("acme", "pro", NOW)
    with workers(spec, 8, "calls", 5) as started:
        for number, worker in enumerate(started):
            worker.go()
            for _ in range(5):
                worker.ask(f"user-{number}")
                worker.ask("shared")
        own = [[worker.line() for _ in range(10)][::2] for worker in started]
        while kinds(started, "shared") != {"exhausted"}:
            pass
    assert own == [["admitted"] * 4 + ["exhausted"]] * 8
    for user in (*(f"user-{number}" for number in range(8)), "shared"):
        assert [(status.settled, status.held) for status in store.usage("acme", NOW, user)] == [(20, 0)]


def test_a_default_plan_holds_for_tenants_that_never_had_one(store: Store) -> None:
    store.set_plan("free", [Limit("", 2, plan="free")], NOW)
    store.default_plan = {"acme": "free"}.get
    store.assign_plan("globex", None, NOW)
    for tenant, admitted in (("acme", False), ("globex", True), ("other", True)):
        assert spend(store, tenant, 2)
        assert spend(store, tenant, 1) == admitted
    known = store.tenant("acme")
    assert known is not None and known.plan == "free"


# -- top-ups ------------------------------------------------------------------------------------


def test_a_top_up_raises_the_current_window_only(store: Store) -> None:
    store.set_limit(Limit("acme", 5, PER_DAY), NOW)
    assert spend(store, "acme", 5)
    assert not spend(store, "acme", 1)
    status = store.top_up("acme", PER_DAY, 3, NOW)
    assert (status.ceiling, status.left) == (8, status.limit.limit_usd.__class__("3e-9"))
    assert spend(store, "acme", 3)
    assert not spend(store, "acme", 1)
    assert spend(store, "acme", 5, now=NOW + DAY)
    assert not spend(store, "acme", 1, now=NOW + DAY)


def test_what_expires_first_is_spent_first_and_the_rest_of_it_is_lost(store: Store) -> None:
    store.set_limit(Limit("acme", 10, TOTAL), NOW)
    assert spend(store, "acme", 8)
    store.top_up("acme", TOTAL, 5, NOW, expires_at=NOW + 100)
    store.top_up("acme", TOTAL, 5, NOW, expires_at=NOW + 200)
    store.top_up("acme", TOTAL, 1, NOW)
    assert spend(store, "acme", 1, now=NOW + 1)  # of the first: 4 of it are lost
    assert [s.ceiling for s in store.usage("acme", NOW + 99)] == [21]
    assert [s.ceiling for s in store.usage("acme", NOW + 100)] == [17]
    assert spend(store, "acme", 3, now=NOW + 150)  # of the second: 2 of it are lost
    assert [(s.settled, s.ceiling) for s in store.usage("acme", NOW + 201)] == [(12, 15)]
    assert spend(store, "acme", 3, now=NOW + 201)
    assert not spend(store, "acme", 1, now=NOW + 202)


def test_what_is_owed_shows_and_does_not_refuse_for_ever(store: Store) -> None:
    store.set_limit(Limit("acme", 10, TOTAL), NOW)
    call = Call("a", "acme", 1)
    assert store.admit(call, NOW).admitted
    store.settle("a", event_of(call, NOW, 0), 13, NOW)
    [status] = store.usage("acme", NOW)
    assert (status.settled, status.left, status.owed) == (13, 0, status.spent - status.limit.limit_usd)
    store.top_up("acme", TOTAL, 4, NOW)
    assert spend(store, "acme", 1)
    store.adjust("acme", -2, NOW, "goodwill")
    assert spend(store, "acme", 2)
    assert not spend(store, "acme", 1)


# -- tenants ------------------------------------------------------------------------------------


def test_a_renamed_tenant_keeps_all_that_it_had(store: Store) -> None:
    store.set_limit(Limit("acme", 10), NOW)
    assert spend(store, "acme", 3, "alice")
    held = Call("held", "acme", 2)
    assert store.admit(held, NOW).admitted
    store.name_tenant("acme", "Acme Ltd", NOW)
    with pytest.raises(ConfigurationError, match="new_id: a tenant 'acme' exists"):
        store.rename_tenant("acme", "acme", NOW)
    store.rename_tenant("acme", "acme-2", NOW)
    assert store.tenant("acme") is None
    known = store.tenant("acme-2")
    assert known is not None and known.name == "Acme Ltd"
    assert [(s.settled, s.held, s.ceiling) for s in store.usage("acme-2", NOW)] == [(3, 2, 10)]
    store.settle("held", replace(event_of(held, NOW, 0), tenant_id="acme-2"), 2, NOW)
    assert [(s.settled, s.held) for s in store.usage("acme-2", NOW)] == [(5, 0)]
    assert store.spend("acme-2", 0, 1e12).calls == 2
    assert [row.key for row in store.report("user", 0, NOW + DAY, "acme-2")] == ["alice", ""]
    assert store.usage("acme", NOW) == []


def test_merged_tenants_share_the_targets_limits(store: Store) -> None:
    for tenant, amount in (("acme", 100), ("globex", 10)):
        store.set_limit(Limit(tenant, amount), NOW)
        assert spend(store, tenant, 3)
    flying = Call("flying", "acme", 2)
    assert store.admit(flying, NOW).admitted
    store.merge_tenants("acme", "globex", NOW)
    assert store.tenant("acme") is None
    assert [(s.settled, s.held, s.ceiling) for s in store.usage("globex", NOW)] == [(6, 0, 10)]
    store.settle("flying", replace(event_of(flying, NOW, 0), tenant_id="globex"), 2, NOW)
    assert [(s.settled, s.held) for s in store.usage("globex", NOW)] == [(8, 0)]
    assert store.report("day", 0, NOW + DAY, "globex")[0].total.cost_nano == 8


@pytest.mark.parametrize("anonymous_id", [None, "erased-1"])
def test_an_erased_tenant_leaves_no_name(store: Store, anonymous_id: str | None) -> None:
    store.set_limit(Limit("acme", 10), NOW, by="ann")
    assert spend(store, "acme", 3, "alice")
    assert spend(store, "globex", 1)
    assert store.erase_tenant("acme", NOW, anonymous_id=anonymous_id, by="ben") == 1
    assert (store.tenant("acme"), store.limits("acme"), store.spend("acme", 0, 1e12).calls) == (None, [], 0)
    assert [(change.kind, change.actor) for change in store.history() if change.kind != "assign-plan"] == [
        ("erase", "ben")
    ]
    total = sum(row.total.cost_nano for row in store.report("day", 0, NOW + DAY))
    assert total == (1 if anonymous_id is None else 4)
    assert "alice" not in [row.key for row in store.report("user", 0, NOW + DAY)]


# -- reports and previews -----------------------------------------------------------------------


def test_reports_sum_by_every_field(store: Store) -> None:
    rows = [
        ("acme", "alice", "chat", 1),
        ("acme", "bob", None, 2),
        ("acme", None, None, 4),
        ("globex", "alice", None, 8),
    ]
    for tenant, user, feature, cost in rows:
        event = LLMEvent(
            new_id(), tenant, session_id=user, provider="openai", model=f"m{cost}", user=user, feature=feature,
            timestamp=NOW,
        )  # fmt: skip
        store.record([(event, cost)], NOW)
    store.adjust("acme", -1, NOW)

    def report(by: Any, tenant: str | None) -> dict[str | int, int]:
        return {row.key: row.total.cost_nano for row in store.report(by, NOW - DAY, NOW + DAY, tenant)}

    assert report("day", None) == {int(NOW // DAY): 14}
    assert report("model", "acme") == {"m4": 4, "m2": 2, "m1": 1, "": -1}
    assert report("provider", None) == {"openai": 15, "adjustment": -1}
    assert report("user", "acme") == {"": 3, "bob": 2, "alice": 1}
    assert report("user", None) == {"alice": 9, "bob": 2, "": 3}
    assert report("feature", "acme") == {"": 5, "chat": 1}
    assert report("session", "acme") == {"": 3, "bob": 2, "alice": 1}


@pytest.mark.parametrize("seed", range(6))
def test_a_preview_tells_what_the_limit_would_have_done(store: Store, seed: int) -> None:
    dice, now, rows = random.Random(seed), NOW - 3 * DAY, []
    for _ in range(200):
        now += dice.choice((0.5, 30.0, 300.0, 4000.0))
        call, cost = some_call(dice)._replace(tenant_id="acme"), dice.randint(0, 9)
        event = event_of(call, now, dice.randint(0, 60))
        rows.append((event, cost))
        store.record([(event, cost)], now)
    told: list[tuple[int, float]] = []
    for _ in range(12):
        limit, since = some_limit(dice, tenant_id="acme"), NOW - dice.choice((1, 2, 3)) * DAY
        told.clear()
        found = store.preview(limit, since, now + 1, lambda *progress: told.append(progress))
        assert tuple(found) == expected(limit, since, rows)
        assert told == sorted(told) and told[-1][1] == 1


def expected(limit: Limit, since: float, rows: list[tuple[LLMEvent, int]]) -> tuple[int, int, int, float | None]:
    model = Model()
    calls, refused, saved, first_at = 0, 0, 0, None
    started = limit.window(since).start
    judged = replace(limit, mode=ENFORCE if limit.mode == OBSERVE else limit.mode)
    model.set_limit(judged)
    for event, cost in rows:
        amounts = {"estimate": cost, "tokens": event.total_tokens, "worst_case": cost}
        call = Call(
            event.event_id, "acme", provider=event.provider, model=event.model, user=event.user, feature=event.feature,
            worst_tokens=event.total_tokens, **amounts,
        )  # fmt: skip
        if event.timestamp < started:
            continue
        its = event.timestamp >= since and matches(limit, call)
        calls += its
        if its and not model.decide(call, event.timestamp):
            refused, saved = refused + 1, saved + cost
            first_at = event.timestamp if first_at is None else first_at
        else:
            model.rows.append(Row(call, event.timestamp, cost, event.total_tokens))
    return calls, refused, saved, first_at
