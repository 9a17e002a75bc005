"""The commands of `flask token-limit` and of the script `token-limit`: the same ones, over the same store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from token_limit_core import Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.events import LLMEvent
from token_limit_core.limits import Limit
from token_limit_core.stores.records import Call
from token_limit_flask import TokenLimit, get_meter

USD = 10**9
DAY = 86400
HINT = "Nothing was known of 'acme': make sure that this is what your application calls it.\n"

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/spend.db"


@pytest.fixture
def meter(store: str) -> Iterator[Meter]:
    """Another process's Meter over the store."""
    with Meter(MeterConfig(store=store)) as meter:
        yield meter


@pytest.fixture(params=["flask token-limit", "token-limit"])
def run(request: pytest.FixtureRequest, store: str, meter: Meter) -> Iterator[Run]:
    if request.param == "token-limit":
        yield lambda *args: CliRunner().invoke(main, ["--store", store, *args], prog_name="token-limit")
        return
    app = Flask(__name__)
    TokenLimit(app, store=store)
    with get_meter(app):
        yield lambda *args: app.test_cli_runner().invoke(args=["token-limit", *args])


def settle(meter: Meter, tenant: str, usd: int | None, at: float) -> None:
    event = LLMEvent(f"{tenant}/{at}/{usd}", tenant, provider="openai", model="m", timestamp=at, input_tokens=10)
    meter.store.settle(event.event_id, event, None if usd is None else usd * USD, at)


def test_a_limit_is_set_changed_scheduled_and_removed(run: Run, meter: Meter) -> None:
    assert run("set", "acme", "25").output == "acme: $25.00 per month (enforce).\n" + HINT
    daily = run("set", "acme", "0.5", "--frequency", "per_day", "--mode", "observe")
    assert daily.output == "acme: $0.50 per day (observe).\n"
    later = run("set", "acme", "30", "--effective-date", "2099-12-01")
    assert later.output == "acme: $30.00 per month (enforce) from 01 Dec 2099, 00:00 UTC.\n"
    assert [limit.amount for limit in meter.limits("acme")] == [25 * USD, USD // 2, 30 * USD]
    assert run("set", "acme", "--remove", "--frequency", "per_day").output == "acme: 1 limit removed.\n"
    assert run("set", "acme", "--remove").output == "acme: 2 limits removed.\n"
    assert meter.limits("acme") == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["acme"], "amount: give an amount in US dollars, such as 25, or --remove; not both"),
        (["acme", "5", "--remove"], "amount: give an amount"),
        (["acme", "plenty"], "amount: 'plenty' is not an amount in US dollars; give e.g. 25"),
        (["acme", "0.0000000001"], "amount: give at most nine digits"),
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
def test_a_limit_that_cannot_be_names_its_argument(
    run: Run, meter: Meter, arguments: list[str], complaint: str
) -> None:
    result = run("set", *arguments)
    assert (result.exit_code, complaint in result.output) == (2, True), result.output
    assert meter.limits("acme") == []


def test_usage_shows_windows_and_month(run: Run, meter: Meter) -> None:
    meter.set_limit("acme", 20)
    now = meter.config.clock()
    meter.store.admit(Call("in-flight", "acme", USD // 2), now)
    settle(meter, "acme", 2, now)
    settle(meter, "acme", None, now)
    month = datetime.fromtimestamp(now, UTC).replace(day=1)
    resets = (month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)).strftime("01 %b %Y")
    assert run("usage", "acme").output == (
        "acme\n"
        "  this month  $2.00 in 2 calls, 1 of them unpriced\n"
        f"  per month   $2.00 of $20.00 and holds $0.50 (enforce), resets {resets}, 00:00 UTC\n"
    )
    (usage,) = json.loads(run("usage", "acme", "--json").output)
    assert usage["limits"][0]["remaining_usd"] == "17.500000000"
    assert usage["month"] == {
        "calls": 2, "input_tokens": 20, "output_tokens": 0, "spent_usd": "2.000000000", "unpriced": 1,
    }  # fmt: skip


def test_usage_writes_small_limits_and_spends_out_and_credits_with_their_sign(run: Run, meter: Meter) -> None:
    meter.set_limit("acme", "0.0000005")
    now = meter.config.clock()
    meter.store.record([(LLMEvent("e1", "acme", timestamp=now), 3), (LLMEvent("e2", "owed", timestamp=now), -5)], now)
    shown = run("usage").output
    assert "$0.000000003 of $0.0000005 (enforce)" in shown
    assert "owed\n  this month  -$0.000000005 in 1 call" in shown


def test_usage_of_all_has_everyone_with_a_limit_or_spend_this_month(
    run: Run, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("token_limit_core.cli.usage.TENANTS_AT_ONCE", 2)
    meter.store.check()
    assert run("usage").output == ""
    now = meter.config.clock()
    meter.set_limit("limited", 20)
    settle(meter, "spending", 2, now)
    settle(meter, "idle", 2, now - 60 * DAY)
    settle(meter, "", 1, now)
    assert [usage["tenant"] for usage in json.loads(run("usage", "--json").output)] == ["", "limited", "spending"]
    assert "(no tenant)\n  this month  $1.00 in 1 call\nlimited\n" in run("usage").output


def test_usage_of_an_unknown_tenant_says_so(run: Run, meter: Meter) -> None:
    meter.set_limit("acme", 20)
    result = run("usage", "Acme")
    assert result.exit_code == 2
    assert "tenant: 'Acme' has no limit and no event this month; ids are compared exactly" in result.output


def test_prune_deletes_what_is_old_and_settles_expired_holds(run: Run, meter: Meter) -> None:
    now = meter.config.clock()
    meter.store.set_limit(Limit("acme", 100 * USD), now - 2 * DAY)
    for age in (1, 34, 36, 89, 91, 400):
        settle(meter, "acme", 1, now - age * DAY)
    meter.store.admit(Call("crashed", "acme", USD), now - 3600)
    assert run("prune").output.startswith("Expired holds settled: 1. Deleted: events 2, closed holds ")
    assert run("prune", "--older-than", "35").output.startswith("Expired holds settled: 0. Deleted: events 2, ")


@pytest.mark.parametrize("days", ["34", "0", "-1"])
def test_prune_refuses_to_go_near_what_is_still_needed(run: Run, days: str) -> None:
    result = run("prune", f"--older-than={days}")
    assert result.exit_code == 2
    assert f"Invalid value for '--older-than': {days} is not in the range x>=35" in result.output


def test_prune_wants_a_number(run: Run) -> None:
    assert "Invalid value for '--older-than': 'week' is not a valid integer" in run("prune", "--older-than=week").output


def test_status_says_how_things_stand(run: Run, store: str, meter: Meter) -> None:
    meter.set_limit("acme", 20)
    meter.store.admit(Call("in-flight", "acme", USD // 2), meter.config.clock())
    lines = run("status").output.splitlines()
    assert lines[:2] == [f"store      SqlStore at {store} (durable), answers", "in flight  1 hold"]
    assert [line.split()[0] for line in lines[2:]] == [*sorted(meter.status()["patches"]), "policies"]
    (openai,) = (line.split() for line in lines if line.startswith("openai "))
    assert openai[-1] == metadata.version("openai")


@pytest.mark.parametrize("command", [["usage", "acme"], ["set", "acme", "5"], ["prune"], ["status"]])
def test_a_store_that_is_away_is_an_error_of_the_command(command: list[str]) -> None:
    away = "postgresql+psycopg://nobody:secret@127.0.0.1:9/nothing"
    result = CliRunner().invoke(main, ["--store", away, *command])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and "secret" not in result.output


def test_the_script_is_installed_and_takes_the_store_from_the_environment(store: str, meter: Meter) -> None:
    script = Path(sys.executable).with_name("token-limit")
    env = {"TOKEN_LIMIT_STORE": store}
    done = subprocess.run([script, "set", "acme", "5"], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "acme: $5.00 per month (enforce).\n" + HINT, "")
    assert [limit.amount for limit in meter.limits("acme")] == [5 * USD]
    wrong = subprocess.run([script, "--store", "postgres://x/y", "status"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert "store: 'postgres://x/y' has no known scheme" in wrong.stderr
