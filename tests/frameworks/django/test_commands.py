"""The management commands, as they are typed."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores.records import Call
from token_limit_django.meter import get_meter, get_store
from token_limit_django.models import Hold, LedgerEntry, Rollup

NOON = datetime(2026, 11, 15, 12, tzinfo=UTC).timestamp()
DAY = 86400
USD = 10**9

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_meter().config, "clock", lambda: NOON)


def run(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(f"token_limit_{name}", *arguments, stdout=out)
    return out.getvalue()


def spend(tenant: str, usd: int | None, event_id: str, at: float = NOON) -> None:
    event = LLMEvent(event_id, tenant, provider="openai", model="m", timestamp=at, input_tokens=10, output_tokens=2)
    get_store().settle(event_id, event, None if usd is None else usd * USD, at)


# -- set ------------------------------------------------------------------------------------------


def test_a_limit_is_set_changed_and_scheduled() -> None:
    hint = "Nothing was known of 'acme': make sure that this is what your application calls it.\n"
    assert run("set", "acme", "25") == "acme: $25.00 per month (enforce).\n" + hint
    assert (
        run("set", "acme", "0.5", "--frequency", "per_day", "--mode", "observe") == "acme: $0.50 per day (observe).\n"
    )
    assert run("set", "acme", "30") == "acme: $30.00 per month (enforce).\n"
    run("set", "acme", "40", "--effective-date", "2026-12-01")
    assert [(limit.amount / USD, limit.frequency, limit.mode) for limit in get_store().limits("acme")] == [
        (30, "per_month", "enforce"),
        (0.5, "per_day", "observe"),
        (40, "per_month", "enforce"),
    ]


def test_an_effective_date_is_repeated_in_utc() -> None:
    run("set", "acme", "25")
    shown = run("set", "acme", "40", "--effective-date", "2026-12-01T02:00+02:00")
    assert shown == "acme: $40.00 per month (enforce) from 01 Dec 2026, 00:00 UTC.\n"


def test_limits_are_removed_by_frequency_or_all() -> None:
    run("set", "acme", "25")
    run("set", "acme", "5", "--frequency", "per_day")
    assert run("set", "acme", "--remove", "--frequency", "per_day") == "acme: 1 limit removed.\n"
    assert [limit.frequency for limit in get_store().limits("acme")] == ["per_month"]
    run("set", "acme", "5", "--frequency", "per_day")
    assert run("set", "acme", "--remove") == "acme: 2 limits removed.\n"
    assert get_store().limits("acme") == []
    assert run("set", "acne", "--remove") == "acne: 0 limits removed. Ids are compared exactly.\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["acme"], "amount: give an amount in US dollars, such as 25, or --remove; not both"),
        (["acme", "5", "--remove"], "amount: give an amount"),
        (["acme", "plenty"], "amount: 'plenty' is not an amount in US dollars; give e.g. 25"),
        (["acme", "-5"], "amount: '-5' is out of range; it must be between 0 and 1000000000"),
        (["acme", "nan"], "amount: 'nan' is not finite"),
        (["acme", "2000000000"], "amount: '2000000000' is out of range"),
        (["x" * 256, "5"], "is not usable; give a text of 1 to 255 characters"),
        (["acme", "5", "--frequency", "hourly"], "Invalid value for '--frequency': 'hourly' is not one of"),
        (["acme", "5", "--mode", "shout"], "Invalid value for '--mode': 'shout' is not one of"),
        (
            ["acme", "5", "--effective-date", "soon"],
            "effective_date: invalid value 'soon'; expected an ISO date",
        ),
    ],
)
def test_a_limit_that_cannot_be_names_its_argument(arguments: list[str], complaint: str) -> None:
    with pytest.raises(CommandError) as caught:
        run("set", *arguments)
    assert complaint in str(caught.value)
    assert get_store().limits("acme") == []


# -- usage ----------------------------------------------------------------------------------------


def test_usage_shows_windows_and_month() -> None:
    run("set", "acme", "20")
    run("set", "acme", "5", "--frequency", "per_day", "--mode", "observe")
    get_store().admit(Call("in-flight", "acme", USD // 2), NOON)
    spend("acme", 2, "today")
    spend("acme", 7, "earlier", at=NOON - 2 * DAY)
    spend("acme", None, "no price")
    spend("acme", 9, "last month", at=NOON - 20 * DAY)
    shown = run("usage", "acme")
    assert shown == (
        "acme\n"
        "  this month  $9.00 in 3 calls, 1 of them unpriced\n"
        "  per month   $9.00 of $20.00 and holds $0.50 (enforce), resets 01 Dec 2026, 00:00 UTC\n"
        "  per day     $2.00 of $5.00 and holds $0.50 (observe), resets 16 Nov 2026, 00:00 UTC\n"
    )
    assert run("usage") == shown


def test_usage_as_json_has_money_as_text() -> None:
    run("set", "acme", "20")
    spend("acme", 2, "one")
    assert json.loads(run("usage", "acme", "--json")) == [
        {
            "tenant": "acme",
            "month": {
                "calls": 1,
                "input_tokens": 10,
                "output_tokens": 2,
                "spent_usd": "2.000000000",
                "unpriced": 0,
            },
            "limits": [
                {
                    "frequency": "per_month",
                    "mode": "enforce",
                    "limit_usd": "20.000000000",
                    "spent_usd": "2.000000000",
                    "held_usd": "0",
                    "remaining_usd": "18.000000000",
                    "resets_at": "2026-12-01T00:00:00+00:00",
                }
            ],
        }
    ]


def test_usage_of_all_has_everyone_with_a_limit_or_spend_this_month() -> None:
    run("set", "limited", "20")
    spend("spending", 2, "one")
    spend("idle", 2, "two", at=NOON - 60 * DAY)
    spend("", 1, "three")
    assert [usage["tenant"] for usage in json.loads(run("usage", "--json"))] == ["", "limited", "spending"]
    assert "(no tenant)\n  this month  $1.00 in 1 call" in run("usage")


def test_usage_of_an_unknown_tenant_says_so() -> None:
    run("set", "acme", "20")
    with pytest.raises(CommandError, match="tenant: 'Acme' has no limit and no event this month; ids are compared"):
        run("usage", "Acme")


@override_settings(TOKEN_LIMIT={"STORE": "memory://"})
def test_another_store_is_read_the_same_way() -> None:
    assert run("usage") == ""
    run("set", "acme", "20")
    assert "per month   $0.00 of $20.00 (enforce)" in run("usage", "acme")
    assert run("usage") == run("usage", "acme")


# -- prune ----------------------------------------------------------------------------------------


def test_prune_deletes_what_is_old_keeps_totals_and_settles_expired_holds() -> None:
    get_store().set_limit(Limit("acme", 100 * USD), NOON - 2 * DAY)
    for age in (1, 34, 36, 89, 91, 400):
        spend("acme", 1, f"{age} days", at=NOON - age * DAY)
    get_store().admit(Call("crashed", "acme", USD), NOON - 3600)
    assert run("prune") == "Expired holds settled: 1. Deleted: events 2, closed holds 0, past windows 1.\n"
    assert set(LedgerEntry.objects.values_list("event_id", flat=True)) == {
        "1 days", "34 days", "36 days", "89 days", "crashed/expired",
    }  # fmt: skip
    assert Hold.objects.get().state == "expired"
    assert sum(Rollup.objects.values_list("calls", flat=True)) == 6
    assert run("prune", "--older-than", "35").endswith("Deleted: events 2, closed holds 0, past windows 1.\n")


@pytest.mark.parametrize("days", ["34", "0", "-1"])
def test_prune_refuses_to_go_near_what_is_still_needed(days: str) -> None:
    spend("acme", 1, "old", at=NOON - 34.5 * DAY)
    with pytest.raises(CommandError, match=f"'--older-than': {days} is not in the range x>=35"):
        run("prune", f"--older-than={days}")
    assert LedgerEntry.objects.count() == 1


def test_prune_wants_a_number() -> None:
    with pytest.raises(CommandError, match="'--older-than': 'week' is not a valid integer"):
        run("prune", "--older-than", "week")
