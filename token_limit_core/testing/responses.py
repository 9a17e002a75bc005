"""The Responses API in OpenAI's wire format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from .answers import Answer, Json, event
from .faults import error_body
from .replies import Counts

ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Request parameters that a response repeats, with their defaults."""


def response_body(answer: Answer) -> Json:
    """Encode a finished response."""
    return _response(answer, _status(answer), [_message(answer, _status(answer))], _usage(answer.counts))


def response_events(answer: Answer) -> Iterator[bytes]:
    """Encode a response as a stream of numbered events."""
    numbers = count()

    def emit(name: str, **fields: object) -> bytes:
        return event({"type": name, **fields, "sequence_number": next(numbers)}, name)

    text = "".join(answer.choices[0])
    at = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}
    started = _response(answer, "in_progress", [], None)
    yield emit("response.created", response=started)
    yield emit("response.in_progress", response=started)
    yield emit("response.output_item.added", output_index=0, item=_message(answer, "in_progress") | {"content": []})
    yield emit("response.content_part.added", **at, part=_part(""))
    for token in answer.choices[0]:
        yield emit("response.output_text.delta", **at, delta=token, logprobs=[])
    yield emit("response.output_text.done", **at, text=text, logprobs=[])
    yield emit("response.content_part.done", **at, part=_part(text))
    yield emit("response.output_item.done", output_index=0, item=_message(answer, _status(answer)))
    yield emit(f"response.{_status(answer)}", response=response_body(answer))


def response_error(number: int) -> bytes:
    """Encode the error that ends a stream of events, with this event number."""
    return event({"type": "error", "sequence_number": number, **error_body(500)}, "error")


def _status(answer: Answer) -> str:
    return "incomplete" if answer.cut else "completed"


def _response(answer: Answer, status: str, output: list[Json], usage: Json | None) -> Json:
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "background": False,
        "completed_at": answer.created if status == "completed" else None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": answer.model,
        "output": output,
        "service_tier": "default" if output else "auto",
        **{name: answer.body.get(name, default) for name, default in ECHOED.items()},
        "usage": usage,
    }


def _message(answer: Answer, status: str) -> Json:
    content = [_part("".join(answer.choices[0]))]
    return {"id": f"msg_{answer.id}", "type": "message", "status": status, "content": content, "role": "assistant"}


def _part(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _usage(counts: Counts | None) -> Json | None:
    if counts is None:
        return None
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.total_tokens,
    }
