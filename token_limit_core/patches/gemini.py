"""What Gemini answers, and what that has cost: documents, and chunks of streams.

Facts about usage are measured on recorded traffic (corpus README, Gemini): thoughts are outside the candidates,
tool-use prompts outside the prompt, and what is cached inside it. Each chunk of a stream reports all so far: the last
one counts, as the counts may shrink on the way.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from ..calls.request import Outcome
from ..usage import Usage
from .reading import count, text

Row = Mapping[str, Any]


def read_content(answer: Row) -> Outcome:
    """Read an answer of `generateContent` or of the embedding calls that are like it."""
    model, usage = text(answer.get("modelVersion")), usage_of(row_of(answer.get("usageMetadata")))
    if usage is not None:
        usage.web_searches = billed_searches(model, _queries(answer))
    return Outcome(
        usage=usage,
        model=model,
        request_id=text(answer.get("responseId")),
        service_tier=tier_of(row_of(answer.get("usageMetadata")).get("serviceTier")),
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
    grounding = [row_of(row_of(candidate).get("groundingMetadata")) for candidate in list_of(answer.get("candidates"))]
    return sum(text(query) is not None for row in grounding for query in list_of(row.get("webSearchQueries")))


def read_prediction(answer: Row) -> Outcome:
    """Read an answer of Vertex's `predict`: images, which are counted, or embeddings, which report their tokens."""
    rows = [row_of(prediction) for prediction in list_of(answer.get("predictions"))]
    embedded = [count(row_of(row_of(row.get("embeddings")).get("statistics")).get("token_count")) for row in rows]
    if any("embeddings" in row for row in rows):
        return Outcome(usage=Usage(input_tokens=sum_of(*embedded)))
    return Outcome(usage=Usage(image_count=sum("bytesBase64Encoded" in row or "gcsUri" in row for row in rows)))


def usage_of(row: Row) -> Usage | None:
    """Read `usageMetadata`; a count of zero is left out on the wire, so None means that no count was there at all."""
    received = [*list_of(row.get("promptTokensDetails")), *list_of(row.get("toolUsePromptTokensDetails"))]
    return with_modalities(
        Usage(
            input_tokens=sum_of(count(row.get("promptTokenCount")), count(row.get("toolUsePromptTokenCount"))),
            output_tokens=sum_of(_candidates(row), count(row.get("thoughtsTokenCount"))),
            total_tokens=count(row.get("totalTokenCount")),
            cached_tokens=count(row.get("cachedContentTokenCount")),
            reasoning_tokens=count(row.get("thoughtsTokenCount")),
        ),
        received,
        list_of(row.get("cacheTokensDetails")),
        list_of(row.get("candidatesTokensDetails")),
    )


def _candidates(row: Row) -> int | None:
    """Return the tokens of the candidates; where they are left out, what the total has beside all else."""
    reported, total = count(row.get("candidatesTokenCount")), count(row.get("totalTokenCount"))
    if reported is not None or total is None:
        return reported
    others = (count(row.get(f"{part}TokenCount")) for part in ("prompt", "toolUsePrompt", "thoughts"))
    left = total - sum(number for number in others if number is not None)
    return left if left > 0 else None


def with_modalities(usage: Usage, received: list[Any], cached: list[Any], generated: list[Any]) -> Usage | None:
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
    rows = [row_of(detail) for detail in details]
    counts = [row.get("tokenCount", row.get("tokens")) for row in rows if str(row.get("modality")).lower() == modality]
    return sum_of(*map(count, counts))


def max_output_of(body: Row) -> int | None:
    """Return the most tokens a call may generate: the bound, once for each candidate.

    Thoughts are inside the bound, whatever their budget: in 24 of 24 recorded answers with a bound, 5 of which it
    cut short.
    """
    config = body.get("generationConfig", body.get("generation_config"))
    if not isinstance(config, Mapping):
        return None
    bound = config.get("maxOutputTokens", config.get("max_output_tokens"))
    candidates = config.get("candidateCount")
    if not isinstance(bound, int):
        return None
    return bound * candidates if isinstance(candidates, int) else bound


class ChunkReader:
    """Follows a content stream, chunk by chunk as JSON text: of those that count the output only the last one is read.

    Some models count it in the last chunk alone, and on Vertex the others have usage without any count; what comes
    in those is measured, for a stream that is left before.
    """

    __slots__ = ("_chunk", "_counted", "_finished", "_grounded", "_letters", "_thoughts", "_reported")

    def __init__(self) -> None:
        self._chunk: Any = None
        self._reported: Any = None
        self._grounded: Any = None
        self._letters = self._thoughts = 0
        self._counted = self._finished = False

    def see(self, chunk: Any) -> bool:
        """Look at a chunk; none is ever hidden. Quotes inside the answer's text are escaped, so these are keys."""
        self._chunk = chunk
        body = getattr(chunk, "body", chunk)
        if isinstance(body, str):
            ends = '"finishReason"' in body or '"promptFeedback"' in body
            has_usage = '"usageMetadata"' in body
            counts = has_usage and '"candidatesTokenCount"' in body
            if '"groundingMetadata"' in body:
                self._grounded = body
        else:
            ends, has_usage, counts = False, False, False
        thought = False
        if not counts:
            row = document_of(chunk)
            usage = row_of(row.get("usageMetadata"))
            counts, thought = "candidatesTokenCount" in usage, "thoughtsTokenCount" in usage
            candidates = [row_of(candidate) for candidate in list_of(row.get("candidates"))]
            ends = ends or "promptFeedback" in row or any("finishReason" in each for each in candidates)
            has_usage = has_usage or bool(usage)
            if any("groundingMetadata" in each for each in candidates):
                self._grounded = row
            self._measure(row)
        if counts:
            self._letters = self._thoughts = 0  # each count is of all so far
        elif thought:
            self._thoughts = 0
        if counts or self._reported is None or (has_usage and (ends or not self._counted)):
            self._reported = body
        self._counted = self._counted or counts
        # one of several candidates may end before the others, whose output is counted only then
        self._finished = self._finished or (ends and (counts or thought or not self._letters))
        return False

    def _measure(self, row: Row) -> None:
        for candidate in list_of(row.get("candidates")):
            for part in map(row_of, list_of(row_of(row_of(candidate).get("content")).get("parts"))):
                words = text(part.get("text")) or ""
                if part.get("thought") is True:
                    self._thoughts += len(words)
                else:
                    self._letters += len(words)

    def ending(self) -> list[Any]:
        """Return the chunk that ends the answer as a bound does."""
        last = self._chunk
        if last is None or self._finished:
            return []
        row = document_of(self._reported)
        told = {name: row[name] for name in ("modelVersion", "responseId", "usageMetadata") if name in row}
        content = {"role": "model", "parts": [{"text": ""}]}
        ends = {**told, "candidates": [{"content": content, "index": 0, "finishReason": "MAX_TOKENS"}]}
        if isinstance(last, Mapping):
            return [ends]
        chunk = copy.copy(last)
        chunk.body = json.dumps(ends)
        return [chunk]

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        letters = self._letters + self._thoughts
        outcome = so_far(read_content(document_of(self._reported)), error, self._finished, letters)
        if outcome.usage is not None and self._grounded is not None:
            outcome.usage.web_searches = billed_searches(outcome.model, _queries(document_of(self._grounded)))
        outcome.answered = self._reported is not None
        return outcome


def so_far(outcome: Outcome, error: BaseException | None, finished: bool, letters: int) -> Outcome:
    """Complete the outcome of a stream. An incomplete one has used what was reported, and the letters since."""
    outcome.error = error
    outcome.observed_output = letters // 4
    usage = outcome.usage
    if usage is not None and not finished:
        usage.output_tokens = sum_of(usage.output_tokens, outcome.observed_output)
        usage.total_tokens = None
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
    return row_of(body)


def model_name(model: Any) -> str | None:
    """Give a model's name without where it is: `publishers/google/models/` on Vertex, `models/` elsewhere."""
    return model.rpartition("/")[2] or None if isinstance(model, str) else None


def row_of(value: Any) -> Row:
    """Give a JSON object; what is none has no fields."""
    return value if isinstance(value, Mapping) else {}


def list_of(value: Any) -> list[Any]:
    """Give a JSON array; what is none is empty."""
    return value if isinstance(value, list) else []


def sum_of(*counts: int | None) -> int | None:
    """Add up what was reported; None where nothing was."""
    known = [number for number in counts if number is not None]
    return sum(known) if known else None


def tier_of(value: Any) -> str | None:
    """Name a service tier as the price list does."""
    return value.lower() if isinstance(value, str) and value else None
