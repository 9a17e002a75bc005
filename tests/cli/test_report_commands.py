"""Tenants, reports, refusals and previews by command: the same for `token-limit`, Flask and Django."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, runner
from token_limit_core import Meter
from token_limit_core.cli.output import ProgressLine
from token_limit_core.events import LLMEvent
from token_limit_core.stores.records import Refusal

USD = 10**9


def spend(meter: Meter, tenant: str, usd: int, name: str, **fields: Any) -> None:
    now = meter.config.clock()
    event = LLMEvent(name, tenant, provider="openai", model="gpt-4o", timestamp=now, input_tokens=10, **fields)
    meter.store.settle(name, event, usd * USD, now)


@pytest.fixture
def spent(meter: Meter) -> Meter:
    spend(meter, "acme", 2, "a", user="ann", feature="chat", session_id="s1")
    spend(meter, "acme", 3, "b", user="bob")
    spend(meter, "globex", 7, "c", user="=cmd()")
    return meter


@pytest.mark.parametrize(
    ("by", "costs"),
    [
        ("provider", {"openai": "12"}),
        ("model", {"gpt-4o": "12"}),
        ("user", {"=cmd()": "7", "bob": "3", "ann": "2"}),
        ("feature", {"": "10", "chat": "2"}),
        ("session", {"": "10", "s1": "2"}),
    ],
)
def test_a_report_sums_by_each_kind_as_json_and_csv(run: Run, spent: Meter, by: str, costs: dict[str, str]) -> None:
    rows = json.loads(run("report", "--by", by, "--json").output)
    assert {row[by]: row["cost_usd"] for row in rows} == costs
    lines = list(csv.DictReader(run("report", "--by", by, "--csv").output.splitlines()))
    assert {row[by]: row["cost_usd"] for row in lines} == {key.replace("=", "'="): cost for key, cost in costs.items()}


def test_a_report_of_one_tenant_is_a_table_for_people(run: Run, spent: Meter) -> None:
    spend(spent, "acme", 5, "d", charge_usd=Decimal(6))
    header, line = run("report", "--tenant", "acme").output.splitlines()
    assert header.split() == ["day", "calls", "input_tokens", "output_tokens", "cost_usd", "charge_usd", "unpriced"]
    assert line.split()[1:] == ["3", "30", "0", "10", "11", "0"]
    assert run("report", "--tenant", "nobody").output == "Nothing was spent.\n"
    assert run("report", "--tenant", "nobody", "--json").output == "[]\n"


def test_a_preview_tells_what_a_limit_would_have_done(run: Run, spent: Meter) -> None:
    shown = run("preview", "acme", "1").output
    assert shown.startswith("Calls: 2. This limit would have refused 1 of them.\nThey cost $3. The first was on ")
    found = json.loads(run("preview", "acme", "10", "--frequency", "per_day", "--json").output)
    assert found == {"calls": 2, "refused": 0, "saved_usd": "0", "first_at": None}
    assert spent.limits("acme") == []


def test_a_preview_says_how_far_it_is_after_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [0.0]
    line = ProgressLine(lambda: seconds[0])
    for seconds[0], calls, share in ((0.9, 10, 0.1), (1.1, 2000, 0.25), (1.5, 3000, 0.3), (2.2, 4000, 1.0)):
        line(calls, share)
    line.end()
    assert capsys.readouterr() == ("", "2,000 calls looked at, 25%\n4,000 calls looked at, 100%\n")


def test_refusals_are_listed(run: Run, meter: Meter) -> None:
    assert run("refusals").output == "No call was refused.\n"
    now = meter.config.clock()
    row = Refusal("acme", int(now // 60 * 60), "exhausted", "per_month", 3, now, "gpt-4o", "chat", "ann", None)
    meter.store.add_refusals([row])
    (found,) = json.loads(run("refusals", "acme", "--json").output)
    assert (found["tenant"], found["calls"], found["kind"], found["user"]) == ("acme", 3, "exhausted", "ann")
    assert "exhausted" in run("refusals").output
    assert run("refusals", "globex").output == "No call was refused.\n"


def test_tenants_are_listed_named_renamed_merged_and_erased(run: Run, spent: Meter) -> None:
    assert run("tenants", "name", "acme", "Acme Ltd").output == "acme is now named 'Acme Ltd'.\n"
    assert run("tenants", "markup", "acme", "20").output == "acme is now billed 20 % above the cost.\n"
    assert run("tenants", "markup", "acme", "--none").output == "acme is now billed by its plan.\n"
    assert run("tenants", "rename", "acme", "acme-2").output == "acme is now acme-2.\n"
    rows = json.loads(run("tenants", "list", "--sort", "spend", "--json").output)
    assert [(row["tenant"], row["name"], row["cost_usd"]) for row in rows] == [
        ("globex", "", "7"),
        ("acme-2", "Acme Ltd", "5"),
    ]
    assert "... and 1 more" in run("tenants", "list", "--limit", "1").output
    assert run("tenants", "merge", "globex", "acme-2", "--yes").output == "globex is merged into acme-2.\n"
    assert run("tenants", "erase", "acme-2", "--yes").output == "acme-2 is erased; it had 3 events.\n"
    assert run("tenants", "list").output == "There are no tenants.\n"


def test_erasing_asks_first(store: str, spent: Meter) -> None:
    ran = runner(store)("tenants", "erase", "acme")
    assert ran.exit_code == 1
    assert spent.store.tenant("acme") is not None


READING = [
    ["usage"], ["usage", "acme"], ["status"], ["prune"], ["report"], ["refusals"], ["preview", "acme", "5"],
    ["plans", "list"], ["plans", "remove", "pro"], ["plans", "assign", "acme", "pro"], ["top-up", "acme", "5"],
    ["adjust", "acme", "5"], ["suspend", "acme"], ["resume", "acme"], ["tenants", "list"], ["set", "acme", "--remove"],
    ["tenants", "name", "acme", "Acme"], ["keys", "list"], ["keys", "revoke", "tl_1"], ["deliveries", "status"],
]  # fmt: skip


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_in_a_wrong_folder_makes_no_database(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = runner("sqlite:///token_limit.db")(*command)
    assert ran.exit_code == 2
    assert f"store: there is no file {tmp_path}/token_limit.db" in ran.output
    assert "--store" in ran.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["set", "acme", "5"], ["plans", "set", "pro", "25"], ["keys", "create", "north", "acme"]], ids=" ".join
)
def test_commands_that_begin_a_ledger_make_its_file(command: list[str], tmp_path: Path) -> None:
    assert runner(f"sqlite:///{tmp_path}/new.db")(*command).exit_code == 0
    assert (tmp_path / "new.db").exists()


def test_a_store_without_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runner("memory://")("report").output == "Nothing was spent.\n"
    assert list(tmp_path.iterdir()) == []
