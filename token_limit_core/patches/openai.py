"""OpenAI's SDK and everything that speaks its protocol: what is billable, how it answers, where it goes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..estimates import size_of
from ..flow import Flight
from ..hosts import TAKES_STREAM_OPTIONS, UNKNOWN, provider_of
from ..outcome import Outcome, Request
from ..streams import Reader
from ..usage import Usage
from .stainless import Plan, StainlessPatch

if TYPE_CHECKING:
    from ..meter import Meter

ENDPOINTS = (
    ("/chat/completions", "chat.completions", ("max_completion_tokens", "max_tokens")),
    ("/responses", "responses", ("max_output_tokens",)),
    ("/completions", "completions", ("max_tokens",)),
    ("/embeddings", "embeddings", ()),
)
"""Path suffix, endpoint, and the fields that bound the output; gateways put prefixes before the path."""

AZURE = frozenset({"AzureOpenAI", "AsyncAzureOpenAI"})
MAX_ADDRESSES = 256
"""How many clients' addresses are remembered: an application may make a client for every request."""


class OpenAIPatch(StainlessPatch):
    """Guards chat completions, responses, legacy completions and embeddings on any OpenAI or Azure client."""

    name = "openai"
    module = "openai"
    guards = ("chat.completions", "responses", "completions", "embeddings")
    request_id_header: ClassVar[str] = "x-request-id"
    other_id_headers: ClassVar[Mapping[str, str]] = {"azure": "apim-request-id"}

    def __init__(self) -> None:
        super().__init__()
        self._providers: dict[int, tuple[Any, Meter, str]] = {}

    def recognise(self, client: Any, options: Any, stream: bool) -> Plan | None:
        if options.method.lower() != "post":
            return None
        found = _endpoint(options.url)
        if found is None:
            return None
        endpoint, bounds = found
        body = _body(options)
        provider = self._provider(client)
        tier = body.get("service_tier")
        if tier is not None and (not isinstance(tier, str) or tier == "auto"):
            tier = None
        model = str(body.get("model", ""))
        max_output = 0 if endpoint == "embeddings" else _max_output(body, bounds)
        # by position, which takes half the time
        request = Request(provider, model, endpoint, stream, size_of(body), max_output, tier)
        if stream and endpoint in ("chat.completions", "completions") and provider in TAKES_STREAM_OPTIONS:
            changed = _asking_for_usage(options, body)
            if changed is not None:
                return Plan(request, changed, True)
        return Plan(request, options, False)

    def _provider(self, client: Any) -> str:
        """Name the provider a client talks to; looked up again when its address or the Meter changes."""
        url, meter = client._base_url, self.meter()
        known = self._providers.get(id(url))
        if known is not None and known[0] is url and known[1] is meter:
            return known[2]
        provider = provider_of(url.host, url.port, meter.config.hosts)
        if provider == UNKNOWN and any(cls.__name__ in AZURE for cls in type(client).__mro__):
            provider = "azure"
        if len(self._providers) >= MAX_ADDRESSES:
            self._providers.clear()
        self._providers[id(url)] = (url, meter, provider)  # keeping the address keeps its id from being used again
        return provider

    def reader(self, flight: Flight, request_id: str | None, injected: bool) -> Reader:
        return (EventReader if flight.request.endpoint == "responses" else ChoicesReader)(request_id, injected)

    def read(self, answer: Any) -> Outcome:
        row = fields_of(answer)
        outcome = Outcome(usage_of(row.get("usage")), _text(row.get("model")), _text(row.get("id")))
        outcome.service_tier = _text(row.get("service_tier"))
        return outcome


@functools.lru_cache(maxsize=256)
def _endpoint(url: str) -> tuple[str, tuple[str, ...]] | None:
    path = url.partition("?")[0]
    return next(((name, bounds) for suffix, name, bounds in ENDPOINTS if path.endswith(suffix)), None)


def usage_of(usage: Any) -> Usage | None:
    """Read a usage object of chat style (`prompt_tokens`) or responses style (`input_tokens`), parsed or JSON.

    Cached, reasoning and audio counts are parts of their totals (research: sdks section 4). The SDK checks nothing:
    what is no count is not reported, and None means that no count was there at all.
    """
    row = fields_of(usage)
    chat = "prompt_tokens" in row
    received = _count(row.get("prompt_tokens" if chat else "input_tokens"))
    generated = _count(row.get("completion_tokens" if chat else "output_tokens"))
    total = _count(row.get("total_tokens"))
    if received is None and generated is None:
        if total is None:
            return None
        received = total  # some embeddings tell nothing else
    if generated is None and chat:
        generated = 0  # embeddings report a prompt only
    counts = {"input_tokens": received, "output_tokens": generated, "total_tokens": total}
    spent = row.get("prompt_tokens_details" if chat else "input_tokens_details")
    if spent is not None:
        _add_details(counts, fields_of(spent), INPUT_DETAILS)
    made = row.get("completion_tokens_details" if chat else "output_tokens_details")
    if made is not None:
        _add_details(counts, fields_of(made), OUTPUT_DETAILS)
    return Usage.of(counts)


INPUT_DETAILS = {
    "cached_tokens": "cached_tokens",
    "cache_write_tokens": "cache_creation_tokens",
    "audio_tokens": "audio_input_tokens",
}
OUTPUT_DETAILS = {"reasoning_tokens": "reasoning_tokens", "audio_tokens": "audio_output_tokens"}
"""What is told of the input and of the output, and our names for it."""


def _add_details(counts: dict[str, int | None], told: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name, ours in names.items():
        count = _count(told.get(name))
        if count is not None:
            counts[ours] = count


def fields_of(value: Any) -> Mapping[str, Any]:
    """Give the fields of a JSON object or a pydantic model without touching attributes it may lack (4 us each)."""
    if type(value) is dict:
        return value
    if value is None:
        return {}
    try:
        extra = value.__pydantic_extra__
    except AttributeError:
        return value if isinstance(value, Mapping) else {}
    return {**vars(value), **extra} if extra else vars(value)


class _StreamReader:
    """Keeps of a stream what its event needs; the last usage that is not null counts, never a sum."""

    __slots__ = ("answer", "chunks", "injected", "letters", "request_id", "usage")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        self.request_id = request_id
        self.injected = injected
        self.usage: Any = None
        self.answer: Any = None
        self.chunks = 0
        self.letters = 0

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        row = fields_of(self.answer)
        return Outcome(
            usage=usage_of(self.usage),
            model=_text(row.get("model")),
            request_id=_text(row.get("id")) if self.request_id is None else self.request_id,
            service_tier=_text(row.get("service_tier")),
            error=error,
            observed_output=max(self.chunks - 1, self.letters // 4, 0),
        )


class ChoicesReader(_StreamReader):
    """Follows a chat or completions stream. Each chunk costs: declared fields are read without `fields_of`."""

    __slots__ = ()

    def see(self, chunk: Any) -> bool:
        """Look at a chunk; hide the one that is there only because we asked for usage."""
        self.answer = chunk
        row = chunk if type(chunk) is dict else chunk.__dict__
        choices = row.get("choices")
        usage = row.get("usage")
        if usage is not None:
            self.usage = usage
            if not choices:
                return self.injected
        if choices:
            self.chunks += 1
            choice = choices[0]
            row = choice if type(choice) is dict else choice.__dict__
            delta = row.get("delta")
            if delta is not None:
                text = (delta if type(delta) is dict else delta.__dict__).get("content")
            else:
                text = row.get("text")
            if text:
                self.letters += len(text)
        return False


class EventReader(_StreamReader):
    """Follows a responses stream: usage comes once, with the response that ends it."""

    __slots__ = ()

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = event if type(event) is dict else event.__dict__
        kind = row.get("type")
        if kind in ENDS or kind == "response.created":
            self.answer = row.get("response")
            self.usage = fields_of(self.answer).get("usage")
        elif isinstance(kind, str) and kind.endswith(".delta"):
            self.chunks += 1
            text = row.get("delta")
            if isinstance(text, str):
                self.letters += len(text)
        return False


ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _body(options: Any) -> Mapping[str, Any]:
    """Return the body as it will be sent: `extra_body` wins over the method's own arguments."""
    body = fields_of(options.json_data)
    extra = getattr(options, "extra_json", None)
    return body if extra is None else {**body, **fields_of(extra)}


def _max_output(body: Mapping[str, Any], bounds: tuple[str, ...]) -> int | None:
    """Return the most tokens the call may generate: the bound, once for each choice."""
    for name in bounds:
        value = body.get(name)
        if isinstance(value, int):
            choices = body.get("n")
            return value * choices if isinstance(choices, int) else value
    return None


def _asking_for_usage(options: Any, body: Mapping[str, Any]) -> Any:
    """Copy the options with `include_usage` set; None when the caller said yes or no to it already."""
    asked = body.get("stream_options")
    if asked is not None and (not isinstance(asked, Mapping) or "include_usage" in asked):
        return None
    wanted = {"stream_options": {**(asked or {}), "include_usage": True}}
    changed = copy.copy(options)
    extra = getattr(options, "extra_json", None)
    if isinstance(extra, Mapping) and "stream_options" in extra:
        changed.extra_json = {**extra, **wanted}
    else:
        changed.json_data = {**options.json_data, **wanted}
    return changed


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
