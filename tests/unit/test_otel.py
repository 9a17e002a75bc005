"""OpenTelemetry metrics, read back from the real SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="opentelemetry-sdk is not installed")
export = pytest.importorskip("opentelemetry.sdk.metrics.export")

from token_limit_core import LimitExhausted, Meter, MeterConfig  # noqa: E402
from token_limit_core.calls.flow import depart  # noqa: E402
from token_limit_core.calls.request import Request  # noqa: E402
from token_limit_core.meter import engine_of  # noqa: E402
from token_limit_core.otel import export_metrics  # noqa: E402


class Exported:
    """A Meter, and what it exported."""

    def __init__(self, **options: Any) -> None:
        self.reader = export.InMemoryMetricReader()
        self.provider = metrics.MeterProvider([self.reader])
        self.meter = Meter(MeterConfig(store="memory://"))
        export_metrics(self.meter, self.provider, **options)

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics]
        return [point for metric in found if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def exported() -> Iterator[Exported]:
    exported = Exported()
    yield exported
    exported.meter.close()
    exported.provider.shutdown()


def test_a_call_is_exported_by_the_conventions_names(exported: Exported) -> None:
    with exported.meter.for_tenant("acme"):
        exported.meter.track_manually(
            provider="openai",
            model="gpt-4o-mini",
            endpoint="chat.completions",
            input_tokens=1_000_000,
            output_tokens=7,
            duration_ms=1500.0,
        )

    tokens = {point.attributes["gen_ai.token.type"]: point for point in exported.points("gen_ai.client.token.usage")}
    assert (tokens["input"].sum, tokens["output"].sum) == (1_000_000, 7)
    assert dict(tokens["input"].attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.token.type": "input",
        "token_limit.tenant": "acme",
    }
    (duration,) = exported.points("gen_ai.client.operation.duration")
    assert duration.sum == 1.5
    (spend,) = exported.points("token_limit.spend")
    assert spend.value == pytest.approx(0.1500042)


def test_a_refusal_is_exported(exported: Exported) -> None:
    exported.meter.set_limit("acme", 0)
    with exported.meter.for_tenant("acme"), pytest.raises(LimitExhausted):
        depart(engine_of(exported.meter), Request("openai", "gpt-4o-mini", "chat.completions"))

    (refused,) = exported.points("token_limit.refusals")
    assert refused.value == 1
    assert refused.attributes["token_limit.decision.kind"] == "exhausted"
    assert exported.points("token_limit.spend") == []


def test_the_tenant_can_be_left_out() -> None:
    exported = Exported(tenant=False)
    for tenant in ("acme", "globex"):
        with exported.meter.for_tenant(tenant):
            exported.meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=1, output_tokens=1)
    (spend,) = exported.points("token_limit.spend")
    assert "token_limit.tenant" not in spend.attributes
    exported.meter.close()
    exported.provider.shutdown()


def test_a_call_that_failed_has_its_error_on_the_duration_and_no_tokens(exported: Exported) -> None:
    exported.meter.track_manually(
        provider="openai", model="m", input_tokens=0, output_tokens=0, duration_ms=10.0, error="RateLimitError 429"
    )
    (duration,) = exported.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "RateLimitError"
    assert exported.points("gen_ai.client.token.usage") == []


def test_nothing_of_opentelemetry_is_imported_unless_asked_for() -> None:
    code = "import sys, token_limit_core.otel; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_policies_decided_is_exported(exported: Exported) -> None:
    engine = engine_of(exported.meter)
    for name in ("refused", "assumed", "assumed"):
        engine.count(name)

    counted = {point.attributes["token_limit.what"]: point.value for point in exported.points("token_limit.calls")}
    assert counted == {"refused": 1, "assumed": 2}
    (away,) = exported.points("token_limit.store.away")
    assert away.value == 0
