"""What Cohere answers: the tokens it counts, and the units it bills, which are fewer (102 of 104 recorded)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..calls.request import Outcome
from ..usage import Usage
from .reading import fields_of, text

Row = Mapping[str, Any]

UNITS = {"search_units": "rerank_searches", "pages": "document_pages", "image_tokens": "input_image_tokens"}
"""What is billed beside the text, and our names for it."""


def read(answer: Any) -> Outcome:
    """Read an answer of the first API or the second: their usage is the same object under two names."""
    row = fields_of(answer)
    outcome = usage_of(row.get("usage") or row.get("meta"))
    outcome.model = text(row.get("model"))
    outcome.request_id = next((its_id for its_id in map(text, map(row.get, IDS)) if its_id is not None), None)
    return outcome


IDS = ("response_id", "id", "generation_id")


def usage_of(reported: Any) -> Outcome:
    """Read a usage object; the counts of tokens go on the event, the units make the cost."""
    row = fields_of(reported)
    tokens, units = fields_of(row.get("tokens")), fields_of(row.get("billed_units"))
    others: dict[str, Any] = {ours: _count(units.get(theirs)) for theirs, ours in UNITS.items()}
    billed = _tokens(units)
    counted = _tokens(tokens) if tokens else billed
    if counted == (None, None) and not any(number is not None for number in others.values()):
        return Outcome()
    usage = Usage(*counted, cached_tokens=_count(row.get("cached_tokens")), **others)
    if not units:
        return Outcome(usage)
    pictures = others["input_image_tokens"]
    received = billed[0] if pictures is None else (billed[0] or 0) + pictures
    return Outcome(usage, billed=Usage(received, billed[1], **others))


def usage_in_text(row: Row) -> Usage | None:
    """Read the counts of a batch, which are texts; None where there are none."""
    received, generated = (
        int(told) if isinstance(told := row.get(name), str) and told.isdigit() else None
        for name in ("input_tokens", "output_tokens")
    )
    return None if received is None and generated is None else Usage(received, generated)


def _tokens(row: Row) -> tuple[int | None, int | None]:
    return _count(row.get("input_tokens")), _count(row.get("output_tokens"))


def _count(value: Any) -> int | None:
    """Return a count; the API's own types are floats."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if known and 0 <= value < float("inf") else None


class UnitsReader:
    """Follows a stream of either API: server-sent events, or a line of JSON each."""

    __slots__ = ("_answer", "_block", "_id", "_letters", "_lines", "_usage")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        self._answer: Row = {}
        self._id: str | None = None
        self._usage: Any = None
        self._letters = 0
        self._lines = False
        self._block: Any = None
        """The number of the part that is being written."""

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = fields_of(event)
        whole, delta = fields_of(row.get("response")), fields_of(row.get("delta"))
        self._answer = whole or self._answer
        self._usage = whole.get("meta") or delta.get("usage") or self._usage
        self._id = self._id or text(row.get("id")) or text(row.get("generation_id"))
        kind = str(row.get("type"))
        self._lines = "event_type" in row
        if kind.endswith("-start") and "index" in row:
            self._block = (kind.removesuffix("-start"), row["index"])
        elif kind.endswith("-end"):
            self._block = None
        self._letters += _letters(row) + _letters(fields_of(delta.get("message")))
        return False

    def ending(self) -> list[Row]:
        """Return the events that end a stream as a bound does: of the second API, else of the first."""
        if self._lines:
            end = {"event_type": "stream-end", "is_finished": True, "finish_reason": "MAX_TOKENS", "response": None}
            return [end]
        block = [] if self._block is None else [{"type": f"{self._block[0]}-end", "index": self._block[1]}]
        return [*block, {"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}}]

    def outcome(self, error: BaseException | None) -> Outcome:
        """Report what was used so far."""
        outcome = usage_of(self._usage)
        outcome.error = error
        outcome.request_id = self._id or read(self._answer).request_id
        outcome.observed_output = self._letters // 4
        return outcome


def _letters(row: Row) -> int:
    """Count the letters of a piece of an answer, wherever they are."""
    content = fields_of(row.get("content"))
    tools = fields_of(fields_of(row.get("tool_calls")).get("function"))
    words = (
        row.get("text"),
        row.get("tool_plan"),
        content.get("text"),
        content.get("thinking"),
        tools.get("arguments"),
    )
    return sum(len(piece) for piece in words if isinstance(piece, str))
