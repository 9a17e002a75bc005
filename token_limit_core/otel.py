"""OpenTelemetry metrics of a Meter, by the semantic conventions for generative AI.

The conventions define `gen_ai.client.token.usage` and `gen_ai.client.operation.duration`. They define no metric for
spend, refusals and policies, so the names of those begin with `token_limit`. OpenTelemetry is imported when
`export_metrics` is called; without its SDK its no-op meter drops the values.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .calls.request import Request
from .events import LLMEvent
from .limits import Decision
from .meter import Meter, engine_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from .calls.engine import Engine

TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The bucket boundaries that the conventions recommend."""

OPERATIONS = {
    "chat.completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "fim.completions": "text_completion",
    "embeddings": "embeddings",
    "embed_content": "embeddings",
}
"""Operation names by endpoint; an endpoint that is not listed is its own operation name."""

PROVIDERS = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "x-ai": "x_ai",
}
"""The names of the conventions for providers that the price list names differently."""


def export_metrics(meter: Meter, provider: MeterProvider | None = None, *, tenant: bool = True) -> None:
    """Export a Meter's tokens, durations, spend and refusals.

    `provider` defaults to the global MeterProvider. `tenant=False` leaves the tenant out of the attributes: each tenant
    is a separate time series, which is costly for many tenants.
    """
    from opentelemetry import metrics

    instruments = metrics.get_meter("token_limit", meter_provider=provider)
    engine_of(meter).listeners.append(_Recorder(instruments, tenant))
    _observe(instruments, engine_of(meter))


def _observe(instruments: Any, engine: Engine) -> None:
    """Export the counters of `status()`, and for how long the store has been away."""
    from opentelemetry.metrics import CallbackOptions, Observation

    def counts(options: CallbackOptions) -> list[Observation]:
        counted = engine.status()["counts"]
        return [Observation(number, {"token_limit.what": name}) for name, number in counted.items()]

    def away(options: CallbackOptions) -> list[Observation]:
        since = engine.access.away_since
        return [Observation(0.0 if since is None else max(0.0, time.time() - since))]

    instruments.create_observable_counter(
        "token_limit.calls",
        [counts],
        unit="{call}",
        description="Calls by what became of them: refused, assumed, unpriced, unattributed, unguarded, unverified",
    )
    instruments.create_observable_gauge(
        "token_limit.store.away", [away], unit="s", description="Seconds since the store stopped to answer"
    )


class _Recorder:
    def __init__(self, instruments: Any, tenant: bool) -> None:
        self._tenant = tenant
        self._tokens = instruments.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens used, input and output",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._duration = instruments.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Duration of a call",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._spend = instruments.create_counter("token_limit.spend", unit="{USD}", description="Cost of metered calls")
        self._refusals = instruments.create_counter(
            "token_limit.refusals", unit="{call}", description="Calls refused before any traffic"
        )

    def on_event(self, event: LLMEvent) -> None:
        """Record a call."""
        about = self._about(event.tenant_id, event.provider, event.endpoint)
        about["gen_ai.request.model"] = event.tags.get("requested_model", event.model)
        about["gen_ai.response.model"] = event.model
        if event.error is None:
            self._tokens.record(event.input_tokens, about | {"gen_ai.token.type": "input"})
            self._tokens.record(event.output_tokens, about | {"gen_ai.token.type": "output"})
        if event.cost_usd is not None:
            self._spend.add(float(event.cost_usd), about)  # a metric may round; the ledger is exact
        if event.duration_ms is not None:
            failed = {} if event.error is None else {"error.type": event.error.partition(" ")[0]}
            self._duration.record(event.duration_ms / 1000, about | failed)

    def on_refusal(self, decision: Decision, request: Request) -> None:
        """Record a refusal."""
        about = self._about(decision.tenant_id, request.provider, request.endpoint)
        self._refusals.add(
            1, about | {"gen_ai.request.model": request.model, "token_limit.decision.kind": decision.kind}
        )

    def _about(self, tenant_id: str, provider: str, endpoint: str) -> dict[str, Any]:
        about = {
            "gen_ai.operation.name": OPERATIONS.get(endpoint, endpoint),
            "gen_ai.provider.name": PROVIDERS.get(provider, provider),
        }
        return about | {"token_limit.tenant": tenant_id} if self._tenant else about
