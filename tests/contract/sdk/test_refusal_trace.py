"""A refusal leaves a trace: a row a minute, with what was refused last, and a call of `on_refusal`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from tests.waiting import PATIENCE
from token_limit_core import Decision, LimitExhausted, Meter, MeterConfig
from token_limit_core.cli.main import group_for
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.testing import Clock


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/ledger.db")
    yield store
    store.close()


def refuse(metered: Metered, client: Any, times: int = 1) -> None:
    for _ in range(times):
        assert isinstance(metered.run(uses.plain, client, CHAT).error, LimitExhausted)


def test_a_refused_call_is_counted_with_what_it_was(
    make: Callable[..., Any], store: Store, token_limit_clock: Clock
) -> None:
    metered = Metered(store=store, clock=token_limit_clock)
    metered.meter.set_limit(TENANT, 0)
    refuse(metered, make(Wire(wire.chat)), times=3)

    (row,) = metered.meter.refusals()
    assert (row.tenant_id, row.kind, row.limited_by, row.calls) == (TENANT, "exhausted", "per_month", 3)
    assert (row.model, row.endpoint, row.user, row.feature) == (wire.MODEL, "chat.completions", "ann", None)
    assert row.minute <= row.last_at < row.minute + 60
    metered.meter.close()


def test_refusals_are_told_apart_by_tenant_kind_limit_and_minute(store: Store, token_limit_clock: Clock) -> None:
    client = Wire(wire.chat).client()
    with Meter(MeterConfig(store=store, clock=token_limit_clock, on_no_tenant="refuse")).patch("openai") as meter:
        meter.set_limit("month", 0)
        meter.set_limit("day", 0, "per_day")
        for tenant in ("month", "day", "month"):
            with meter.for_tenant(tenant):
                run(uses.plain, client, CHAT)
            token_limit_clock.advance(60)
        run(uses.plain, client, CHAT)

        rows = meter.refusals()
        assert [(row.tenant_id, row.kind, row.limited_by) for row in rows] == [
            ("", "no_tenant", ""),
            ("month", "exhausted", "per_month"),
            ("day", "exhausted", "per_day"),
            ("month", "exhausted", "per_month"),
        ]
        assert len({row.minute for row in rows}) == 4
        assert [row.tenant_id for row in meter.refusals("day")] == ["day"]
        token_limit_clock.advance(86400 + 60)
        assert meter.refusals() == []
        assert len(meter.refusals(since="2027-01-01")) == 4


def test_a_flood_of_refusals_costs_one_row_a_minute_and_few_writes(store: Store, token_limit_clock: Clock) -> None:
    writes: list[int] = []
    add = store.add_refusals

    def counting(rows: Any) -> None:
        writes.append(len(rows))
        add(rows)

    store.add_refusals = counting  # type: ignore[method-assign]
    metered = Metered(store=store, clock=token_limit_clock)
    metered.meter.set_limit(TENANT, 0)
    client = Wire(wire.chat).client()
    with metered.meter.patch("openai"), metered.meter.for_tenant(TENANT):
        for _ in range(300):
            with pytest.raises(LimitExhausted):
                client.chat.completions.create(**CHAT.arguments)
        (row,) = metered.meter.refusals()

    assert row.calls == 300
    assert sum(writes) <= 10


def test_whoever_asks_sees_a_refusal_that_another_thread_is_still_writing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    add, begun, go_on = store.add_refusals, threading.Event(), threading.Event()

    def slow(rows: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        add(rows)

    store.add_refusals = slow  # type: ignore[method-assign]
    with Meter(MeterConfig(store=store)).patch("openai") as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 0)
        with pytest.raises(LimitExhausted):
            Wire(wire.chat).client().chat.completions.create(**CHAT.arguments)
        assert begun.wait(PATIENCE)

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(meter.refusals)
            wait([asked], timeout=0.2)  # enough for one that does not wait
            go_on.set()
            assert [row.calls for row in asked.result(PATIENCE)] == [1]
    store.close()


def test_a_check_that_refuses_is_counted_too(store: Store) -> None:
    with Meter(MeterConfig(store=store)) as meter, meter.for_tenant(TENANT, user="ann", feature="chat"):
        meter.check_limit()
        meter.set_limit(TENANT, 0)
        with pytest.raises(LimitExhausted):
            meter.check_limit()
        (row,) = meter.refusals()
        assert (row.endpoint, row.kind, row.calls, row.user, row.feature) == (
            "check_limit", "exhausted", 1, "ann", "chat",
        )  # fmt: skip
        assert meter.status()["counts"]["refused"] == 1


def test_refusals_are_there_for_other_processes_and_after_the_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    metered = Metered(store=url)
    metered.meter.set_limit(TENANT, 0)
    with Meter(MeterConfig(store=url)) as support:
        refuse(metered, Wire(wire.chat).client())
        assert [row.calls for row in support.refusals()] == [1]  # the first of a minute is written at once
        with metered.meter.patch("openai"), metered.meter.for_tenant(TENANT):
            for _ in range(4):
                run(uses.plain, Wire(wire.chat).client(), CHAT)
        assert [row.calls for row in support.refusals()] == [5]


def test_the_command_lines_show_refusals_and_policies(store: Store, token_limit_clock: Clock) -> None:
    metered = Metered(store=store, clock=token_limit_clock)
    metered.meter.set_limit(TENANT, 0)
    refuse(metered, Wire(wire.chat).client(), times=2)

    group = group_for("token-limit", lambda: metered.meter)
    for tenant in ([], [TENANT]):
        shown = CliRunner().invoke(group, ["usage", *tenant]).output
        assert "2 calls in 24 hours (2 exhausted); the last: gpt-4o-mini, chat.completions, ann" in shown
        (usage,) = json.loads(CliRunner().invoke(group, ["usage", *tenant, "--json"]).output)
        assert usage["refused"][0]["calls"] == 2
    status = CliRunner().invoke(group, ["status"]).output
    assert "on_unpriced assume, on_no_tenant allow, on_unguarded warn" in status
    assert "refused 2" in status
    metered.meter.close()


def test_old_refusals_are_pruned(store: Store, token_limit_clock: Clock) -> None:
    with Meter(MeterConfig(store=store, clock=token_limit_clock)) as meter:
        meter.set_limit(TENANT, 0)
        with meter.for_tenant(TENANT), pytest.raises(LimitExhausted):
            meter.check_limit()
        assert meter.flush(10)
        token_limit_clock.advance(200 * 86400)
        now = token_limit_clock()
        store.prune(now - 100 * 86400, now)
        assert meter.refusals(since="2000-01-01") == []


def test_on_refusal_gets_the_decision_and_the_request(make: Callable[..., Any]) -> None:
    seen: list[tuple[Decision, Any]] = []
    metered = Metered(on_refusal=lambda decision, request: seen.append((decision, request)))
    metered.meter.set_limit(TENANT, 0)
    refuse(metered, make(Wire(wire.chat)))
    metered.meter.close()

    ((decision, request),) = seen
    assert (decision.kind, decision.tenant_id) == ("exhausted", TENANT)
    assert (request.provider, request.model, request.endpoint) == ("openai", wire.MODEL, "chat.completions")


def test_a_hook_that_fails_does_not_keep_the_refusal_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(decision: Decision, request: Any) -> None:
        raise ZeroDivisionError

    metered = Metered(on_refusal=fail)
    metered.meter.set_limit(TENANT, 0)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    refuse(metered, Wire(wire.chat).client())
    metered.meter.close()
    assert "calling on_refusal" in caplog.text
