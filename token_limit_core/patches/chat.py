"""OpenAI's protocol, which most providers speak: how chats, completions and embeddings answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..outcome import Outcome
from ..usage import Usage
from .reading import count, fields_of, text


def read_answer(answer: Any) -> Outcome:
    """Read a whole answer, parsed or as JSON."""
    row = fields_of(answer)
    return Outcome(
        usage=usage_of(row.get("usage")),
        model=text(row.get("model")),
        request_id=text(row.get("id")),
        service_tier=text(row.get("service_tier")),
    )


def usage_of(usage: Any) -> Usage | None:
    """Read a usage object of chat style (`prompt_tokens`) or responses style (`input_tokens`), parsed or JSON.

    Cached, reasoning and audio counts are parts of their totals (research: sdks section 4). The SDK checks nothing:
    what is no count is not reported, and None means that no count was there at all.
    """
    row = fields_of(usage)
    chat = "prompt_tokens" in row
    spent = fields_of(row.get("prompt_tokens_details" if chat else "input_tokens_details"))
    made = fields_of(row.get("completion_tokens_details" if chat else "output_tokens_details"))
    received = count(row.get("prompt_tokens" if chat else "input_tokens"))
    generated = count(row.get("completion_tokens" if chat else "output_tokens"))
    total = count(row.get("total_tokens"))
    if received is None and generated is None:
        if total is None:
            return None
        received = total  # some embeddings tell nothing else
    cached = count(spent.get("cached_tokens"))
    reasoning = count(made.get("reasoning_tokens"))
    if reasoning and generated is not None and total == (received or 0) + generated + reasoning:
        generated += reasoning  # xAI leaves it out of the completion
    return Usage.told(
        input_tokens=received,
        output_tokens=0 if generated is None and chat else generated,  # embeddings report a prompt only
        total_tokens=total,
        cached_tokens=_cached_elsewhere(row) if cached is None else cached,
        cache_creation_tokens=count(spent.get("cache_write_tokens")),
        reasoning_tokens=reasoning,
        audio_input_tokens=count(spent.get("audio_tokens")),
        audio_output_tokens=count(made.get("audio_tokens")),
        input_image_tokens=count(spent.get("image_tokens")),
        output_image_tokens=count(made.get("image_tokens")),
    )


def _cached_elsewhere(row: Mapping[str, Any]) -> int | None:
    """Find the cached tokens where Together, Mistral and DeepSeek tell them."""
    for name in ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"):
        if (cached := count(row.get(name))) is not None:
            return cached
    return count(fields_of(row.get("prompt_token_details")).get("cached_tokens"))


class StreamReader:
    """Keeps of a stream what its event needs; the last usage that is not null counts, never a sum."""

    __slots__ = ("answer", "chunks", "first", "injected", "letters", "request_id", "usage")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        self.request_id = request_id
        self.injected = injected
        self.usage: Any = None
        self.first: Any = None
        self.answer: Any = None
        self.chunks = 0
        self.letters = 0

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        row = fields_of(self.answer)
        request_id = self.request_id or text(fields_of(self.first).get("id")) or text(row.get("id"))
        return Outcome(
            usage=usage_of(self.usage),
            model=text(row.get("model")),
            request_id=request_id,
            service_tier=text(row.get("service_tier")),
            error=error,
            observed_output=self.observed(),
        )

    def observed(self) -> int:
        """Estimate the output tokens seen so far."""
        return max(self.chunks - 1, self.letters // 4, 0)


class ChoicesReader(StreamReader):
    """Follows a chat or completions stream. Each chunk costs: declared fields are read without `fields_of`."""

    __slots__ = ()

    def see(self, chunk: Any) -> bool:
        """Look at a chunk; hide the one that is there only because we asked for usage."""
        self.answer = chunk
        if self.first is None:  # Groq's last one may have another id
            self.first = chunk
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
                words = (delta if type(delta) is dict else delta.__dict__).get("content")
            else:
                words = row.get("text")
            if words:
                self.letters += len(words)
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far; Groq tells a caller that did not ask in the last chunk's `x_groq`."""
        if self.usage is None:
            self.usage = fields_of(fields_of(self.answer).get("x_groq")).get("usage")
        if self.usage is None and error is not None:
            self.usage = _chunk_of(error).get("usage")
        return super().outcome(error)


def _chunk_of(error: BaseException) -> Mapping[str, Any]:
    """Find the chunk that an error came in: the SDK raises in its place, and OpenRouter tells the usage in it.

    It is nowhere but among the variables of the SDK's own frame.
    """
    trace = error.__traceback__
    while trace is not None:
        data = trace.tb_frame.f_locals.get("data")
        if isinstance(data, Mapping) and "error" in data:
            return data
        trace = trace.tb_next
    return {}
