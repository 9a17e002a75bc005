"""Anthropic's SDK with its Bedrock, Vertex and Foundry clients: billable and free paths, and providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ..calls.flight import Flight
from ..calls.flow import again, hand_over
from ..calls.request import Outcome
from ..hosts import UNKNOWN
from ..usage import Usage
from . import batches
from .bedrock import price_name
from .byte_streams import Tee
from .client_middleware import ClientMiddlewarePatch
from .converse import InvokeReader
from .frames import FrameTee
from .lines import show_lines
from .messages import MessageReader, read, usage_of
from .reading import event_id_of, fields_of
from .streams import Follow
from .surfaces import Plan, Surface
from .tees import BlindTee

if TYPE_CHECKING:
    from ..calls.engine import Engine

PROVIDERS = {
    "BaseBedrockClient": "aws",
    "BaseMantleClient": "aws",
    "BaseVertexClient": "google",
    "AnthropicFoundry": "anthropic",
    "AsyncAnthropicFoundry": "anthropic",
    "AnthropicAWS": "anthropic",
    "AsyncAnthropicAWS": "anthropic",
    "AnthropicGoogleCloud": "anthropic",
    "AsyncAnthropicGoogleCloud": "anthropic",
}
"""The provider whose prices apply to a client class. Foundry and the Claude platforms on AWS and Google Cloud charge
Anthropic's own prices, and genai-prices lists no Claude under azure."""

HEADER_COUNTS = ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count")


def _read_batch(answer: Any) -> Outcome:
    """Read a batch: one that has ended without a message gives its hold back, as nobody will download its results."""
    row = fields_of(answer)
    failed = row.get("processing_status") == "ended" and fields_of(row.get("request_counts")).get("succeeded") == 0
    return Outcome(freed=batches.id_of(row.get("id")) if failed else None)


def _nothing(answer: Any) -> Outcome:
    """Read the download of a batch's results: each line is an event."""
    return Outcome()


class AnthropicPatch(ClientMiddlewarePatch):
    """Meters messages of every kind of client, and the results of batches."""

    name = "anthropic"
    module: ClassVar[str] = "anthropic"
    guards: ClassVar[tuple[str, ...]] = ("messages", "beta.messages", "messages.batches.results", "completions")
    not_guarded: ClassVar[tuple[str, ...]] = ("beta.sessions", "beta.agents", "beta.deployments.run", "beta.dreams")
    surfaces: ClassVar[tuple[Surface, ...]] = (
        Surface("/v1/messages", "messages", ("max_tokens",), read, MessageReader, refined=True),
        Surface("/v1/messages/batches", "messages.batches", None, batches.read_queued, MessageReader, refined=True),
        Surface("/v1/complete", "completions", ("max_tokens_to_sample",), read, MessageReader, refined=True),
    )
    later: ClassVar[tuple[Surface, ...]] = (
        Surface("/v1/messages/batches/{}", "messages.batches", None, _read_batch, MessageReader),
        Surface("/v1/messages/batches/{}/results", "messages.batches", None, _nothing, MessageReader, kept=False),
    )
    free: ClassVar[re.Pattern[str]] = re.compile(
        r"/v1/(messages/(count_tokens|batches(/[^/]+/cancel)?)"
        r"|(files|models|skills|organizations|user_profiles|vaults|memory_stores|environments|tunnels|webhooks)(/.+)?)$"
    )
    request_id_header: ClassVar[str] = "request-id"
    other_id_headers: ClassVar[Mapping[str, str]] = {"aws": "x-amzn-requestid"}

    def provider_of_client(self, client: Any) -> str:
        return next((PROVIDERS[cls.__name__] for cls in type(client).__mro__ if cls.__name__ in PROVIDERS), UNKNOWN)

    def provider_at(self, client: Any, url: Any, engine: Engine) -> str:
        """Return the provider of a client. Foundry, on Azure's hosts, charges Anthropic's prices."""
        provider = super().provider_at(client, url, engine)
        return "anthropic" if provider == "azure" else provider

    def refine(self, plan: Plan) -> None:
        if plan.endpoint == "messages.batches":
            batches.count_messages(plan)
            return
        plan.service_tier = "fast" if plan.body.get("speed") == "fast" else None  # the answer reports the other tiers
        if plan.provider == "aws":
            plan.priced_as = price_name(plan.model)

    def tee(self, plan: Plan, response: Any, request_id: str | None) -> Tee:
        if response.headers.get("content-type", "").startswith("application/vnd.amazon.eventstream"):
            return FrameTee(InvokeReader(request_id))
        return BlindTee(plan.read, request_id) if plan.later else super().tee(plan, response, request_id)

    def told_later(self, flight: Flight, response: Any) -> None:
        path = response.request.url.path
        if not path.endswith("/results"):
            return
        settler, access = flight.engine.settler, flight.engine.access
        settler.start()
        settler.put(partial(access.release, batches.id_of(path.split("/")[-2])))
        show_lines(response, partial(_record_result, flight, path))

    def _arrive(self, flight: Flight, plan: Plan, result: Any, follow: Follow) -> Outcome | None:
        response = flight.answer
        outcome = super()._arrive(flight, plan, result, follow)
        if outcome is not None and outcome.usage is None and flight.request.provider == "aws":
            outcome.usage = _usage_in_headers(response.headers)
        return outcome


def _record_result(flight: Flight, batch: str, row: Mapping[str, Any]) -> None:
    """Bill one line of a batch's results, once for any number of downloads. Only successful lines cost anything."""
    result = fields_of(row.get("result"))
    if result.get("type") != "succeeded":
        return
    outcome = read(result.get("message"))
    if outcome.usage is None:
        return
    outcome.service_tier = "batch"
    outcome.event_id = event_id_of("batch", f"{batch} {row.get('custom_id')}")
    entry = again(flight)
    entry.request.stream = False
    hand_over(entry, outcome)


def _usage_in_headers(headers: Mapping[str, str]) -> Usage | None:
    """Read the token counts in Bedrock's headers, for an answer without usage."""
    received, generated = (int(value) if (value := headers.get(name, "")).isdigit() else None for name in HEADER_COUNTS)
    return usage_of({"input_tokens": received, "output_tokens": generated})
