"""A call that has no tenant is billed to the tenant `""`, to one that is configured, or refused: never free."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import Metered, run
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Wire
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, NoTenant
from token_limit_core import scope as scopes

WITHOUT = {
    "no scope": None,
    "a resolver that finds nobody": lambda: None,
}
"""How a call comes to have no tenant."""


@pytest.fixture(params=WITHOUT)
def scope(request: pytest.FixtureRequest) -> scopes.Scope | None:
    resolve: Any = WITHOUT[request.param]
    return None if resolve is None else scopes.Scope(resolve=resolve)


def call(metered: Metered, client: Any, scope: scopes.Scope | None) -> BaseException | None:
    metered.meter.patch("openai")
    with scopes.use(scope):
        error = run(uses.plain, client, CHAT).error
    assert metered.meter.flush(PATIENCE)
    return error


def test_calls_without_a_tenant_can_be_given_a_limit(make: Callable[..., Any], scope: scopes.Scope | None) -> None:
    metered, client, wired = Metered(), None, Wire(wire.chat)
    client = make(wired)
    metered.meter.set_limit("", "0.00001")

    assert call(metered, client, scope) is None
    assert isinstance(call(metered, client, scope), LimitExhausted)
    assert len(wired.sent) == 1
    assert [event.tenant_id for event in metered.events] == [""]
    (status,) = metered.meter.usage("")
    assert (status.spent_usd, status.held) == (metered.events[0].cost_usd, 0)
    assert metered.meter.status()["counts"] == {"events": 1, "unattributed": 2, "refused": 1}
    metered.meter.close()


def test_calls_without_a_tenant_can_be_billed_to_one(make: Callable[..., Any], scope: scopes.Scope | None) -> None:
    metered, wired = Metered(on_no_tenant="house"), Wire(wire.chat)
    metered.meter.set_limit("house", "0.00001")

    assert call(metered, make(wired), scope) is None
    assert isinstance(call(metered, make(wired), scope), LimitExhausted)
    assert [event.tenant_id for event in metered.events] == ["house"]
    assert metered.meter.status()["counts"]["unattributed"] == 2
    metered.meter.close()


def test_calls_without_a_tenant_can_be_refused(make: Callable[..., Any], scope: scopes.Scope | None) -> None:
    metered, wired = Metered(on_no_tenant="refuse"), Wire(wire.chat)

    assert isinstance(call(metered, make(wired), scope), NoTenant)
    assert wired.sent == []
    metered.meter.close()


def test_calls_without_a_tenant_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    metered, client = Metered(), Wire(wire.chat).client()
    with caplog.at_level(logging.INFO, "token_limit"):
        for _ in range(3):
            call(metered, client, None)
    metered.meter.close()

    logged = [record.message for record in caplog.records if record.name == "token_limit"]
    assert len(logged) == 1
    assert "on_no_tenant" in logged[0]


def test_what_is_recorded_by_hand_without_a_tenant_is_billed_by_the_same_policy() -> None:
    usage: Any = {"provider": "openai", "model": "gpt-4o-mini", "input_tokens": 1, "output_tokens": 1}
    for policy, billed in {"allow": "", "house": "house"}.items():
        metered = Metered(on_no_tenant=policy)
        assert metered.meter.track_manually(**usage).tenant_id == billed
        metered.meter.close()
