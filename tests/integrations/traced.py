"""Calls the SDKs under a tracer, with or without a Meter, and prints what each has recorded.

`python -m tests.integrations.traced TRACER ORDER`: TRACER is sentry or otel, ORDER is alone, first (the Meter patches
before the tracer) or last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import MESSAGES, AnthropicWire
from tests.contract.sdk.wire import Wire
from token_limit_core import LLMEvent, Meter, MeterConfig

Spans = Callable[[], list[Any]]

THEIRS_ALONE = ("thread.", "gen_ai.response.id", "gen_ai.response.time_to_first_token")


def sentry() -> Spans:
    import sentry_sdk
    from sentry_sdk.integrations.anthropic import AnthropicIntegration
    from sentry_sdk.integrations.openai import OpenAIIntegration

    sent: list[Any] = []
    sentry_sdk.init(
        dsn="http://key@localhost/1",
        before_send_transaction=lambda event, hint: sent.append(event),
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[OpenAIIntegration(), AnthropicIntegration()],
    )
    transaction = sentry_sdk.start_transaction(name="request")
    transaction.__enter__()

    def spans() -> list[Any]:
        transaction.__exit__(None, None, None)
        sentry_sdk.flush()
        return [(span["op"], span["description"], span["data"]) for row in sent for span in row["spans"]]

    return spans


def otel() -> Spans:
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    return lambda: [("", span.name, dict(span.attributes or {})) for span in exporter.get_finished_spans()]


async def call() -> None:
    for make, endpoint in ((Wire, uses.CHAT), (AnthropicWire, MESSAGES)):
        client, async_client = make(endpoint.script).client(), make(endpoint.script).async_client()
        endpoint.create(client)
        for _ in endpoint.create(client, stream=True):
            pass
        await endpoint.create(async_client)
        async for _ in await endpoint.create(async_client, stream=True):
            pass


def main(tracer: str, order: str) -> None:
    events: list[LLMEvent] = []
    meter = Meter(MeterConfig(store="memory://", on_event=events.append, patches=["openai", "anthropic"]))
    if order == "first":
        meter.patch_all()
    spans = {"sentry": sentry, "otel": otel}[tracer]()
    if order == "last":
        meter.patch_all()
    with meter.for_tenant("acme"):
        asyncio.run(call())
    meter.flush(10)
    seen = [
        (op, name, {key: value for key, value in data.items() if not key.startswith(THEIRS_ALONE)})
        for op, name, data in spans()
    ]
    told = [
        (event.tenant_id, event.provider, event.stream, event.input_tokens, event.output_tokens) for event in events
    ]
    print(json.dumps({"events": told, "spans": seen}, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
