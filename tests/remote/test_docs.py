"""The code of the page on several services, run as it stands against real endpoints of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, override_settings
from flask import Flask
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.pages import blocks, code_of
from tests.remote.receiver import Receiver, key_for
from tests.support import environment
from token_limit_core import Meter, MeterConfig
from token_limit_core.stores.contract import Store
from token_limit_core.stores.memory.store import MemoryStore
from token_limit_django.meter import get_meter
from token_limit_flask import TokenLimit
from token_limit_flask import get_meter as flask_meter

PAGE = "docs/remote.md"
REPORTING, DJANGO, FLASK = (block.code for block in blocks(PAGE, "## The service that reports", "python"))
DJANGO_INGEST, FLASK_INGEST, STARLETTE_INGEST = (
    block.code for block in blocks(PAGE, "## The service that keeps the ledger", "python")
)


# -- the service that reports -----------------------------------------------------------------------


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver(MemoryStore()) as receiver:
        monkeypatch.setenv("TOKEN_LIMIT_API_KEY", receiver.token)
        yield receiver


def ran(code: str, receiver: Receiver, folder: Path, **names: Any) -> dict[str, Any]:
    """Run a block at the addresses of this test."""
    for written, here in (
        ("https://limits.example.com", receiver.url.removesuffix("/events")),
        ("tl_...", receiver.token),
        ("/var/lib/app", str(folder)),
    ):
        code = code.replace(written, here)
    exec(compile(code, PAGE, "exec"), names)
    return names


def prove(meter: Meter, receiver: Receiver, folder: Path) -> None:
    """See that a Meter reports through the spool that the page names, and that its limits are the receiver's."""
    meter.set_limit("acme", 25)
    event = meter.track_manually(
        provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1, tenant_id="acme"
    )
    assert meter.flush(30)
    assert list(receiver.arrivals) == [event.event_id]
    assert [limit.limit_usd for limit in receiver.store.limits("acme")] == [25]
    assert (folder / "token_limit_spool.db").exists()
    meter.close()


def test_a_meter_of_the_page_reports(receiver: Receiver, tmp_path: Path) -> None:
    prove(ran(REPORTING, receiver, tmp_path)["meter"], receiver, tmp_path)


def test_a_django_project_with_the_settings_of_the_page_reports(receiver: Receiver, tmp_path: Path) -> None:
    settings = ran(DJANGO, receiver, tmp_path, os=os)["TOKEN_LIMIT"]
    with override_settings(TOKEN_LIMIT={**settings, "PATCHES": []}):
        prove(get_meter(), receiver, tmp_path)


def test_a_flask_app_with_the_settings_of_the_page_reports(receiver: Receiver, tmp_path: Path) -> None:
    app = Flask(__name__)
    ran(FLASK, receiver, tmp_path, app=app, os=os)
    TokenLimit(app)
    prove(flask_meter(app), receiver, tmp_path)


# -- the service that keeps the ledger --------------------------------------------------------------


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    with Meter(MeterConfig(store=f"sqlite:///{tmp_path}/spend.db", patches=[])) as meter:
        yield meter


def report(store: Store) -> tuple[dict[str, Any], dict[str, str]]:
    """Make a report of one event, and the header that lets it in."""
    event = {"event_id": "e1", "tenant_id": "acme", "timestamp": time.time(), "cost_usd": "0.5"}
    return {"events": [event]}, {"Authorization": f"Bearer {key_for(store)}"}


def assert_taken(store: Store, answer: dict[str, Any]) -> None:
    assert answer == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert store.spend("acme", 0, 4e9).cost_nano == 500_000_000


@pytest.mark.django_db(databases="__all__")
def test_the_urls_of_the_page_take_reports_in_django(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = types.ModuleType("documented_urls")
    exec(compile(DJANGO_INGEST, PAGE, "exec"), vars(urls))
    monkeypatch.setitem(sys.modules, "documented_urls", urls)
    store = get_meter().store
    body, headers = report(store)
    with override_settings(ROOT_URLCONF="documented_urls"):
        answer = Client().post("/token-limit/events", body, content_type="application/json", headers=headers)
    assert_taken(store, answer.json())


def test_the_blueprint_of_the_page_takes_reports_in_flask(meter: Meter) -> None:
    app = Flask(__name__)
    exec(compile(FLASK_INGEST, PAGE, "exec"), {"app": app, "meter": meter})
    body, headers = report(meter.store)
    assert_taken(meter.store, app.test_client().post("/token-limit/events", json=body, headers=headers).json)


def test_the_routes_of_the_page_take_reports_in_starlette(meter: Meter) -> None:
    app = Starlette()
    exec(compile(STARLETTE_INGEST, PAGE, "exec"), {"app": app, "meter": meter})
    body, headers = report(meter.store)
    with TestClient(app) as client:
        assert_taken(meter.store, client.post("/token-limit/events", json=body, headers=headers).json())


# -- metrics ----------------------------------------------------------------------------------------

EXPORT = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from token_limit_core import Meter, MeterConfig
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
meter = Meter(MeterConfig(store="memory://", patches=[]))
{code}
meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1, tenant_id="acme")
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
(spend,) = [metric for metric in scope.metrics if metric.name == "token_limit.spend"]
print(sorted("tenant" in " ".join(point.attributes) for point in spend.data.data_points))
"""


def test_the_metrics_of_the_page_are_exported_with_and_without_the_tenant() -> None:
    """In a process of its own: there is one global provider in each."""
    pytest.importorskip("opentelemetry.sdk.metrics", reason="opentelemetry-sdk is not installed")
    script = EXPORT.format(code=code_of(PAGE, "## Metrics"))
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[False, True]\n", done.stderr
