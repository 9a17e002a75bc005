"""What Bedrock answers: Converse, and the bodies of InvokeModel, which differ by the maker of the model.

Facts about usage are measured on recorded traffic (corpus README, Bedrock): cache reads and writes are outside the
input; a stream of Converse reports its usage in its last event, `metadata`; InvokeModel reports it in response
headers, in most bodies, and at the end of a stream as `amazon-bedrock-invocationMetrics`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..calls.request import Outcome
from ..usage import Usage
from . import chat, messages
from .frames import FrameReader
from .reading import fields_of, text

Row = Mapping[str, Any]

METRICS = "amazon-bedrock-invocationMetrics"

INPUT = ("inputTokens", "inputTokenCount", "prompt_token_count", "inputTextTokenCount")
OUTPUT = ("outputTokens", "outputTokenCount", "generation_token_count", "totalOutputTextTokenCount")
READ = ("cacheReadInputTokens", "cacheReadInputTokenCount")
WRITTEN = ("cacheWriteInputTokens", "cacheWriteInputTokenCount")
"""Names of the four pools: those of Converse and of Nova, of the metrics, and of Llama's and Titan's own counts."""

HEADERS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}


def read_converse(answer: Any) -> Outcome:
    """Read an answer of Converse, or the `metadata` event of its stream."""
    row = fields_of(answer)
    tier = fields_of(row.get("serviceTier")).get("type")
    return Outcome(usage=usage_of(fields_of(row.get("usage"))), service_tier=text(tier))


def read_invoked(answer: Any, headers: Mapping[str, str] | None = None) -> Outcome:
    """Read the body of InvokeModel; the counts in the headers fill in what it does not report."""
    row = fields_of(answer)
    outcome = _message_or_chat(row)
    counted = usage_of({name: _number(headers.get(header)) for name, header in HEADERS.items()}) if headers else None
    if outcome.usage is None:
        outcome.usage = counted
    elif counted is not None and outcome.usage.output_tokens is None:
        outcome.usage.output_tokens = counted.output_tokens
    pictures = row.get("images", row.get("artifacts"))
    if outcome.usage is None and isinstance(pictures, list):
        outcome.usage = Usage(image_count=len(pictures))
    return outcome


def usage_of(row: Row) -> Usage | None:
    """Read the counts of Converse, of the metrics, or of a model with its own names; None when there are none."""
    received, generated = _first(row, INPUT), _first(row, OUTPUT)
    if received is None and generated is None:
        return None
    usage = Usage(
        input_tokens=received,
        output_tokens=generated,
        total_tokens=_count(row.get("totalTokens")),
        cached_tokens=_first(row, READ),
        cache_creation_tokens=_first(row, WRITTEN),
        cache_outside_input=True,
    )
    for detail in map(fields_of, _list(row.get("cacheDetails"))):
        name = CACHE_LIFETIMES.get(str(detail.get("ttl")))
        if name is not None:
            setattr(usage, name, _count(detail.get("inputTokens")))
    if usage.total_tokens is None:
        usage.total_tokens = usage.received() + (0 if generated is None else generated)
    return usage


CACHE_LIFETIMES = {"5m": "cache_creation_5m_tokens", "1h": "cache_creation_1h_tokens"}


def _message_or_chat(row: Row) -> Outcome:
    """Read a body by the protocol that its usage object is of: Anthropic's, OpenAI's, or Amazon's own."""
    usage = fields_of(row.get("usage"))
    if "input_tokens" in usage or row.get("type") == "message":
        return messages.read(row)
    if "prompt_tokens" in usage:
        return chat.read_answer(row)
    results = [_count(fields_of(result).get("tokenCount")) for result in _list(row.get("results"))]
    titan = {"totalOutputTextTokenCount": sum(number for number in results if number is not None)} if results else {}
    return Outcome(
        usage=usage_of({**row, **titan, **usage}), model=text(row.get("model")), request_id=text(row.get("id"))
    )


class ConverseReader(FrameReader):
    """Follows a stream of Converse."""

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self._metadata: Row = {}

    def take(self, kind: str | None, row: Row) -> None:
        """Look at the payload of an event."""
        if kind == "contentBlockDelta":
            self.letters += _letters(fields_of(row.get("delta")))
        elif kind == "metadata":
            self._metadata = row

    def so_far(self) -> Outcome:
        """Read what was reported so far."""
        return read_converse(self._metadata)


class InvokeReader(FrameReader):
    """Follows a stream of InvokeModel: each frame is a `chunk` with an event of the model's own protocol.

    The message's own usage goes before the metrics, which lack the tokens of tools (5 of 68 recorded).
    """

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self._message = messages.MessageReader(None, False)
        self._counts: dict[str, Any] = {}
        self._usage: Any = None
        self._last: Row = {}

    def take(self, kind: str | None, row: Row) -> None:
        """Look at the payload of an event."""
        event = json.loads(base64.b64decode(row["bytes"])) if "bytes" in row else {}
        if not isinstance(event, dict):
            return
        self._message.see(event)
        self._last = event
        self._counts.update({name: event[name] for name in (*INPUT, *OUTPUT, METRICS) if event.get(name) is not None})
        usage = fields_of(event.get("metadata")).get("usage") or event.get("usage")
        if usage is not None:
            self._usage = usage
        for part in (event, *map(fields_of, _parts(event))):
            self.letters += _letters(part)

    def so_far(self) -> Outcome:
        """Read what was reported so far."""
        if self._message.told or self._message.message is not None:
            return self._message.outcome(None)
        counts = {**fields_of(self._counts.get(METRICS)), **self._counts}
        return _message_or_chat({**self._last, **counts, "usage": self._usage})


def _parts(event: Row) -> Iterable[Any]:
    """List where else in an event of a stream there may be text: Nova, Mistral and OpenAI's protocol nest it."""
    for name in ("choices", "outputs"):
        for part in map(fields_of, _list(event.get(name))):
            yield part
            yield part.get("delta")
    yield fields_of(event.get("contentBlockDelta")).get("delta")
    yield event.get("delta")


WORDS = ("text", "generation", "outputText", "completion", "content", "thinking", "partial_json")


def _letters(part: Row) -> int:
    """Count the letters of a piece of an answer, its reasoning and its tools' arguments included."""
    nested = fields_of(part.get("reasoningContent")).get("text"), fields_of(part.get("toolUse")).get("input")
    return sum(len(words) for words in (*map(part.get, WORDS), *nested) if isinstance(words, str))


def _first(row: Row, names: Iterable[str]) -> int | None:
    return next((found for name in names if (found := _count(row.get(name))) is not None), None)


def _count(value: Any) -> int | None:
    """Return a count; Titan writes them as 28.0 in streams."""
    whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and value >= 0 else None


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
