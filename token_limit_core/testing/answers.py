"""The content of an answer, before it is encoded in the format of its endpoint."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from .replies import Counts, inputs_of, pieces, prompt_tokens, reply_to

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Answer:
    """Tokens per choice, whether they were cut at the request's maximum, and the counts to report, if any."""

    body: Json
    model: str
    choices: list[list[str]]
    cut: bool
    counts: Counts | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def finish_reason(self) -> str:
        """The finish reason, in the terms of the completions endpoints."""
        return "length" if self.cut else "stop"

    @property
    def include_usage(self) -> bool:
        """Whether a stream was asked to report usage."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


def answer_to(body: Json, model: str, text: str | None) -> Answer:
    """Compose an answer: `text`, or a generated reply, once per choice and prompt."""
    tokens = pieces(reply_to(body) if text is None else text)
    limits = (body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    limit = next((limit for limit in limits if limit is not None), len(tokens))
    prompts = len(inputs_of(body["prompt"])) if "prompt" in body else 1
    choices = [tokens[:limit] for _ in range(prompts * (body.get("n") or 1))]
    counts = Counts(prompt_tokens(body), sum(map(len, choices)))
    return Answer(body, model, choices, limit < len(tokens), counts)


def event(data: Json, name: str | None = None) -> bytes:
    """Encode one server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def with_usage(body: Json, usage: Json | None) -> Json:
    """Add `usage` to a body, unless none is to be reported."""
    return body if usage is None else body | {"usage": usage}
