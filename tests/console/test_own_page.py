"""What a customer reads on its own page: notices, months, its own limits, and never what providers take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from token_limit_core import Meter
from token_limit_core.console.rendering import render
from token_limit_core.console.tenant_usage import FRAGMENT, Links, as_json, context, usage_of
from token_limit_core.errors import ConfigurationError
from token_limit_core.events import LLMEvent
from token_limit_core.meter import engine_of
from token_limit_core.stores.records import Call

from .site import DAY, NOW, USD, make_meter

LINKS = Links("/billing/", "mailto:help@example.com")


@pytest.fixture
def meter() -> Iterator[Meter]:
    with make_meter("memory://") as meter:
        yield meter


def spend(meter: Meter, usd: float, at: float = NOW - 60, **fields: Any) -> None:
    event = LLMEvent(tenant_id="acme", model="gpt-5", provider="openai", timestamp=at, **fields)
    meter.store.record([(event, int(usd * USD))], NOW)


def shown(meter: Meter, links: Links = LINKS) -> str:
    return " ".join(render(FRAGMENT, **context(usage_of(engine_of(meter), "acme"), links)).split())


@pytest.mark.parametrize(
    ("spent", "notice"),
    [(7.9, ""), (8, "more than 80 % of your monthly limit of $10.00"), (10, "Your monthly limit of $10.00 is used up")],
)
def test_a_notice_and_the_way_to_upgrade_come_near_and_at_the_limit(meter: Meter, spent: float, notice: str) -> None:
    meter.set_limit("acme", 10)
    spend(meter, spent)
    text = shown(meter)
    assert notice in text
    assert ("Upgrade" in text) == ('role="status"' in text) == ("mailto:help@example.com" in text) == bool(notice)
    assert "Upgrade" not in shown(meter, Links())


def test_a_suspended_account_says_so_and_offers_no_upgrade(meter: Meter) -> None:
    meter.set_limit("acme", 10)
    spend(meter, 10)
    meter.suspend("acme")
    text = shown(meter)
    assert "This account is suspended." in text
    assert "Upgrade" not in text
    assert as_json(usage_of(engine_of(meter), "acme"))["suspended"] is True


def test_a_limit_of_nothing_is_no_allowance_and_promises_no_reset(meter: Meter) -> None:
    meter.set_limit("acme", 0)
    text = shown(meter)
    assert "This account has no AI allowance." in text
    assert "resets" not in text


def test_limits_of_users_and_models_say_whose_they_are(meter: Meter) -> None:
    meter.set_limit("acme", 5, user="*")
    meter.set_limit("acme", 7, model="gpt-5*")
    meter.set_limit("acme", 1000, "total", unit="tokens")
    meter.store.admit(Call("c", "acme", USD, user="ann", model="gpt-5", provider="openai"), NOW)
    text = shown(meter)
    assert "(each user, ann)" in text
    assert "(model gpt-5*)" in text
    assert "of 1,000 tokens in total" in text


def test_earlier_months_are_shown_when_they_are_chosen(meter: Meter) -> None:
    spend(meter, 3)
    spend(meter, 4, at=datetime(2026, 12, 31, tzinfo=UTC).timestamp())
    engine = engine_of(meter)
    assert usage_of(engine, "acme").month.cost_nano == 3 * USD
    december = usage_of(engine, "acme", "2026-12")
    assert december.month.cost_nano == 4 * USD
    values = context(december)
    assert (values["chosen"], values["months"][1], len(values["months"])) == (
        "2026-12", {"key": "2026-12", "name": "Dec 2026"}, 6,
    )  # fmt: skip
    for nonsense in ("2020-01", "x", "2027-02", "<script>"):
        assert usage_of(engine, "acme", nonsense).month.cost_nano == 3 * USD


def test_a_customer_sees_its_name_and_what_it_is_billed_never_what_the_provider_takes(meter: Meter) -> None:
    meter.set_plan("pro", [{"amount": 100}], markup=20)
    meter.assign_plan("acme", "pro")
    meter.name_tenant("acme", "Acme Ltd")
    meter.set_limit("globex", 5)
    with meter.for_tenant("acme"):
        meter.track_manually(provider="openai", model="gpt-5", cost_usd="10", timestamp=NOW - DAY)
    usage = usage_of(engine_of(meter), "acme")
    text = render(
        "own/usage.html", **context(usage), stylesheet="", icon="", json_url="", lang="en",
    ) + str(as_json(usage))  # fmt: skip
    assert "Acme Ltd" in text
    assert "$12.00" in text
    assert "'spent_usd': '12.000000000'" in text
    assert "10.0" not in text.replace("$100.00", "")
    assert "globex" not in text


def test_a_link_that_is_not_safe_is_refused(meter: Meter) -> None:
    usage = usage_of(engine_of(meter), "acme")
    with pytest.raises(ConfigurationError, match="upgrade_url"):
        context(usage, Links("javascript:alert(1)"))
