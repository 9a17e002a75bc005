"""What Gemini answers, and what that has cost: documents, chunks of streams, and interactions.

Facts about usage are measured on recorded traffic (corpus README, Gemini): thoughts are outside the candidates,
tool-use prompts outside the prompt, and what is cached inside it. Each chunk of a stream tells all so far: the last
one counts, as the counts may shrink on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..outcome import Outcome
from ..usage import Usage
from .reading import count, event_id_of, text

Row = Mapping[str, Any]


def read_content(answer: Row) -> Outcome:
    """Read an answer of `generateContent` or of the embedding calls that are like it."""
    model, usage = text(answer.get("modelVersion")), usage_of(_row(answer.get("usageMetadata")))
    if usage is not None:
        usage.web_searches = billed_searches(model, _queries(answer))
    return Outcome(
        usage=usage,
        model=model,
        request_id=text(answer.get("responseId")),
        service_tier=_tier(_row(answer.get("usageMetadata")).get("serviceTier")),
    )


def billed_searches(model: str | None, queries: int | None) -> int | None:
    """Return how many Google searches are billed: each query, but one for a whole prompt before Gemini 3.

    Source: "Grounding with Google Search" at ai.google.dev/gemini-api/docs, read in September 2026.
    """
    if not queries:
        return None
    return 1 if PER_PROMPT.match(model_name(model) or "") else queries


PER_PROMPT = re.compile(r"gemini-[12]\b")


def _queries(answer: Row) -> int:
    """Count the searches behind an answer; empty queries, which Gemini 3 lists, are not billed."""
    told = [_row(_row(candidate).get("groundingMetadata")) for candidate in _list(answer.get("candidates"))]
    return sum(text(query) is not None for row in told for query in _list(row.get("webSearchQueries")))


def read_prediction(answer: Row) -> Outcome:
    """Read an answer of Vertex's `predict`: images, which are counted, or embeddings, which tell their tokens each."""
    rows = [_row(prediction) for prediction in _list(answer.get("predictions"))]
    embedded = [count(_row(_row(row.get("embeddings")).get("statistics")).get("token_count")) for row in rows]
    if any("embeddings" in row for row in rows):
        return Outcome(usage=Usage(input_tokens=_sum(*embedded)))
    return Outcome(usage=Usage(image_count=sum("bytesBase64Encoded" in row or "gcsUri" in row for row in rows)))


def read_interaction(answer: Row) -> Outcome:
    """Read a whole interaction. One in the background tells its usage when it is asked for again, maybe often.

    Nothing in it tells whether it is such a one, so each has an event id made from its own, and counts once.
    """
    outcome = _interaction(answer)
    return _waiting(outcome) if outcome.usage is None and answer.get("status") in WAITING else outcome


WAITING = frozenset({"queued", "in_progress"})


def _interaction(answer: Row) -> Outcome:
    model, its_id = text(answer.get("model")) or text(answer.get("agent")), text(answer.get("id"))
    usage = _interaction_usage(_row(answer.get("usage")), model)
    return Outcome(
        usage=usage,
        model=model,
        request_id=its_id,
        service_tier=_tier(answer.get("service_tier")),
        event_id=None if usage is None else _event_id(its_id),
    )


def _waiting(outcome: Outcome) -> Outcome:
    """Let an interaction that goes on in the background cost nothing yet."""
    outcome.usage, outcome.event_id = Usage(input_tokens=0, output_tokens=0), None
    outcome.tags = {"background": True}
    return outcome


def _event_id(its_id: str | None) -> str | None:
    return None if its_id is None else event_id_of("interaction", its_id)


def usage_of(row: Row) -> Usage | None:
    """Read `usageMetadata`; a count of zero is left out on the wire, so None means that no count was there at all."""
    received = [*_list(row.get("promptTokensDetails")), *_list(row.get("toolUsePromptTokensDetails"))]
    return _usage(
        Usage(
            input_tokens=_sum(count(row.get("promptTokenCount")), count(row.get("toolUsePromptTokenCount"))),
            output_tokens=_sum(count(row.get("candidatesTokenCount")), count(row.get("thoughtsTokenCount"))),
            total_tokens=count(row.get("totalTokenCount")),
            cached_tokens=count(row.get("cachedContentTokenCount")),
            reasoning_tokens=count(row.get("thoughtsTokenCount")),
        ),
        received,
        _list(row.get("cacheTokensDetails")),
        _list(row.get("candidatesTokensDetails")),
    )


def _interaction_usage(row: Row, model: str | None) -> Usage | None:
    tools = map(_row, _list(row.get("grounding_tool_count")))
    searches = _sum(*(count(tool.get("count")) for tool in tools if tool.get("type") == "google_search"))
    received = [*_list(row.get("input_tokens_by_modality")), *_list(row.get("tool_use_tokens_by_modality"))]
    return _usage(
        Usage(
            input_tokens=_sum(count(row.get("total_input_tokens")), count(row.get("total_tool_use_tokens"))),
            output_tokens=_sum(count(row.get("total_output_tokens")), count(row.get("total_thought_tokens"))),
            total_tokens=count(row.get("total_tokens")),
            cached_tokens=count(row.get("total_cached_tokens")),
            reasoning_tokens=count(row.get("total_thought_tokens")),
            web_searches=billed_searches(model, searches),
        ),
        received,
        _list(row.get("cached_tokens_by_modality")),
        _list(row.get("output_tokens_by_modality")),
    )


def _usage(usage: Usage, received: list[Any], cached: list[Any], generated: list[Any]) -> Usage | None:
    """Add what is sound, picture or film, which may have prices of their own."""
    if usage.input_tokens is None and usage.output_tokens is None and usage.total_tokens is None:
        return None
    usage.audio_input_tokens = _of(received, "audio")
    usage.input_image_tokens = _of(received, "image")
    usage.input_video_tokens = _of(received, "video")
    usage.cached_audio_tokens = _of(cached, "audio")
    usage.cached_input_image_tokens = _of(cached, "image")
    usage.audio_output_tokens = _of(generated, "audio")
    usage.output_image_tokens = _of(generated, "image")
    usage.output_video_tokens = _of(generated, "video")
    return usage


def _of(details: list[Any], modality: str) -> int | None:
    """Add up the tokens of one modality (`TEXT`, or `text` in interactions); None when there are none of it."""
    rows = [_row(detail) for detail in details]
    counts = [row.get("tokenCount", row.get("tokens")) for row in rows if str(row.get("modality")).lower() == modality]
    return _sum(*map(count, counts))


class ChunkReader:
    """Follows a content stream, chunk by chunk as JSON text: only the last one that tells usage is read."""

    __slots__ = ("_finished", "_grounded", "_letters", "_told")

    def __init__(self) -> None:
        self._told: Any = None
        self._grounded: Any = None
        self._letters = 0
        self._finished = False

    def see(self, chunk: Any) -> bool:
        """Look at a chunk; none is ever hidden. Quotes inside the answer's text are escaped, so these are keys."""
        body = getattr(chunk, "body", chunk)
        if isinstance(body, str):
            ends = '"finishReason"' in body or '"promptFeedback"' in body
            tells = '"usageMetadata"' in body
            if '"groundingMetadata"' in body:
                self._grounded = body
        else:
            ends, tells = False, False
        if not tells:
            row = document_of(chunk)
            ends = ends or "promptFeedback" in row
            tells = "usageMetadata" in row
            self._letters += _letters(row)
        if tells or self._told is None:
            self._told = body
        self._finished = self._finished or ends
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        outcome = _so_far(read_content(document_of(self._told)), error, self._finished, self._letters)
        if outcome.usage is not None and self._grounded is not None:
            outcome.usage.web_searches = billed_searches(outcome.model, _queries(document_of(self._grounded)))
        outcome.answered = self._told is not None
        return outcome


class InteractionReader:
    """Follows the events of an interaction's stream: its usage comes with the event that ends it.

    One that `goes_on` in the background when its stream is left can be asked for again.
    """

    __slots__ = ("_goes_on", "_interaction", "_letters", "_usage")

    def __init__(self, goes_on: bool = False) -> None:
        self._goes_on = goes_on
        self._interaction: Row = {}
        self._usage: Any = None
        self._letters = 0

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = _row(event)
        told = _row(row.get("interaction"))
        if told:
            self._interaction = told
        self._usage = _row(row.get("metadata")).get("usage", self._usage)
        words = text(_row(row.get("delta")).get("text"))
        if words is not None:
            self._letters += len(words)
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        told = self._interaction
        finished = told.get("usage") is not None
        outcome = _interaction(told if finished else {**told, "usage": self._usage})
        if self._goes_on and not finished:
            outcome.error = error
            return _waiting(outcome)
        outcome.event_id = _event_id(outcome.request_id)
        return _so_far(outcome, error, finished, self._letters)


def _so_far(outcome: Outcome, error: BaseException | None, finished: bool, letters: int) -> Outcome:
    """Finish the outcome of a stream; the usage of one that was left or broke off is only what was told until then."""
    outcome.error = error
    outcome.observed_output = letters // 4
    if outcome.usage is not None and not finished:
        outcome.tags = {"estimated": True}
    return outcome


def document_of(answer: Any) -> Row:
    """Give the JSON object in an answer of the SDK: text in its `body`, or a dict in releases before 1.50."""
    body = getattr(answer, "body", answer)
    if isinstance(body, (str, bytes)):
        try:
            body = json.loads(body)
        except ValueError:
            return {}
    return _row(body)


def model_name(model: Any) -> str | None:
    """Give a model's name without where it is: `publishers/google/models/` on Vertex, `models/` elsewhere."""
    return model.rpartition("/")[2] or None if isinstance(model, str) else None


def _letters(row: Row) -> int:
    parts = [
        part
        for candidate in _list(row.get("candidates"))
        for part in _list(_row(_row(candidate).get("content")).get("parts"))
    ]
    return sum(len(words) for part in parts if (words := text(_row(part).get("text"))) is not None)


def _row(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sum(*counts: int | None) -> int | None:
    known = [number for number in counts if number is not None]
    return sum(known) if known else None


def _tier(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) and value else None
