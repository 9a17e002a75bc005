"""A limit that is reached stops the next call before any traffic, in every process, and nothing is held for ever."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import ALL, CHAT, STREAMING, Endpoint, Use
from tests.contract.sdk.wire import Answer, Wire
from token_limit_core import (
    PER_DAY,
    CallDoesNotFit,
    CallUnpriced,
    Decision,
    LimitExceededException,
    LimitExhausted,
    LimitUnverifiable,
    LLMEvent,
    Meter,
    MeterConfig,
    NoTenant,
    TenantBusy,
    TenantSuspended,
)
from token_limit_core import scope as scopes
from token_limit_core.calls.request import Request
from token_limit_core.errors import refusal
from token_limit_core.meter import engine_of
from token_limit_core.testing import Clock

EVERY_WAY = [
    pytest.param(use, endpoint, id=f"{use.__name__}-{endpoint.name}")
    for some, endpoints in (
        ((uses.plain, uses.raw, uses.streaming_parsed), ALL),
        ((uses.stream, uses.stream_raw, uses.stream_bytes), STREAMING),
        ((uses.parse, uses.helper), uses.PARSING),
    )
    for use in some
    for endpoint in endpoints
]


@pytest.mark.parametrize(("use", "endpoint"), EVERY_WAY)
def test_a_refused_call_sends_nothing(make: Callable[..., Any], use: Use, endpoint: Endpoint, metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    wired = Wire(endpoint.script)
    result = metered.run(use, make(wired, max_retries=2), endpoint)

    assert type(result.error) is LimitExhausted
    assert wired.sent == []
    assert metered.events == []
    assert metered.meter.store.holds() == []
    assert metered.meter.status()["counts"] == {"refused": 1}


def test_a_refusal_tells_what_a_client_needs(make: Callable[..., Any], token_limit_clock: Clock) -> None:
    metered = Metered(clock=token_limit_clock)
    metered.meter.set_limit(TENANT, "0.00001")
    metered.run(uses.plain, make(Wire(wire.chat)), CHAT)
    result = metered.run(uses.plain, make(Wire(wire.chat)), CHAT)
    metered.meter.close()

    assert isinstance(result.error, LimitExhausted)
    assert isinstance(result.error, LimitExceededException)
    decision = result.error.decision
    assert (decision.kind, decision.tenant_id, decision.status, decision.frequency) == (
        "exhausted",
        TENANT,
        402,
        "per_month",
    )
    assert decision.limit_usd == Decimal("0.00001")
    assert decision.spent_usd == metered.events[0].cost_usd
    assert decision.remaining_usd == 0
    assert decision.resets_at is not None
    assert decision.resets_at > token_limit_clock()
    assert str(result.error) == decision.explain()
    assert "monthly limit of $0.00001" in str(result.error)


def test_a_refusal_is_remembered_by_the_request_above(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    request = scopes.Scope()
    with scopes.use(request):
        result = metered.run(uses.plain, make(Wire(wire.chat)), CHAT)

    assert isinstance(result.error, LimitExhausted)
    assert request.denial is result.error.decision


def test_only_calls_in_flight_in_the_way_are_busy_not_exhausted(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, "0.00001")
    inner = Wire(wire.chat)
    refused: list[Any] = []

    def call_again(sent: dict[str, Any]) -> Answer:
        with pytest.raises(TenantBusy) as caught:
            inner.client().chat.completions.create(**CHAT.arguments)
        refused.append(caught.value.decision)
        return wire.chat(sent)

    result = metered.run(uses.plain, make(Wire(call_again)), CHAT)

    assert result.error is None
    assert inner.sent == []
    (decision,) = refused
    assert (decision.kind, decision.status, decision.retry_after) == ("busy", 429, 1)
    assert decision.held_usd > 0
    assert decision.spent_usd == 0
    metered.event()


DECISIONS = {
    LimitExhausted: Decision("exhausted", "a", Decimal(5), Decimal("5.01"), Decimal(0), frequency="per_day"),
    CallDoesNotFit: Decision("does_not_fit", "a", Decimal(5), Decimal(4), Decimal(0), Decimal(2), "per_month", 1),
    TenantBusy: Decision("busy", "a", Decimal(5), Decimal(1), Decimal(4), retry_after=1),
    LimitUnverifiable: Decision("unverifiable", "a"),
    NoTenant: Decision("no_tenant"),
    CallUnpriced: Decision("unpriced", "a"),
    TenantSuspended: Decision("suspended", "a"),
}


@pytest.mark.parametrize(("kind", "decision"), DECISIONS.items())
@pytest.mark.parametrize("duplicate", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_refusals_survive_pickling(
    kind: type[LimitExceededException], decision: Decision, duplicate: Callable[[Any], Any]
) -> None:
    error = kind(decision)
    twin = duplicate(error)

    assert type(twin) is kind
    assert (twin.decision, str(twin)) == (decision, str(error))
    assert type(refusal(decision)) is kind


def test_the_kinds_have_their_status() -> None:
    assert [decision.status for decision in DECISIONS.values()] == [402, 402, 429, 503, 403, 402, 402]


def test_a_refusal_can_be_raised_by_tests_without_arguments() -> None:
    assert LimitExceededException().decision.kind == "exhausted"
    for kind, decision in DECISIONS.items():
        assert kind().decision == Decision(decision.kind)
        assert pickle.loads(pickle.dumps(kind())).decision == Decision(decision.kind)
        assert "None" not in str(kind())


def test_observe_never_refuses_but_says_so(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0, mode="observe")
    result = metered.run(uses.plain, make(Wire(wire.chat)), CHAT)

    assert result.error is None
    assert metered.event().tags["would_refuse"] == "exhausted"


def test_observe_says_nothing_while_there_is_money(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 5, mode="observe")
    metered.run(uses.plain, make(Wire(wire.chat)), CHAT)

    assert "would_refuse" not in metered.event().tags


def test_a_day_and_a_month_must_both_fit(make: Callable[..., Any], token_limit_clock: Clock) -> None:
    metered = Metered(clock=token_limit_clock)
    metered.meter.set_limit(TENANT, "0.00004")
    metered.meter.set_limit(TENANT, "0.00001", PER_DAY)
    client = make(Wire(wire.chat))

    frequencies: list[str | None] = []
    for _ in range(6):
        result = metered.run(uses.plain, client, CHAT)
        frequencies.append(result.error.decision.frequency if isinstance(result.error, LimitExhausted) else None)
        if frequencies[-1] == "per_day":
            token_limit_clock.advance(86400)
    metered.meter.close()

    assert frequencies == [None, "per_day", None, "per_month", "per_month", "per_month"]
    assert len(metered.events) == 2


def test_a_limit_of_one_tenant_is_nobody_elses(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit("other", 0)
    assert metered.run(uses.plain, make(Wire(wire.chat)), CHAT).error is None
    metered.meter.set_limit(TENANT, 0)
    with metered.meter.for_tenant("third"):
        assert run(uses.plain, make(Wire(wire.chat)), CHAT).error is None


def test_a_removed_limit_no_longer_refuses(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    metered.meter.set_limit(TENANT, 0, PER_DAY)
    assert metered.meter.remove_limit(TENANT, PER_DAY) == 1
    assert isinstance(metered.run(uses.plain, make(Wire(wire.chat)), CHAT).error, LimitExhausted)
    assert metered.meter.remove_limit(TENANT) == 1
    assert metered.meter.limits(TENANT) == []
    assert metered.run(uses.plain, make(Wire(wire.chat)), CHAT).error is None


# -- nobody pays ------------------------------------------------------------------------------------


def test_a_call_without_a_tenant_is_refused_where_configured(make: Callable[..., Any]) -> None:
    metered = Metered(on_no_tenant="refuse")
    metered.meter.patch("openai")
    wired = Wire(wire.chat)
    told: list[tuple[Decision, Request]] = []
    engine_of(metered.meter).listeners.append(Ear(told))
    result = run(uses.plain, make(wired), CHAT)
    metered.meter.close()

    assert type(result.error) is NoTenant
    assert (result.error.decision.kind, result.error.decision.status) == ("no_tenant", 403)
    assert "meter.for_tenant" in str(result.error)
    assert wired.sent == []
    assert metered.events == []
    assert metered.meter.status()["counts"] == {"refused": 1}
    assert [(decision, request.endpoint) for decision, request in told] == [(result.error.decision, "chat.completions")]


class Ear:
    """A listener that keeps the refusals it is told of."""

    def __init__(self, told: list[tuple[Decision, Request]]) -> None:
        self.told = told

    def on_event(self, event: LLMEvent) -> None:
        """Take none."""

    def on_refusal(self, decision: Decision, request: Request) -> None:
        self.told.append((decision, request))


# -- asking beforehand ------------------------------------------------------------------------------


def test_check_limit_raises_once_the_limit_is_reached(metered: Metered) -> None:
    metered.meter.set_limit(TENANT, "0.00001")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        metered.meter.check_limit()
        metered.run(uses.plain, Wire(wire.chat).client(), CHAT)
        with pytest.raises(LimitExhausted) as caught:
            metered.meter.check_limit()
        assert caught.value.decision.spent_usd == metered.event().cost_usd
        current = scopes.current()
        assert current is not None
        assert current.denial is caught.value.decision


async def test_async_check_limit_raises_once_the_limit_is_reached(tmp_path: Path) -> None:
    with Meter(MeterConfig(store=f"sqlite:///{tmp_path}/ledger.db")) as meter:
        await meter.async_check_limit()
        with meter.for_tenant(TENANT):
            await meter.async_check_limit()
            meter.set_limit(TENANT, 0)
            with pytest.raises(LimitExhausted):
                await meter.async_check_limit()
            meter.set_limit(TENANT, 0, mode="observe")
            await meter.async_check_limit()
        meter.check_limit()


# -- other processes --------------------------------------------------------------------------------

SET_LIMIT = """
import sys
from token_limit_core import Meter, MeterConfig
with Meter(MeterConfig(store=sys.argv[1])) as meter:
    meter.set_limit("acme", sys.argv[2])
"""


def test_a_limit_changed_in_another_process_holds_for_the_next_call(make: Callable[..., Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    metered = Metered(store=url)
    client = make(Wire(wire.chat))

    def set_elsewhere(amount: str) -> None:
        subprocess.run([sys.executable, "-c", SET_LIMIT, url, amount], check=True, timeout=60)

    assert metered.run(uses.plain, client, CHAT).error is None
    set_elsewhere("0")
    assert isinstance(metered.run(uses.plain, client, CHAT).error, LimitExhausted)
    set_elsewhere("5")
    assert metered.run(uses.plain, client, CHAT).error is None
    metered.meter.close()


def test_a_limit_changed_by_another_meter_holds_for_the_next_call(make: Callable[..., Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    metered = Metered(store=url)
    client = make(Wire(wire.chat))
    with Meter(MeterConfig(store=url)) as support:
        support.set_limit(TENANT, 0)
        assert isinstance(metered.run(uses.plain, client, CHAT).error, LimitExhausted)
        support.set_limit(TENANT, 5)
        assert metered.run(uses.plain, client, CHAT).error is None
        assert support.usage(TENANT)[0].spent_usd == metered.events[0].cost_usd
    metered.meter.close()


@pytest.mark.parametrize("asked", [{"max_tokens": -(10**6)}, {"max_tokens": 100, "n": -(10**5)}, {"max_tokens": 0}])
def test_nothing_less_than_nothing_is_ever_held(
    make: Callable[..., Any], asked: dict[str, int], metered: Metered
) -> None:
    held: list[int] = []

    def look(sent: dict[str, Any]) -> wire.Answer:
        held.extend(hold.held for hold in metered.meter.store.holds())
        return wire.chat(sent)

    async def ask(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        await uses.value(endpoint.create(client, **asked))

    assert metered.run(ask, make(Wire(look)), CHAT).error is None
    assert len(held) == 1
    assert held[0] >= 0
