"""Times on pages: on the clock of the tenant's limits, with the time zone named."""

from __future__ import annotations

import pytest
from flask import Flask

from token_limit_core import Meter
from token_limit_core.events import LLMEvent
from token_limit_flask import TokenLimit
from token_limit_flask.usage import usage_page

from .mounts import Client
from .site import NOW, USD

KOLKATA, NEW_YORK = "Asia/Kolkata", "America/New_York"


def test_a_tenants_times_are_in_the_only_zone_of_its_limits(client: Client, meter: Meter) -> None:
    meter.store.record([(LLMEvent("e", "ashok", timestamp=NOW - 60), USD)], NOW)
    assert "15 Jan 2027, 13:59:00 UTC" in client.get("tenant", id="ashok").text
    meter.set_limit("ashok", 5, timezone=KOLKATA, effective_date="2027-02-01")
    meter.set_limit("ashok", 7, "per_day", timezone=KOLKATA)
    text = client.get("tenant", id="ashok").text
    assert '<time datetime="2027-01-15T19:29:00+05:30">15 Jan 2027, 19:29:00 Asia/Kolkata</time>' in text
    assert "01 Feb 2027, 05:30 Asia/Kolkata</time>" in text
    assert " UTC</time>" not in text


def test_with_several_zones_a_limit_has_its_own_and_the_rest_is_in_utc(client: Client, meter: Meter) -> None:
    meter.store.record([(LLMEvent("e", "ashok", timestamp=NOW - 60), USD)], NOW)
    meter.set_limit("ashok", 5, timezone=KOLKATA, effective_date="2027-02-01")
    meter.set_limit("ashok", 9, "per_year")
    text = client.get("tenant", id="ashok").text
    assert "15 Jan 2027, 13:59:00 UTC" in text
    assert "01 Feb 2027, 05:30 Asia/Kolkata</time>" in text


@pytest.mark.parametrize(
    ("zone", "reset"),
    [
        (None, "01 Feb 2027, 00:00 UTC"),
        (KOLKATA, "01 Feb 2027, 00:00 Asia/Kolkata"),
        (NEW_YORK, "01 Feb 2027, 00:00 America/New_York"),
    ],
)
def test_a_customer_reads_when_a_limit_resets_on_the_clock_of_that_limit(zone: str | None, reset: str) -> None:
    app = Flask(__name__)
    app.secret_key = "x" * 32
    TokenLimit(app, store="memory://", patches=[], clock=lambda: NOW, tenant_resolver=lambda request: "acme")
    app.register_blueprint(usage_page(), url_prefix="/usage")
    with app.extensions["token_limit"].meter as meter:
        meter.set_limit("acme", 10, timezone=zone)
        meter.set_limit("acme", 2, "per_day", timezone="Europe/Berlin")
        text = app.test_client().get("/usage/").text
    assert f">{reset}</time>" in text
    assert ">16 Jan 2027, 00:00 Europe/Berlin</time>" in text
