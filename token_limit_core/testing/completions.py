"""Chat completions, legacy completions and embeddings in OpenAI's wire format."""

from __future__ import annotations

from collections.abc import Iterator

from .answers import DONE, Answer, Json, event, with_usage
from .faults import error_body
from .replies import Counts, embedding, inputs_of

FINGERPRINT = "fp_44709d6fcb"


def _chat_usage(counts: Counts | None) -> Json | None:
    if counts is None:
        return None
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_body(answer: Answer) -> Json:
    """Encode a chat completion."""
    choices: list[Json] = [
        {
            "index": index,
            "message": {"role": "assistant", "content": "".join(tokens), "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        for index, tokens in enumerate(answer.choices)
    ]
    return with_usage(_chat_head(answer, "chat.completion") | {"choices": choices}, _chat_usage(answer.counts))


def chat_events(answer: Answer) -> Iterator[bytes]:
    """Encode a chat completion as a stream, with the usage chunk if it was requested."""
    head = _chat_head(answer, "chat.completion.chunk")

    def chunk(index: int, delta: Json, finish_reason: str | None = None) -> Json:
        return {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}

    def chunks() -> Iterator[Json]:
        for index, tokens in enumerate(answer.choices):
            yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
            for token in tokens:
                yield chunk(index, {"content": token})
            yield chunk(index, {}, answer.finish_reason)

    return _completion_events(answer, head, chunks(), _chat_usage(answer.counts))


def _chat_head(answer: Answer, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _completion_events(answer: Answer, head: Json, chunks: Iterator[Json], usage: Json | None) -> Iterator[bytes]:
    asked: Json = {"usage": None} if answer.include_usage else {}
    for chunk in chunks:
        yield event(head | chunk | asked)
    if answer.include_usage and usage is not None:
        yield event(head | {"choices": [], "usage": usage})
    yield DONE


def _completion_usage(counts: Counts | None) -> Json | None:
    if counts is None:
        return None
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens,
    }


def completion_body(answer: Answer) -> Json:
    """Encode a legacy completion."""
    choices: list[Json] = [
        {"text": "".join(tokens), "index": index, "logprobs": None, "finish_reason": answer.finish_reason}
        for index, tokens in enumerate(answer.choices)
    ]
    return with_usage(_completion_head(answer) | {"choices": choices}, _completion_usage(answer.counts))


def completion_events(answer: Answer) -> Iterator[bytes]:
    """Encode a legacy completion as a stream."""

    def chunks() -> Iterator[Json]:
        for index, tokens in enumerate(answer.choices):
            for token in tokens:
                yield {"choices": [{"text": token, "index": index, "logprobs": None, "finish_reason": None}]}
            yield {"choices": [{"text": "", "index": index, "logprobs": None, "finish_reason": answer.finish_reason}]}

    return _completion_events(answer, _completion_head(answer), chunks(), _completion_usage(answer.counts))


def completion_error(number: int) -> bytes:
    """Encode the error that ends a stream of chunks."""
    return event(error_body(500))


def _completion_head(answer: Answer) -> Json:
    return {
        "id": f"cmpl-{answer.id}",
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": FINGERPRINT,
    }


def embedding_body(answer: Answer) -> Json:
    """Encode embeddings."""
    dimensions = answer.body.get("dimensions") or 1536
    encoding = answer.body.get("encoding_format") or "float"
    data = [
        {"object": "embedding", "index": index, "embedding": embedding(item, dimensions, encoding)}
        for index, item in enumerate(inputs_of(answer.body["input"]))
    ]
    usage = None
    if answer.counts is not None:
        usage = dict.fromkeys(("prompt_tokens", "total_tokens"), answer.counts.prompt_tokens)
    return with_usage({"object": "list", "data": data, "model": answer.model}, usage)
