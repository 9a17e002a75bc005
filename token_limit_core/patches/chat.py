"""OpenAI's protocol, which most providers speak: how chats, completions, embeddings and responses answer."""

from __future__ import annotations

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
    return Usage(
        input_tokens=received,
        output_tokens=0 if generated is None and chat else generated,  # embeddings report a prompt only
        total_tokens=total,
        cached_tokens=count(spent.get("cached_tokens")),
        cache_creation_tokens=count(spent.get("cache_write_tokens")),
        reasoning_tokens=count(made.get("reasoning_tokens")),
        audio_input_tokens=count(spent.get("audio_tokens")),
        audio_output_tokens=count(made.get("audio_tokens")),
    )


class StreamReader:
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
            model=text(row.get("model")),
            request_id=text(row.get("id")) if self.request_id is None else self.request_id,
            service_tier=text(row.get("service_tier")),
            error=error,
            observed_output=max(self.chunks - 1, self.letters // 4, 0),
        )


class ChoicesReader(StreamReader):
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
                words = (delta if type(delta) is dict else delta.__dict__).get("content")
            else:
                words = row.get("text")
            if words:
                self.letters += len(words)
        return False


class EventReader(StreamReader):
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
            words = row.get("delta")
            if isinstance(words, str):
                self.letters += len(words)
        return False


ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
