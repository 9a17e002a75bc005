"""What a call will probably cost: learned from recent calls of its model, before that from the request's size.

Only an estimate: enforce mode holds it to keep concurrent calls apart, and settles at what was really used.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .usage import Usage

FIRST_OUTPUT = 256
"""Output tokens assumed for a model not seen yet."""

FIRST_TOKENS_PER_CHARACTER = 0.25
ATTACHMENT = 4000
"""Characters an inlined image or file counts as, whatever the length of its base64 text."""

INLINED = frozenset({"mimeType", "mime_type", "format"})
"""What stands beside the `data` of an inlined file, at Google and with OpenAI's audio; Anthropic says `base64`."""

TOKEN_ID = 4
"""Characters a number counts as: prompts and inputs may be given as token ids."""

MAX_PARTS = 1_000_000
"""Parts of a request that are looked at: what refers to itself has no end."""

WEIGHT = 0.2
MAX_MODELS = 1024


class Habit:
    """What the calls of one model have been like: moving averages of tokens a character, and output tokens a call."""

    __slots__ = ("output", "per_character", "seen")

    def __init__(self) -> None:
        self.per_character = FIRST_TOKENS_PER_CHARACTER
        self.output = float(FIRST_OUTPUT)
        self.seen = False

    def estimate(self, size: int, max_output: int | None) -> tuple[int, int]:
        """Return the input and output tokens expected of `size` characters, with at most `max_output` tokens out."""
        expected = int(self.output) + 1
        if max_output is not None and max_output < expected:
            expected = max_output
        return int(size * self.per_character) + 1, expected

    def learn(self, size: int, usage: Usage) -> None:
        """Take a finished call into the averages; a lost update between threads only costs accuracy.

        One that used nothing, such as an answer out of a cache or work that was only queued, tells nothing of the next.
        """
        counts = vars(usage)
        received = usage.received() if "cache_outside_input" in counts else counts.get("input_tokens")
        if not received:
            return
        ratio = received / size if size > 0 else FIRST_TOKENS_PER_CHARACTER
        output = counts.get("output_tokens") or 0
        if self.seen:
            self.per_character += WEIGHT * (ratio - self.per_character)
            self.output += WEIGHT * (output - self.output)
        else:
            self.per_character, self.output, self.seen = ratio, float(output), True


class Habits(dict[tuple[str, str], Habit]):
    """The habits by provider and model."""

    def __missing__(self, key: tuple[str, str]) -> Habit:
        if len(self) >= MAX_MODELS:  # an application may let people type model names
            self.clear()
        habit = self[key] = Habit()
        return habit


def size_of(value: Any) -> int:
    """Count the characters of a JSON-like value; iterators are left alone, as looking would use them up."""
    total = 0
    parts = [value]
    for part in islice(parts, MAX_PARTS):  # they grow on the way: one frame for the whole of it
        kind = type(part)
        if kind is str:
            size = len(part)
            total += size if size < ATTACHMENT or not part.startswith("data:") else ATTACHMENT
        elif kind is dict and "data" not in part:
            parts += part.values()
        elif kind is list:
            parts += part
        elif kind is int:
            total += TOKEN_ID
        elif part is not None:
            total += _size_of_other(part, parts)
    return total


def _size_of_other(part: Any, parts: list[Any]) -> int:
    """Count what is neither text nor a plain container, or put what is in it with the `parts` still to be counted."""
    if isinstance(part, str):
        return ATTACHMENT if part.startswith("data:") else len(part)
    if isinstance(part, dict):
        if "data" in part and (part.get("type") == "base64" or not INLINED.isdisjoint(part)):
            return ATTACHMENT
        parts += part.values()
    elif isinstance(part, (list, tuple)):
        parts += part
    elif hasattr(part, "__pydantic_fields_set__"):  # an earlier answer, sent back as it came
        parts += vars(part).values()
    elif isinstance(part, int):
        return TOKEN_ID
    return 0
