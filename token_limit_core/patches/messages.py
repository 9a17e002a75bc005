"""Anthropic's Messages protocol: how an answer and a stream of one tell what was used.

What is said of usage was measured on recorded answers (corpus README, Anthropic) and is in the SDK's own types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..calls.request import Outcome
from ..events import made_of
from ..usage import Part, Usage
from .costs import reported_cost
from .reading import count, fields_of, made_like, text, with_fields

LEFT_OUT = frozenset({"compaction", "advisor_message"})
"""Iterations whose tokens the top-level usage leaves out; those of every other type are inside it."""

ANYWHERE = frozenset({"global", "not_available"})
"""What `inference_geo` says where nothing was asked for."""


def read(answer: Any) -> Outcome:
    """Read a message, parsed or JSON; a legacy completion tells no usage."""
    row = fields_of(answer)
    return _outcome(fields_of(row.get("usage")), row)


def _outcome(usage: Mapping[str, Any], message: Mapping[str, Any]) -> Outcome:
    speed, geo = text(usage.get("speed")), text(usage.get("inference_geo"))
    return Outcome(
        usage=usage_of(usage),
        model=text(message.get("model")),
        request_id=text(message.get("id")),
        service_tier="fast" if speed == "fast" else text(usage.get("service_tier")) or speed,
        tags=None if geo is None or geo in ANYWHERE else {"inference_geo": geo},
        parts=tuple(_left_out(usage)),
        cost_usd=reported_cost(usage),
    )


def usage_of(row: Mapping[str, Any]) -> Usage | None:
    """Read a usage object: its four pools are disjoint, and the provider gives no total of them."""
    counts = _counts(row, POOLS)
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    counts["total_tokens"] = sum(counts.values())
    for name, parts in PARTS.items():
        if row.get(name) is not None:
            counts |= _counts(fields_of(row[name]), parts)
    return made_of(Usage, {**counts, "cache_outside_input": True})


def _counts(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: value for name, ours in names.items() if (value := count(row.get(name))) is not None}


POOLS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cached_tokens",
    "cache_creation_input_tokens": "cache_creation_tokens",
}
PARTS = {
    "cache_creation": {
        "ephemeral_5m_input_tokens": "cache_creation_5m_tokens",
        "ephemeral_1h_input_tokens": "cache_creation_1h_tokens",
    },
    "output_tokens_details": {"thinking_tokens": "reasoning_tokens"},
    "server_tool_use": {"web_search_requests": "web_searches"},
}
"""Anthropic's names of the pools, and of their parts and what is billed beside them; and ours."""


def _left_out(usage: Mapping[str, Any]) -> Iterator[Part]:
    iterations = usage.get("iterations")
    for iteration in iterations if isinstance(iterations, list) else ():
        row = fields_of(iteration)
        used = usage_of(row) if row.get("type") in LEFT_OUT else None
        if used is not None:
            yield Part(text(row.get("model")), used)


class MessageReader:
    """Follows a stream: its start tells the input, its `message_delta` everything so far, which is laid over that.

    Adding the two bills twice; the delta alone lacks the cache's split and, in older answers, the input.
    """

    __slots__ = ("chunks", "failed", "last", "letters", "message", "request_id", "told")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        self.request_id: str | None = request_id
        self.message: Any = None
        self.failed: ErrorEvent | None = None
        self.told: dict[str, Any] = {}
        self.chunks = 0
        self.letters = 0
        self.last: Any = None

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = event if type(event) is dict else getattr(event, "__dict__", NOTHING)
        kind = row.get("type")
        if kind == "content_block_delta":
            self.chunks += 1
            self.last = event
            delta = row.get("delta")
            row = delta if type(delta) is dict else getattr(delta, "__dict__", NOTHING)
            for name in GENERATED:
                piece = row.get(name)
                if type(piece) is str:
                    self.letters += len(piece)
        elif kind == "content_block_stop":
            self.last = None
        elif kind == "message_start":
            self.message = row.get("message")
        elif kind == "message_delta":
            told = fields_of(row.get("usage"))
            self.told.update({name: value for name, value in told.items() if value is not None})
        elif kind == "completion":
            self.message = event
            self.chunks += 1
        elif kind == "error":
            self.failed = ErrorEvent(fields_of(row.get("error")))
        return False

    def ending(self) -> list[Any]:
        """Return the events that end a message in the middle of a block as a bound does."""
        last = self.last
        if last is None:
            return []
        usage = made_like(last, "MessageDeltaUsage", output_tokens=max(self.chunks, self.letters // 4))
        stopped = made_like(last, "RawMessageDeltaEvent", type="message_delta", usage=usage)
        delta = made_like(stopped, "Delta", stop_reason="max_tokens", stop_sequence=None)
        return [
            made_like(last, "RawContentBlockStopEvent", type="content_block_stop", index=fields_of(last).get("index")),
            with_fields(stopped, delta=delta),
            made_like(last, "RawMessageStopEvent", type="message_stop"),
        ]

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far; without the last delta the output is an estimate from what was seen of it."""
        message = fields_of(self.message)
        error = self.failed if error is None else error  # one who reads bytes is told by the event alone
        outcome = _outcome({**fields_of(message.get("usage")), **self.told}, message)
        outcome.error = error
        outcome.observed_output = max(self.chunks, self.letters // 4)
        if self.request_id is not None:
            outcome.request_id = self.request_id
        if not self.told and outcome.usage is not None:
            _estimate_output(outcome, outcome.usage)
        if self.message is None and error is not None:  # an error in place of an answer, or a lost connection
            outcome.answered = False
        return outcome


class ErrorEvent(Exception):
    """An error that a stream tells after its status, of whose words only the `type` is kept."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__()
        self.type: str | None = text(told.get("type"))


NOTHING: Mapping[str, Any] = {}

GENERATED = ("text", "thinking", "partial_json")
"""Fields of a delta that hold what the model wrote."""


def _estimate_output(outcome: Outcome, usage: Usage) -> None:
    first = 0 if usage.output_tokens is None else usage.output_tokens
    usage.output_tokens = max(first, outcome.observed_output)
    if usage.total_tokens is not None:
        usage.total_tokens += usage.output_tokens - first
    outcome.estimated = True
