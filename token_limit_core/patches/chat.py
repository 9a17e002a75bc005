"""OpenAI's protocol, which most providers speak: how chats, completions and embeddings answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..calls.request import Outcome
from ..events import made_of
from ..usage import Usage
from .costs import reported_cost
from .reading import count, fields_of, text, with_fields
from .whole import ErrorAnswer


def read_answer(answer: Any) -> Outcome:
    """Read a whole answer, parsed or as JSON."""
    row = fields_of(answer)
    usage = fields_of(row.get("usage")) or _usage_elsewhere(row)
    model = text(row.get("model"))
    outcome = Outcome(_searched(usage_of(usage), model), model, text(row.get("id")), cost_usd=reported_cost(usage))
    if row.get("service_tier") is not None:
        outcome.service_tier = text(row["service_tier"])
    return outcome


def _searched(usage: Usage | None, model: str | None) -> Usage | None:
    """Count the search of a model that searches before each answer, as OpenAI's search models do without saying so."""
    if usage is not None and model is not None and "-search-" in model and SEARCH_MODELS.search(model):
        usage.web_searches = 1
    return usage


SEARCH_MODELS = re.compile(r"gpt-[\w.-]+-search-(preview|api)")


def usage_of(usage: Any) -> Usage | None:
    """Read a usage object of chat style (`prompt_tokens`) or responses style (`input_tokens`), parsed or JSON.

    Cached, reasoning and audio counts are parts of their totals. The SDK checks nothing:
    what is no count is not reported, and None means that no count was there at all.
    """
    row = fields_of(usage)
    chat = "prompt_tokens" in row
    totals, details = CHAT if chat else RESPONSES
    counts: dict[str, Any] = {}
    for name, value in row.items():
        if type(value) is int:
            if name in totals and value >= 0:
                counts[totals[name]] = value
        elif value is not None and name in details:
            _take(counts, fields_of(value), details[name])
    if "output_tokens" not in counts:
        if "input_tokens" not in counts:
            if "total_tokens" not in counts:
                return None
            counts["input_tokens"] = counts["total_tokens"]  # some embeddings report only the total
        left = counts.get("total_tokens", 0) - counts["input_tokens"]
        if chat or left > 0:
            counts["output_tokens"] = max(left, 0)  # embeddings report a prompt only
    elif "input_tokens" not in counts:
        if counts.get("total_tokens", 0) > counts["output_tokens"]:
            counts["input_tokens"] = counts["total_tokens"] - counts["output_tokens"]
    elif counts.get("reasoning_tokens"):
        _add_reasoning_left_out(counts)
    if "cached_tokens" not in counts and not CACHED_ELSEWHERE.isdisjoint(row):
        _take_cached_elsewhere(counts, row)
    return made_of(Usage, counts)


_INPUT = {
    "cached_tokens": "cached_tokens",
    "cache_write_tokens": "cache_creation_tokens",
    "audio_tokens": "audio_input_tokens",
    "image_tokens": "input_image_tokens",
}
_OUTPUT = {
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "audio_output_tokens",
    "image_tokens": "output_image_tokens",
}
CHAT = (
    {
        "prompt_tokens": "input_tokens",
        "completion_tokens": "output_tokens",
        "total_tokens": "total_tokens",
        "prompt_audio_seconds": "duration_seconds",  # Mistral's
        "num_sources_used": "web_searches",  # xAI's
    },
    {"prompt_tokens_details": _INPUT, "completion_tokens_details": _OUTPUT},
)
RESPONSES = (
    {"input_tokens": "input_tokens", "output_tokens": "output_tokens", "total_tokens": "total_tokens"},
    {"input_tokens_details": _INPUT, "output_tokens_details": _OUTPUT},
)
"""The names of the totals and of their parts in the two styles, and ours for them."""

CACHED = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
CACHED_ELSEWHERE = frozenset((*CACHED, "prompt_token_details"))
"""Fields in which Together, Mistral and DeepSeek report cached tokens."""


def _take(counts: dict[str, Any], row: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Take the counts of a part over under our names."""
    for name, value in row.items():
        if type(value) is int and value >= 0 and name in names:
            counts[names[name]] = value


def _add_reasoning_left_out(counts: dict[str, Any]) -> None:
    """Add the reasoning to the output where only the total has it: xAI leaves it out of the completion."""
    whole = counts.get("input_tokens", 0) + counts["output_tokens"] + counts["reasoning_tokens"]
    if counts.get("total_tokens") == whole:
        counts["output_tokens"] += counts["reasoning_tokens"]


def _take_cached_elsewhere(counts: dict[str, Any], row: Mapping[str, Any]) -> None:
    within = fields_of(row.get("prompt_token_details")).get("cached_tokens")
    for value in (*map(row.get, CACHED), within):
        if count(value) is not None:
            counts["cached_tokens"] = value
            return


class StreamReader:
    """Keeps of a stream what its event needs; the last usage that is not null counts, never a sum."""

    __slots__ = ("answer", "chunks", "first", "injected", "letters", "request_id", "usage")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        self.request_id: str | None = request_id
        self.injected: bool = injected
        self.usage: Any = None
        self.first: Any = None
        self.answer: Any = None
        self.chunks: int = 0
        self.letters: int = 0

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        row = fields_of(self.answer)
        request_id = self.request_id or text(fields_of(self.first).get("id")) or text(row.get("id"))
        usage, model = fields_of(self.usage), text(row.get("model"))
        return Outcome(
            usage=_searched(usage_of(usage), model),
            cost_usd=reported_cost(usage),
            model=model,
            request_id=request_id,
            service_tier=text(row.get("service_tier")),
            error=error,
            observed_output=self.observed(),
        )

    def observed(self) -> int:
        """Estimate the output tokens seen so far."""
        return max(self.chunks - 1, self.letters // 4, 0)


EACH_OF_FIRST = 16
SAMPLE = 8
"""Of the chunks after the first ones every eighth is looked into: that takes longer than all else done to one."""


class ChoicesReader(StreamReader):
    """Follows a chat or completions stream. Each chunk costs: declared fields are read without `fields_of`."""

    __slots__ = ()

    def see(self, chunk: Any) -> bool:
        """Look at a chunk; hide the one that is there only because we asked for usage."""
        self.answer = chunk
        row = chunk if type(chunk) is dict else chunk.__dict__
        usage = row.get("usage")
        if usage is not None:
            self.usage = usage
            if not row.get("choices"):
                return self.injected
        seen = self.chunks = self.chunks + 1
        if seen <= EACH_OF_FIRST or not seen % SAMPLE:
            self._look(chunk, row, 1 if seen <= EACH_OF_FIRST else SAMPLE)
        return False

    def _look(self, chunk: Any, row: Mapping[str, Any], weight: int) -> None:
        """Count the letters of a chunk, for as many as it stands for; keep the first, as Groq's last has another id."""
        if self.first is None:
            self.first = chunk
        choices = row.get("choices")
        if choices:
            choice = fields_of(choices[0])
            words = fields_of(choice.get("delta")).get("content") or choice.get("text")
            if words:
                self.letters += len(words) * weight

    def ending(self) -> list[Any]:
        """Return the chunk that ends each choice as a bound does."""
        row = fields_of(self.answer)
        choices = row.get("choices")
        ends = [
            with_fields(choice, finish_reason="length", **_nothing_more(fields_of(choice)))
            for choice in (choices if isinstance(choices, list) else ())
        ]
        return [with_fields(self.answer, choices=ends, usage=None)] if ends else []

    def outcome(self, error: BaseException | None) -> Outcome:
        """Report what was used so far."""
        if self.usage is None:
            self.usage = _usage_elsewhere(fields_of(self.answer)) or None
        chunk = fields_of(self.answer) if error is None else _chunk_of(error)
        if self.usage is None and error is not None:
            self.usage = chunk.get("usage")
        outcome = super().outcome(error)
        if chunk.get("error"):
            outcome.error = ErrorAnswer(chunk["error"]) if error is None else error
            outcome.answered = self.chunks - (error is None) > 1 or self.letters > 0
        return outcome


def _nothing_more(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a choice that says nothing: a chat's delta, or a completion's text."""
    if "delta" not in choice:
        return {"text": ""}
    delta = choice["delta"]
    return {"delta": with_fields(delta, **dict.fromkeys(fields_of(delta)))}


def _usage_elsewhere(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the usage in an answer or the last chunk of a stream that has none at its top.

    Groq reports it in `x_groq` to a caller that has not asked for it, Moonshot in the choice.
    """
    choices = row.get("choices")
    choice = fields_of(choices[0]) if isinstance(choices, list) and choices else {}
    return fields_of(fields_of(row.get("x_groq")).get("usage")) or fields_of(choice.get("usage"))


def _chunk_of(error: BaseException) -> Mapping[str, Any]:
    """Find the chunk of an error. The SDK raises in its place, and OpenRouter reports the usage in it.

    It is nowhere but among the variables of the SDK's own frame.
    """
    trace = error.__traceback__
    while trace is not None:
        data = trace.tb_frame.f_locals.get("data")
        if isinstance(data, Mapping) and "error" in data:
            return data
        trace = trace.tb_next
    return {}
