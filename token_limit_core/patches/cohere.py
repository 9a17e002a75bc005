"""Cohere's SDK: what costs money, what is free.

Its generated clients send everything through `HttpClient.request` and `.stream` of `cohere.core.http_client`, and their
asynchronous siblings. A retry calls `request` again, from within.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, ClassVar

from ..calls.flight import Flight
from ..calls.flow import adepart, aland, depart, hand_over, land
from ..calls.request import Outcome, Request
from ..runtime.faults import report
from .base import Arguments
from .batches import ended, guess, read_queued
from .bedrock import price_name
from .billed_units import UnitsReader, read, usage_in_text
from .byte_streams import Tee
from .http_funnel import HttpPatch
from .in_flight import caught_by, note_lost_attempt
from .lines import CutLinesTee
from .reading import count, fields_of, text
from .scoped import keep_scope, keep_scope_async
from .sending import bound_of
from .streams import follow_async, follow_sync
from .surfaces import Plan, Surface

BOUNDS = ("max_tokens",)

BATCHES, JOBS = "batches", "embed_jobs"


def _read_batch(answer: Any) -> Outcome:
    """Read a batch, which reports its tokens as text."""
    row = fields_of(fields_of(answer).get("batch"))
    outcome, answered = Outcome(usage_in_text(row), text(row.get("model"))), count(row.get("num_successful_records"))
    return ended(outcome, row.get("id"), row.get("status"), answered, row.get("output_dataset_id"))


def _read_job(answer: Any) -> Outcome:
    """Read an embedding job, which reports the units that are billed."""
    row = fields_of(answer)
    outcome = read(row)
    return ended(outcome, row.get("job_id"), row.get("status"), None, row.get("output_dataset_id"))


SURFACES = (
    Surface("/v[12]/chat", "chat", BOUNDS, read, UnitsReader),
    Surface("/v1/generate", "generate", BOUNDS, read, UnitsReader),
    Surface("/v1/summarize", "summarize", (), read, UnitsReader),
    Surface("/v1/classify", "classify", None, read, UnitsReader),
    Surface("/v[12]/embed", "embed", None, read, UnitsReader),
    Surface("/v[12]/rerank", "rerank", None, read, UnitsReader),
    Surface("/v2/parse", "parse", None, read, UnitsReader),
    Surface("/v2/batches", BATCHES, None, read_queued, UnitsReader, refined=True),
    Surface("/v1/embed-jobs", JOBS, None, read_queued, UnitsReader, refined=True),
)

LATER = (
    Surface("/v2/batches/{}", BATCHES, None, _read_batch, UnitsReader),
    Surface("/v1/embed-jobs/{}", JOBS, None, _read_job, UnitsReader),
)

FREE = re.compile(
    r"/v1/(tokenize|detokenize|check-api-key|datasets|connectors(/[^/]+/oauth/authorize)?|embed-jobs/[^/]+/cancel)$"
    r"|/v2/batches/[^/]+:cancel$"
)

STREAMS = ("chat_stream", "generate_stream")


class CoherePatch(HttpPatch):
    """Guards chats, embeddings and reranking of both APIs, on Cohere's hosts and on Bedrock."""

    name = own_provider = "cohere"
    module: ClassVar[str] = "cohere"
    guards: ClassVar[tuple[str, ...]] = tuple(surface.endpoint for surface in SURFACES)
    not_guarded: ClassVar[tuple[str, ...]] = ("finetuning", "audio.transcriptions")
    surfaces: ClassVar[tuple[Surface, ...]] = SURFACES
    later: ClassVar[tuple[Surface, ...]] = LATER
    free = FREE

    def _install(self) -> None:
        from cohere import base_client
        from cohere.core import http_client
        from cohere.v2 import client

        funnel, afunnel = http_client.HttpClient, http_client.AsyncHttpClient
        self._swap(funnel, "request", self._guard(funnel.request, self._whole, self.arrival(follow_sync)))
        self._swap(afunnel, "request", self._aguard(afunnel.request, self._whole, self.arrival(follow_async)))
        self._swap(funnel, "stream", self._guard_stream(funnel.stream))
        self._swap(afunnel, "stream", self._aguard_stream(afunnel.stream))
        for cls, keep in (
            (base_client.BaseCohere, keep_scope),
            (client.V2Client, keep_scope),
            (base_client.AsyncBaseCohere, keep_scope_async),
            (client.AsyncV2Client, keep_scope_async),
        ):
            for method in STREAMS:
                if method in cls.__dict__:
                    self._swap(cls, method, keep(self, cls.__dict__[method]))

    def _whole(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        if kwargs.get("retries"):
            note_lost_attempt(args[0], caught_by("request"))
            return None
        return self._recognise(args, kwargs, stream=False)

    def _recognise(self, args: tuple[Any, ...], kwargs: dict[str, Any], stream: bool) -> Plan | None:
        try:
            client, path, method, base_url, body, options = _arguments(*args, **kwargs)
            url = f"{client.get_base_url(base_url).rstrip('/')}/{(path or '').lstrip('/')}"
            if method == "GET":
                return self.plan_later(url)
            if method != "POST":
                return None
            more = options.get("additional_body_parameters") if isinstance(options, Mapping) else None
        except Exception:
            report("recognising a call")
            return None
        plan = self.plan_of(url, {**_sent(body), **_sent(more)}, stream)
        if plan is not None and plan.endpoint in ("chat", "generate"):
            plan.bounds = BOUNDS
        if plan is not None and _runs_on_aws(client):
            plan.provider, plan.priced_as = "aws", price_name(plan.model)
        return plan

    def _clamp(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        bound = {bound_of(request): request.clamped}
        return args, {**kwargs, "json": {**_sent(kwargs.get("json")), **bound}}

    def refine(self, plan: Plan) -> None:
        guess(plan)
        if plan.endpoint == JOBS:
            plan.max_output = 0

    def tee(self, plan: Plan, response: Any) -> Tee:
        streams = plan.stream and not response.headers.get("content-type", "").startswith("text/event-stream")
        return CutLinesTee(plan.reader(None, False)) if streams else super().tee(plan, response)

    def _guard_stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Guard a method that opens a stream for the length of a block."""

        @functools.wraps(original)
        @contextlib.contextmanager
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            plan = self._recognise(args, kwargs, stream=True) if self.active else None
            flight = None if plan is None else depart(plan.engine, plan)
            if plan is not None and plan.clamped is not None:
                args, kwargs = self._clamp(plan, args, kwargs)
            with contextlib.ExitStack() as block:
                try:
                    response = block.enter_context(original(*args, **kwargs))
                except BaseException as error:
                    land(flight, Outcome(error=error, answered=False))
                    raise
                if flight is not None:
                    outcome = self._arrive(follow_sync, flight, response, args, kwargs, None)
                    if isinstance(outcome, Outcome):
                        land(flight, outcome)
                yield response

        return stream

    def _aguard_stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Do what `_guard_stream` does for an asynchronous client."""

        @functools.wraps(original)
        @contextlib.asynccontextmanager
        async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            plan = self._recognise(args, kwargs, stream=True) if self.active else None
            flight: Flight | None = None if plan is None else await adepart(plan.engine, plan)
            if plan is not None and plan.clamped is not None:
                args, kwargs = self._clamp(plan, args, kwargs)
            async with contextlib.AsyncExitStack() as block:
                try:
                    response = await block.enter_async_context(original(*args, **kwargs))
                except BaseException as error:
                    hand_over(flight, Outcome(error=error, answered=False))
                    raise
                if flight is not None:
                    outcome = self._arrive(follow_async, flight, response, args, kwargs, None)
                    if isinstance(outcome, Outcome):
                        await aland(flight, outcome)
                yield response

        return stream


def _arguments(
    client: Any,
    path: str | None = None,
    *,
    method: str,
    base_url: str | None = None,
    json: Any = None,
    request_options: Any = None,
    **rest: Any,
) -> tuple[Any, str | None, str, str | None, Any, Any]:
    """Name the arguments of `HttpClient.request`."""
    return client, path, method, base_url, json, request_options


def _sent(body: Any) -> dict[str, Any]:
    """Return the fields of a body that were given: the SDK marks the others with `...`."""
    return {name: value for name, value in body.items() if value is not ...} if isinstance(body, Mapping) else {}


def _runs_on_aws(client: Any) -> bool:
    """Tell a `BedrockClient` or `SagemakerClient`: a hook of its HTTP client rewrites each request."""
    hooks = getattr(client.httpx_client, "event_hooks", {}).get("request", ())
    return any(getattr(hook, "__module__", "") == "cohere.aws_client" for hook in hooks)
