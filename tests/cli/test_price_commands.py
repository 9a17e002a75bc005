"""`reprice` by command: the same for `token-limit`, Flask and Django."""

from __future__ import annotations

import json

from tests.cli.conftest import Run
from token_limit_core import Meter
from token_limit_core.events import LLMEvent

SINCE = ("reprice", "--since", "2000-01-01")


def test_reprice_shows_and_books_the_difference(run: Run, meter: Meter) -> None:
    now = meter.config.clock()
    event = LLMEvent("a", "acme", provider="openai", model="gpt-4o", timestamp=now, input_tokens=1_000_000)
    meter.store.settle("a", event, 10**9, now)
    shown = json.loads(run(*SINCE, "--json").output)
    assert shown == [
        {"provider": "openai", "model": "gpt-4o", "calls": 1, "cost_usd": "1", "new_cost_usd": "2.5"}
        | {"charge_usd": "1", "new_charge_usd": "2.5"}
    ]
    assert json.loads(run(*SINCE, "--json", "--dry-run").output) == shown
    assert json.loads(run(*SINCE, "--json", "--book").output) == shown
    assert run(*SINCE, "--book") == ("Nothing differs.\n", 0)
    assert [row.cost_usd for row in meter.report("model")] == [2.5]


def test_reprice_needs_a_time(run: Run) -> None:
    assert run("reprice").exit_code == 2
    refused = run("reprice", "--since", "yesterday")
    assert refused.exit_code != 0
    assert "since" in refused.output
