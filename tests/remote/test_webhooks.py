"""Notices as webhooks: signed, delivered at least once, whatever becomes of the receiver and of the sender."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server, end, serving
from tests.waiting import wait_until
from token_limit_core import ConfigurationError, Meter, MeterConfig, verify_signature
from token_limit_core.delivery.signature import sign

SECRET = "whsec_test"


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    return tmp_path / "taken.jsonl"


@pytest.fixture
def receiver(taken: Path) -> Iterator[Server]:
    with serving("tests.remote.hooks", "{port}", str(taken), SECRET) as server:
        yield server


def meter_to(receiver: Server, tmp_path: Path, secret: str = SECRET, **settings: Any) -> Meter:
    url = f"{receiver.url}/hook"
    store = f"sqlite:///{tmp_path}/limits.db"
    return Meter(MeterConfig(store=store, webhook_url=url, webhook_secret=secret, **settings))


def spend(meter: Meter, usd: Decimal | int) -> None:
    meter.track_manually(provider="acme", model="m", tenant_id="acme", cost_usd=usd)


def bodies(taken: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in taken.read_text().splitlines()] if taken.exists() else []


def percents(taken: Path) -> list[int]:
    return [body["percent"] for body in bodies(taken)]


def test_a_notice_is_posted_and_its_signature_verifies(receiver: Server, taken: Path, tmp_path: Path) -> None:
    with meter_to(receiver, tmp_path) as meter:
        meter.set_limit("acme", 10, name="team")
        spend(meter, 5)
        spend(meter, 1)
        wait_until(lambda: percents(taken) == [50])
    [body] = bodies(taken)
    assert (body["kind"], body["tenant_id"], body["limit_usd"], body["spent_usd"]) == ("threshold", "acme", "10", "5")
    assert (body["frequency"], body["name"], body["unit"]) == ("per_month", "team", "usd")


def test_a_receiver_that_is_away_gets_everything_later(receiver: Server, taken: Path, tmp_path: Path) -> None:
    with meter_to(receiver, tmp_path) as meter:
        meter.set_limit("acme", 10)
        spend(meter, 4)
        spend(meter, 2)
        assert meter.flush()
        end(receiver.process)
        spend(meter, 3)
        assert not meter.flush()
        assert meter.status()["webhooks_failed"] > 0
        spend(meter, 2)
        receiver.restart()
        wait_until(lambda: set(percents(taken)) == {50, 80, 100})


def test_what_a_process_has_left_another_delivers(receiver: Server, taken: Path, tmp_path: Path) -> None:
    end(receiver.process)
    with meter_to(receiver, tmp_path) as meter:
        meter.set_limit("acme", 10)
        spend(meter, 4)
        spend(meter, 5)
    receiver.restart()
    with meter_to(receiver, tmp_path) as meter:
        meter.check_limit()
        wait_until(lambda: meter.flush() and set(percents(taken)) == {50, 80})


def test_a_wrong_secret_is_refused_and_tried_again(receiver: Server, taken: Path, tmp_path: Path) -> None:
    with meter_to(receiver, tmp_path, secret="other") as meter:
        meter.set_limit("acme", 10)
        spend(meter, 4)
        spend(meter, 5)
        assert not meter.flush()
    assert bodies(taken) == []
    with meter_to(receiver, tmp_path) as meter:
        wait_until(lambda: meter.flush() and set(percents(taken)) == {50, 80})


@pytest.mark.parametrize("name", ["webhook_url", "webhook_secret"])
def test_a_webhook_needs_both_settings(name: str) -> None:
    given = {"webhook_url": "https://example.com/hook", "webhook_secret": SECRET, name: None}
    with pytest.raises(ConfigurationError, match=f"^{name}: missing"):
        MeterConfig(store="memory://", **given)


BODY, AT = b'{"percent": 80}', 1_800_000_000.0


@pytest.mark.parametrize("late", [-300, 0, 300])
def test_a_genuine_signature_verifies(late: float) -> None:
    assert verify_signature(BODY, sign(BODY, SECRET, AT), SECRET, now=AT + late)


@pytest.mark.parametrize(
    ("body", "header", "secret", "now"),
    [
        (b'{"percent": 50}', sign(BODY, SECRET, AT), SECRET, AT),
        (BODY, sign(BODY, "other", AT), SECRET, AT),
        (BODY, sign(BODY, SECRET, AT), SECRET, AT + 301),
        (BODY, sign(BODY, SECRET, AT).replace("t=18", "t=19"), SECRET, AT),
        (BODY, None, SECRET, AT),
        (BODY, "", SECRET, AT),
        (BODY, "t=ü,v1=ü", SECRET, AT),
        (BODY, "t=1800000000,v1=", SECRET, AT),
        (BODY, f"t={'9' * 10_000},v1=00", SECRET, AT),
        (BODY, ",,=,t", SECRET, AT),
    ],
)
def test_any_other_signature_does_not(body: bytes, header: str | None, secret: str, now: float) -> None:
    assert not verify_signature(body, header, secret, now=now)
