"""Sentry and OpenTelemetry hook the same SDKs: in either order, each call is one event, and their spans are intact."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.contract.sdk import wire

ROOT = Path(__file__).parents[2]
NEEDS = {"sentry": "sentry_sdk", "otel": "opentelemetry.instrumentation.openai"}


@cache
def traced(tracer: str, order: str) -> dict[str, Any]:
    """Run the calls in a process of their own, as neither tracer can be taken out again."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.integrations.traced", tracer, order]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("tracer", NEEDS)
def test_calls_are_metered_once_and_traced_as_before(tracer: str, order: str) -> None:
    if not installed(NEEDS[tracer]):
        pytest.skip(f"{NEEDS[tracer]} is not installed; run the nox session 'integrations'")
    alone, both = traced(tracer, "alone"), traced(tracer, order)

    assert len(alone["spans"]) == 8
    assert alone["events"] == []
    assert both["spans"] == alone["spans"]
    providers = [(tenant, provider, stream) for tenant, provider, stream, *_ in both["events"]]
    assert providers == [("acme", name, stream) for name in ("openai", "anthropic") for stream in (False, True) * 2]
    assert {tuple(counts) for _, _, _, *counts in both["events"]} == {(wire.INPUT, wire.OUTPUT)}
