"""Google's batches, on the Gemini API and on Vertex: what they hold, and what their state reports."""

from __future__ import annotations

import re
from typing import Any

from ..calls.request import Outcome, Request
from ..usage import Usage
from .batches import count_requests, ended, guess, read_queued, sum_of_answers
from .gemini import Row, list_of, max_output_of, model_name, read_content, row_of
from .reading import text

BATCHES = "batches"

MADE = re.compile(r":(batchGenerateContent|asyncBatchEmbedContent)$|(^|/)batchPredictionJobs$")
RETRIEVED = re.compile(r"(^|/)(batches|batchPredictionJobs)/[^/:]+$")
"""Paths of the POSTs that make a batch, and of the GETs of its state."""

EMBEDS = "asyncBatchEmbedContent"


def is_about_batch(method: str, path: str) -> bool:
    """Tell whether a request makes a batch, or asks for the state of one."""
    return bool((MADE if method.lower() == "post" else RETRIEVED).search(path)) and method.lower() in ("post", "get")


def refine(request: Request, method: str, path: str) -> None:
    """Complete the request of a batch: count the requests that it contains, or guess those of its file."""
    request.later = method.lower() == "get"
    if not request.later:
        request.model = model_name(text(request.body.get("model")) or path.rpartition(":")[0]) or ""
    config = row_of(row_of(request.body.get("batch")).get("inputConfig"))
    rows = [row_of(row_of(row).get("request")) for row in list_of(row_of(config.get("requests")).get("requests"))]
    embeds = path.endswith(EMBEDS)
    if rows:
        model = request.model  # a row names it in another form
        asked = [{**row, "model": model_name(text(row.get("model"))) or model} for row in rows]
        count_requests(request, asked, lambda row: 0 if embeds else max_output_of(row))
    else:
        guess(request)
        request.max_output = 0 if embeds else None


def read_batch(request: Request, answer: Row) -> Outcome:
    """Read a batch that was made, or its state. One that contains its answers reports what they used."""
    if not request.later:
        return read_queued(answer)
    state = row_of(answer.get("metadata")) or answer  # an operation of the Gemini API, a job of Vertex
    output = row_of(state.get("output")) or row_of(answer.get("response"))
    outcome = sum_of_answers([_read_answer(row_of(row.get("response"))) for row in _answered(output)])
    outcome.model = outcome.model or model_name(text(state.get("model")))
    done = row_of(state.get("batchStats")).get("successfulRequestCount")
    done = row_of(state.get("completionStats")).get("successfulCount") if done is None else done
    answered = int(done) if isinstance(done, (int, str)) and str(done).isdigit() else None
    return ended(outcome, answer.get("name"), state.get("state"), answered, output or state.get("outputInfo"))


def _answered(output: Row) -> list[Row]:
    """Return the answers that a batch contains, without those that failed."""
    kinds = ("inlinedResponses", "inlinedEmbedContentResponses")
    rows = [row_of(row) for kind in kinds for row in list_of(row_of(output.get(kind)).get("inlinedResponses"))]
    return [row for row in rows if row.get("response")]


def _read_answer(answer: Row) -> Outcome:
    """Read one answer: content, or an embedding, which reports its tokens as a number or a text."""
    tokens: Any = answer.get("tokenCount")
    if tokens is not None and str(tokens).isdigit():
        return Outcome(Usage(input_tokens=int(tokens)))
    return read_content(answer)
