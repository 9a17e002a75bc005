"""Usage: what one call consumed. None is "not reported", 0 is "reported as zero"; they are never mixed up."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index

from .errors import ConfigurationError


@dataclass(slots=True)
class Usage:
    """Counts of one call with the meaning SPEC 1.3 gives them, for every provider.

    `output_tokens` has reasoning inside; `cached_tokens` and `cache_creation_tokens` are inside
    `input_tokens` unless `cache_outside_input` (Anthropic, Bedrock Converse).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cache_outside_input: bool = False

    def billable(self) -> dict[str, int]:
        """Give the counts under the unit names of genai-prices, whose inputs have the cache inside."""
        units: dict[str, int] = {}
        if self.input_tokens is not None:
            units["input_tokens"] = self.input_tokens
        if self.output_tokens is not None:
            units["output_tokens"] = self.output_tokens
        if self.cached_tokens:
            units["cache_read_tokens"] = self.cached_tokens
        if self.cache_creation_tokens:
            units["cache_write_tokens"] = self.cache_creation_tokens
        if self.audio_input_tokens:
            units["input_audio_tokens"] = self.audio_input_tokens
        if self.audio_output_tokens:
            units["output_audio_tokens"] = self.audio_output_tokens
        if self.cache_outside_input:
            outside = units.get("cache_read_tokens", 0) + units.get("cache_write_tokens", 0)
            units["input_tokens"] = units.get("input_tokens", 0) + outside
        return units


def parse_count(value: int | None, name: str) -> int | None:
    """Return a count that an application gives, else raise `ConfigurationError` naming it; None stays None."""
    if value is None:
        return None
    try:
        count = index(value)
    except TypeError:
        count = -1
    if count < 0 or isinstance(value, bool):
        raise ConfigurationError(f"{name}: {value!r} is not a count; give a whole number, or None for 'not reported'")
    return count
