"""The commands `holds` and `reconcile`, on each of the three command lines."""

from __future__ import annotations

from tests.cli.conftest import Run
from token_limit_core import Meter
from token_limit_core.limits import key_of
from token_limit_core.runtime.ids import process_name
from token_limit_core.stores.records import Call

USD = 10**9


def test_holds_are_listed_with_the_process_and_released(run: Run, meter: Meter) -> None:
    assert run("holds").output == "There are no holds.\n"
    meter.set_limit("acme", 20)
    meter.store.admit(Call("in-flight", "acme", USD // 2), meter.config.clock() - 3660)
    shown = run("holds", "acme").output
    assert shown.startswith("in-flight  acme: $0.50, 1 h 1 min")
    assert shown.endswith(f" overdue, {process_name()}\n")
    assert run("holds", "globex").output == "There are no holds.\n"
    assert run("holds", "--release", "in-flight").output.startswith("in-flight is released.")
    late = run("holds", "--release", "in-flight")
    assert late.exit_code != 0
    assert "--release: there is no open hold 'in-flight'" in late.output


def test_counters_are_compared_and_corrected(run: Run, meter: Meter) -> None:
    limit = meter.set_limit("", 20, user="*")
    meter.track_manually(provider="openai", model="m", cost_usd=2, user="ann")
    meter.store.admit(Call("in-flight", "", USD // 2, user="ann"), meter.config.clock())
    assert run("reconcile").output == "Counters, ledger and holds agree.\n"
    key = key_of(limit, "", "ann", meter.config.clock())
    with meter.store.begin() as tx:  # type: ignore[attr-defined]
        tx.charge(key, USD, 0)
    line = (
        "(no tenant), $20.00 per month (each user), user ann: the counter says $3.00 spent and $0.50 held; "
        "ledger and holds say $2.00 and $0.50\n"
    )
    assert run("reconcile").output == line + "1 counter to correct; use --fix.\n"
    assert run("reconcile", "", "--fix").output == line + "1 counter corrected.\n"
    assert run("reconcile").output == "Counters, ledger and holds agree.\n"
