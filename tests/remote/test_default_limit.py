"""The default limit of a backend: it is also that of tenants who only spend elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.remote.mounts import MOUNTS, Mounted
from tests.remote.receiver import Receiver
from tests.waiting import PATIENCE
from token_limit_core import LimitExhausted, Meter, MeterConfig
from token_limit_core.calls.flow import depart, land
from token_limit_core.calls.request import Outcome, Request
from token_limit_core.ingest.endpoints import CHECKS, EVENTS, THRESHOLDS, Ingest
from token_limit_core.meter import engine_of
from token_limit_core.usage import Usage

DEFAULT = Decimal("0.01")


@pytest.fixture(params=list(MOUNTS))
def mounted(request: pytest.FixtureRequest) -> Iterator[Mounted]:
    with MOUNTS[request.param](default_limit_usd=DEFAULT) as mounted:
        yield mounted


def event(tenant_id: str, number: int = 1) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "tenant_id": tenant_id, "timestamp": time.time(), "cost_usd": "0.015"}


def limits(mounted: Mounted, tenant_id: str) -> list[Decimal]:
    return [limit.limit_usd for limit in mounted.meter.limits(tenant_id)]


def test_a_tenant_that_is_asked_for_is_given_it(mounted: Mounted) -> None:
    told = mounted.ask("GET", f"{CHECKS}?tenant_id=new")
    assert (told["limit_exceeded"], Decimal(told["limit_usd"])) == (False, DEFAULT)
    assert limits(mounted, "new") == [DEFAULT]


def test_a_tenant_that_is_reported_is_given_it(mounted: Mounted) -> None:
    events = [event("new"), event("new", 2), event("other"), event("")]
    assert mounted.ask("POST", EVENTS, {"events": events})["accepted"] == 4
    assert [limits(mounted, name) for name in ("new", "other", "")] == [[DEFAULT], [DEFAULT], []]
    told = mounted.ask("GET", f"{CHECKS}?tenant_id=new")
    assert (told["limit_exceeded"], Decimal(told["spent_usd"])) == (True, Decimal("0.03"))


def test_a_limit_that_was_set_or_removed_stays_so(mounted: Mounted) -> None:
    mounted.ask("POST", THRESHOLDS, {"tenant_id": "set", "limit_usd": 5})
    mounted.meter.set_limit("freed", 5)
    mounted.meter.remove_limit("freed")
    for name in ("set", "freed"):
        mounted.ask("POST", EVENTS, {"events": [event(name)]})
        mounted.ask("GET", f"{CHECKS}?tenant_id={name}")
    assert (limits(mounted, "set"), limits(mounted, "freed")) == ([Decimal(5)], [])


def test_calls_of_a_reporting_service_trip(tmp_path: Any) -> None:
    """A cent and a half a call, of one: the first is let through, as by any limit that is not spent, the others not."""
    backend = Meter(MeterConfig(store=f"sqlite:///{tmp_path}/ledger.db", default_limit_usd=DEFAULT))
    outcome = Outcome(usage=Usage(input_tokens=100_000, output_tokens=0))
    with Receiver(backend.store, Ingest.of(backend)) as receiver:
        meter = Meter(MeterConfig(url=receiver.url, api_key=receiver.token))
        with meter.for_tenant("new"):
            land(depart(engine_of(meter), Request("openai", "gpt-4o-mini", "chat.completions", size=4)), outcome)
            for _ in range(3):
                with pytest.raises(LimitExhausted):
                    depart(engine_of(meter), Request("openai", "gpt-4o-mini", "chat.completions", size=4))
        assert meter.flush(PATIENCE)
        assert backend.usage("new")[0].spent_usd == Decimal("0.015")
        meter.close()
    backend.close()
