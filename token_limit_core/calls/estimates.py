"""What a call will probably cost: learned from recent calls of its model, before that from the request's size.

Only an estimate: enforce mode holds it to keep concurrent calls apart, and settles at what was really used.
"""

from __future__ import annotations

from typing import Any

FIRST_OUTPUT = 256
"""Output tokens assumed for a model not seen yet."""

MILLION = 10**6

FIRST_RATE = MILLION // 4
"""Input tokens of a million characters, assumed for a model not seen yet."""

ATTACHMENT = 4000
"""Characters an inlined image or file counts as, whatever the length of its base64 text."""

INLINED = frozenset({"mimeType", "mime_type", "format"})
"""What stands beside the `data` of an inlined file, at Google and with OpenAI's audio; Anthropic says `base64`."""

TOKEN_ID = 4
"""Characters a number counts as: prompts and inputs may be given as token ids."""

MAX_PARTS = 1_000_000
"""Parts of a request that are looked at: what refers to itself has no end."""

WEIGHT = 5
"""A new call moves an average a fifth of the way."""

MAX_MODELS = 1024


class Habit:
    """What the calls of one model have been like: moving averages, in whole numbers, as those take the least time.

    `rate` is input tokens of a million characters, `output` is output tokens of a million calls.
    """

    __slots__ = ("output", "rate", "seen")

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        self.output = FIRST_OUTPUT * MILLION
        self.seen = False

    def estimate(self, size: int, max_output: int | None) -> tuple[int, int]:
        """Return the input and output tokens expected of `size` characters, with at most `max_output` tokens out."""
        expected = self.output // MILLION + 1
        if max_output is not None and max_output < expected:
            expected = max(max_output, 0)  # as a client may have asked for less than nothing
        return size * self.rate // MILLION + 1, expected

    def learn(self, size: int, received: int, output: int) -> None:
        """Take a finished call into the averages; a lost update between threads only costs accuracy.

        One that used nothing, such as an answer out of a cache or work that was only queued, tells nothing of the next.
        """
        if not received:
            return
        rate = received * MILLION // size if size > 0 else FIRST_RATE
        output *= MILLION
        if self.seen:
            self.rate += (rate - self.rate) // WEIGHT
            self.output += (output - self.output) // WEIGHT
        else:
            self.rate, self.output, self.seen = rate, output, True


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
    for part in parts:  # they grow on the way: one frame for the whole of it
        kind = type(part)
        if kind is str:
            size = len(part)
            total += size if size < ATTACHMENT or not part.startswith("data:") else ATTACHMENT
            continue
        if kind is dict and "data" not in part:
            parts += part.values()
        elif kind is list:
            parts += part
        elif kind is int:
            total += TOKEN_ID
        elif part is not None:
            total += _size_of_other(part, parts)
        if len(parts) > MAX_PARTS:
            del parts[MAX_PARTS:]
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
