"""What a call will probably cost: learned from recent calls of its model, before that from the request's size.

Only an estimate: enforce mode holds it to keep concurrent calls apart, and settles at what was really used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

FIRST_OUTPUT = 256
"""Output tokens assumed for a model not seen yet."""

FIRST_TOKENS_PER_CHARACTER = 0.25
ATTACHMENT = 4000
"""Characters an inlined image or file counts as, whatever the length of its base64 text."""

INLINED = frozenset({"mimeType", "mime_type", "format"})
"""What stands beside the `data` of an inlined file, at Google and with OpenAI's audio; Anthropic says `base64`."""

TOKEN_ID = 4
"""Characters a number counts as: prompts and inputs may be given as token ids."""

WEIGHT = 0.2
MAX_MODELS = 1024


class Estimate(NamedTuple):
    """Tokens a call is expected to use."""

    input_tokens: int
    output_tokens: int


class Estimator:
    """Moving averages per (provider, model): tokens a character, and output tokens a call."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, float]] = {}

    def estimate(self, provider: str, model: str, size: int, max_output: int | None) -> Estimate:
        """Estimate a call of `size` characters that may generate at most `max_output` tokens."""
        per_character, output = self._seen.get((provider, model), (FIRST_TOKENS_PER_CHARACTER, FIRST_OUTPUT))
        expected = int(output) + 1
        return Estimate(int(size * per_character) + 1, expected if max_output is None else min(max_output, expected))

    def learn(self, provider: str, model: str, size: int, input_tokens: int, output_tokens: int) -> None:
        """Take a finished call into the averages; a lost update between threads only costs accuracy.

        One that used nothing, such as an answer out of a cache or work that was only queued, tells nothing of the next.
        """
        if input_tokens <= 0:
            return
        key = (provider, model)
        seen = self._seen.get(key)
        ratio = input_tokens / size if size > 0 else FIRST_TOKENS_PER_CHARACTER
        if seen is None:
            if len(self._seen) >= MAX_MODELS:
                self._seen.clear()
            self._seen[key] = (ratio, float(output_tokens))
        else:
            self._seen[key] = (seen[0] + WEIGHT * (ratio - seen[0]), seen[1] + WEIGHT * (output_tokens - seen[1]))


def size_of(value: object) -> int:
    """Count the characters of a JSON-like value; iterators are left alone, as looking would use them up."""
    if isinstance(value, str):
        return ATTACHMENT if value.startswith("data:") else len(value)
    if isinstance(value, dict):
        if "data" in value and (value.get("type") == "base64" or not INLINED.isdisjoint(value)):
            return ATTACHMENT
        parts: Iterable[object] = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif hasattr(value, "__pydantic_fields_set__"):  # an earlier answer, sent back as it came
        parts = vars(value).values()
    else:
        return TOKEN_ID if isinstance(value, int) else 0
    total = 0
    for part in parts:
        if type(part) is str and len(part) < ATTACHMENT:  # nearly every part: spare it the call
            total += len(part)
        elif part is not None:
            total += size_of(part)
    return total
