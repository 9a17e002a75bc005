"""Complete answers of any protocol: errors under a status of 200, and an estimate where the usage is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..calls.request import Outcome
from .reading import fields_of, text


class ErrorAnswer(Exception):
    """An error that an answer of status 200 reports. Only its status, code and type are kept."""

    def __init__(self, reported: Any) -> None:
        super().__init__()
        row = fields_of(reported)
        code = next((row[name] for name in ("code", "status_code", "error_code") if row.get(name) is not None), None)
        self.status_code: int | None = code if isinstance(code, int) and 100 <= code <= 599 else None
        self.code: str | None = str(code) if isinstance(code, (str, int)) and self.status_code is None else None
        self.type: str | None = text(row.get("type"))


def read_whole(answer: Any, read: Callable[[Any], Outcome]) -> Outcome:
    """Read a complete answer.

    Without usage the output is estimated from the text. An error in place of an answer costs nothing.
    """
    outcome = read(answer)
    declared = answer if type(answer) is dict else getattr(answer, "__dict__", NOTHING)
    if outcome.usage is None or declared.get("error"):
        _complete(outcome, fields_of(answer))
    return outcome


NOTHING: Mapping[str, Any] = {}


def _complete(outcome: Outcome, row: Mapping[str, Any]) -> None:
    letters = letters_in(row)
    reported = _error_in(row, bool(letters) or any(row.get(name) for name in OUTPUTS))
    if reported is not None:
        outcome.error = ErrorAnswer(reported)
        used = outcome.usage is not None and any(outcome.usage.billable().values())
        if not letters and not used:
            outcome.usage, outcome.answered = None, False
    if not outcome.observed_output:
        outcome.observed_output = letters // 4


OUTPUTS = ("choices", "output", "outputs", "content", "candidates", "completion", "text", "data", "embeddings")
"""Fields of answers that contain the generated output."""

TEXTS = frozenset(
    {"content", "text", "reasoning", "reasoning_content", "thinking", "refusal", "arguments", "completion"}
)
"""Fields that contain text of the model, directly or deeper."""

ARGUMENTS = frozenset({"input", "args"})
"""Fields with the arguments of a tool: all text in them is the model's."""

AROUND = frozenset(
    {
        "choices",
        "output",
        "outputs",
        "candidates",
        "message",
        "tool_calls",
        "function",
        "functionCall",
        "parts",
        "summary",
    }
)
"""Fields that contain one of the fields above."""


def letters_in(answer: Any) -> int:
    """Count the characters that the model wrote in an answer of any protocol."""
    total, rest = 0, [(answer, False)]
    for value, inside in rest:
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, list):
            rest += [(item, inside) for item in value if inside or not isinstance(item, str)]
        else:
            for name, part in fields_of(value).items():
                if inside or name in ARGUMENTS:
                    rest.append((part, True))
                elif name in TEXTS or (name in AROUND and not isinstance(part, str)):
                    rest.append((part, False))
    return total


def _error_in(row: Mapping[str, Any], answered: bool) -> Any:
    """Return the error that a document reports, None for an answer."""
    if row.get("error"):
        return row["error"]
    if answered or row.get("usage"):
        return None
    base = fields_of(row.get("base_resp"))  # MiniMax
    if base.get("status_code"):
        return base
    errors = row.get("errors") or row.get("detail")
    if errors:
        return errors[0] if isinstance(errors, list) else errors
    described = not MESSAGES.isdisjoint(row) and not CODES.isdisjoint(row)
    return row if described or "error" in (row.get("type"), row.get("object")) else None


MESSAGES = frozenset({"message", "msg", "error_msg"})
CODES = frozenset({"code", "status", "statusCode", "error_code", "type"})
"""Groups of fields: an error has one of each group."""
