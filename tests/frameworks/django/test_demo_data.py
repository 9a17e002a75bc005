"""A store filled for a demo, by each of the command lines."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from django.core.management import CommandError, call_command

from token_limit_core import Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.cli.seed import fill
from token_limit_core.stores.queries import TenantQuery
from token_limit_django.meter import get_meter

NOW = 1_800_021_600.0  # 15 January 2027, 14:00 UTC
SMALL = ["--tenants", "40", "--days", "30", "--events", "1500"]


def test_tenants_of_every_standing_are_made() -> None:
    with Meter(MeterConfig(store="memory://", clock=lambda: NOW)) as meter:
        fill(meter, 40, 30, 1500)
        standings = meter.store.standings(NOW)
        assert min(standings.near, standings.over, standings.unlimited, standings.suspended) > 0


def look_at(meter: Meter) -> None:
    now = meter.config.clock()
    assert {plan.name for plan in meter.store.plans()} == {"free", "pro", "business"}
    assert meter.store.hold_page().total > 0
    assert sum(row.total.calls for row in meter.store.report("day", 0, now + 86400)) == 1500
    assert meter.store.tenants(TenantQuery(search="acme"), now).rows[0].name == "Acme Labs"


@pytest.mark.parametrize("command", [["demo", "--seed"], ["seed"]])
def test_the_command_line_fills_an_empty_store_once(command: list[str], tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/demo.db"
    done = CliRunner().invoke(main, ["--store", store, *command, *SMALL])
    assert (done.exit_code, done.output.startswith("1,500 events of 40 tenants")) == (0, True), done.output
    with Meter(MeterConfig(store=store)) as meter:
        look_at(meter)
    again = CliRunner().invoke(main, ["--store", store, *command, *SMALL])
    assert (again.exit_code, "has tenants already" in again.output) == (2, True)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_manage_fills_the_projects_database() -> None:
    said = StringIO()
    call_command("token_limit_demo", *SMALL, stdout=said)
    assert said.getvalue().startswith("1,500 events")
    look_at(get_meter())
    with pytest.raises(CommandError, match="has tenants already"):
        call_command("token_limit_demo", *SMALL)
