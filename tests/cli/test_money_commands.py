"""Limits, plans, top-ups and corrections by command: the same for `token-limit`, Flask and Django."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from token_limit_core import Meter

USD = 10**9


def test_a_limit_takes_every_keyword_of_set_limit(run: Run, meter: Meter) -> None:
    shown = run(
        "set", "acme", "100000", "--unit", "tokens", "--frequency", "per_month", "--timezone", "Europe/Berlin",
        "--anchor", "15", "--user", "*", "--model", "gpt-4*", "--provider", "openai", "--feature", "chat",
        "--name", "Trial", "--mode", "observe",
    )  # fmt: skip
    assert shown.output.startswith(
        "acme: 100,000 tokens per month (feature chat, model gpt-4*, provider openai, each user) "
        "(observe, Europe/Berlin, anchor 15, Trial).\n"
    )
    (limit,) = meter.limits("acme")
    assert (limit.amount, limit.unit, limit.timezone, limit.anchor) == (100_000, "tokens", "Europe/Berlin", "15")
    assert run("set", "acme", "--remove", "--user", "*").output.startswith("acme: 0 limits removed.")
    filters = ["--user", "*", "--model", "gpt-4*", "--provider", "openai", "--feature", "chat"]
    assert run("set", "acme", "--remove", *filters).output == "acme: 1 limit removed.\n"


def test_all_tenants_and_no_tenant_may_have_limits(run: Run, meter: Meter) -> None:
    assert run("set", "*", "5").output == "*: $5.00 per month (enforce).\n"
    assert run("set", "", "6").output == ": $6.00 per month (enforce).\n"
    assert [limit.amount for tenant in ("*", "") for limit in meter.limits(tenant)] == [5 * USD, 6 * USD]


BAD = [
    (["set", "acme", "-1"], "amount: "),
    (["set", "acme", "nan"], "amount: "),
    (["set", "acme", "1e400"], "amount: "),
    (["set", "acme", "1.5", "--unit", "tokens"], "amount: "),
    (["set", "acme", "5", "--timezone", "Mars/Olympus"], "timezone: "),
    (["set", "acme", "5", "--anchor", "32"], "anchor: "),
    (["set", "acme", "5", "--frequency", "per_day", "--anchor", "3"], "anchor: "),
    (["set", "acme", "5", "--user", " "], "user: "),
    (["set", "acme", "5", "--unit", "tokens", "--basis", "cost"], "basis: "),
    (["set", "acme", "5", "--effective-date", "soon"], "effective_date: "),
    (["plans", "set", "pro", "-5"], "limits[0]."),
    (["plans", "set", "pro", "25", "25"], "limits[1].frequency: "),
    (["plans", "set", "pro", "25,user"], "limits: "),
    (["plans", "set", "pro", "25,anchor=32"], "limits[0].anchor: "),
    (["plans", "set", "pro", "25,colour=red"], "limits[0].colour: "),
    (["plans", "set", "pro", "25", "--markup", "nan"], "markup: "),
    (["plans", "assign", "acme", "gold"], "plan: "),
    (["plans", "assign", "acme"], "plan: "),
    (["plans", "remove", "gold"], "plan: "),
    (["top-up", "acme", "0"], "usd: "),
    (["top-up", "acme", "-1"], "usd: "),
    (["top-up", "acme", "1", "--expires-at", "2099-01-01"], "expires_at: "),
    (["adjust", "acme", "0"], "usd: "),
    (["adjust", "acme", "inf"], "usd: "),
    (["preview", "acme", "nan"], "amount: "),
    (["preview", "acme", "5", "--since", "2999-01-01"], "since: "),
    (["report", "--since", "2026-02-01", "--until", "2026-01-01"], "since: "),
    (["tenants", "rename", "acme", "*"], "new_id: "),
    (["tenants", "markup", "acme", "nan"], "markup: "),
    (["tenants", "markup", "acme"], "percent: "),
    (["tenants", "merge", "nobody", "acme", "--yes"], "nobody"),
    (["tenants", "erase", "nobody", "--yes"], "nobody"),
]


@pytest.mark.parametrize(
    ("arguments", "field"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_input_names_its_field_and_saves_nothing(run: Run, meter: Meter, arguments: list[str], field: str) -> None:
    before = meter.store.history()
    ran = run(*arguments)
    assert (ran.exit_code, f"Error: {field}" in ran.output or field in ran.output) == (
        2 if ran.exit_code == 2 else 1,
        True,
    )
    assert ran.exit_code != 0
    assert (meter.store.history(), meter.store.plans(), meter.limits("acme")) == (before, [], [])


def test_several_arguments_are_refused_at_once(run: Run) -> None:
    shown = run("set", "acme", "x", "--anchor", "32", "--timezone", "Mars").output
    assert all(f"{name}: " in shown for name in ("amount", "anchor", "timezone"))


def test_a_plan_is_made_assigned_changed_and_removed(run: Run, meter: Meter) -> None:
    assert run("plans", "list").output == "There are no plans.\n"
    made = run("plans", "set", "pro", "25", "5,user=*", "100000,unit=tokens,frequency=per_day", "--markup", "20")
    assert made.output == (
        "pro: $25.00 per month (enforce); $5.00 per month (each user) (enforce); "
        "100,000 tokens per day (enforce), markup 20 %.\n"
    )
    assert run("plans", "assign", "acme", "pro").output == "acme is now on plan pro.\n"
    assert run("plans", "assign", "acme", "pro").output == "acme is already on plan pro.\n"
    assert [limit.amount for limit in meter.limits("acme")] == [25 * USD, 5 * USD, 100_000]
    (plan,) = json.loads(run("plans", "list", "--json").output)
    assert (plan["plan"], plan["tenants"], plan["markup"]) == ("pro", 1, "20")
    assert run("plans", "remove", "pro").exit_code == 2
    assert run("plans", "assign", "acme", "--none").output == "acme is now on no plan.\n"
    assert run("plans", "remove", "pro").output == "pro is removed.\n"
    assert meter.store.plans() == []


def test_a_top_up_raises_this_window_and_a_correction_is_booked(run: Run, meter: Meter) -> None:
    meter.set_limit("acme", 20)
    shown = run("top-up", "acme", "5").output
    assert shown.startswith("acme: $5.00 added; the monthly limit is $25.00 until ")
    assert run("adjust", "acme", "-3.50", "--reason", "goodwill").output == "acme: -$3.50 booked.\n"
    (status,) = meter.usage("acme")
    assert (status.ceiling, status.settled) == (25 * USD, -3_500_000_000)
    newest = meter.store.history("acme")[0]
    assert (newest.kind, newest.actor, newest.note) == ("adjust", "command line", "goodwill")
    assert "per month   -$3.50 of $20.00 + $5.00 (enforce), resets" in run("usage", "acme").output
    (usage,) = json.loads(run("usage", "acme", "--json").output)
    assert usage["limits"][0]["top_ups"] == "5"


def test_a_tenant_is_suspended_and_resumed(run: Run, meter: Meter) -> None:
    assert run("suspend", "acme", "--reason", "unpaid").output == "acme is suspended.\n"
    assert run("suspend", "acme").output == "acme is suspended already.\n"
    assert meter.store.rules("acme").suspended
    assert run("resume", "acme").output == "acme may call again.\n"
    assert run("resume", "acme").output == "acme was not suspended.\n"
