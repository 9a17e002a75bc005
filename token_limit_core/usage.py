"""Usage: what one call consumed. None is "not reported", 0 is "reported as zero"; they are never mixed up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from operator import index
from typing import NamedTuple

from .runtime.faults import ConfigurationError


@dataclass
class Usage:
    """Counts of one call with the meaning SPEC 1.3 gives them, for every provider.

    `output_tokens` has reasoning inside; `cached_tokens` and `cache_creation_tokens` are inside `input_tokens` unless
    `cache_outside_input` (Anthropic, Bedrock Converse). The image, audio and video counts are parts of the input and
    the output. `duration_seconds` is audio billed by the second, `character_count` speech billed by the letter.
    `annotated_pages` are inside `document_pages`, those that text recognition has read. `containers` of the code
    interpreter count by their memory in gigabytes, as they are billed.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cache_creation_5m_tokens: int | None = None
    cache_creation_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cached_audio_tokens: int | None = None
    input_video_tokens: int | None = None
    output_video_tokens: int | None = None
    input_text_tokens: int | None = None
    cached_input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    cached_input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    image_count: int | None = None
    character_count: int | None = None
    duration_seconds: float | None = None
    web_searches: int | None = None
    file_searches: int | None = None
    rerank_searches: int | None = None
    document_pages: int | None = None
    annotated_pages: int | None = None
    containers: int | None = None
    cache_outside_input: bool = False

    def received(self) -> int:
        """Count the whole input, with the cache's part of it."""
        whole = 0 if self.input_tokens is None else self.input_tokens
        if not self.cache_outside_input:
            return whole
        return whole + sum(pool for pool in (self.cached_tokens, self.cache_creation_tokens) if pool is not None)

    def billable(self) -> dict[str, int | Fraction]:
        """Give the counts under the unit names of genai-prices, whose inputs have the cache inside."""
        units: dict[str, int | Fraction] = {}
        if self.input_tokens is not None:
            units["input_tokens"] = self.input_tokens
        if self.output_tokens is not None:
            units["output_tokens"] = self.output_tokens
        for name, count in vars(self).items():
            if count and name in _UNIT_OF:
                units[_UNIT_OF[name]] = count
        if self.duration_seconds is not None:
            units["audio_seconds"] = Fraction(str(self.duration_seconds))
        if self.cache_outside_input:
            outside = units.get("cache_read_tokens", 0) + units.get("cache_write_tokens", 0)
            units["input_tokens"] = units.get("input_tokens", 0) + outside
        return units


class Part(NamedTuple):
    """Tokens that the provider leaves out of a call's usage; `model` is the one that used them, None the same.

    A part that is not `counted` is only billed: the event's counts include it already, or have other fields for it.
    """

    model: str | None
    usage: Usage
    counted: bool = True


UNITS = (
    ("cached_tokens", "cache_read_tokens"),
    ("cache_creation_tokens", "cache_write_tokens"),
    ("cache_creation_5m_tokens", "cache_write_5m_tokens"),
    ("cache_creation_1h_tokens", "cache_write_1h_tokens"),
    ("audio_input_tokens", "input_audio_tokens"),
    ("audio_output_tokens", "output_audio_tokens"),
    ("cached_audio_tokens", "cache_audio_read_tokens"),
    ("input_video_tokens", "input_video_tokens"),
    ("output_video_tokens", "output_video_tokens"),
    ("input_text_tokens", "input_text_tokens"),
    ("cached_input_text_tokens", "cache_text_read_tokens"),
    ("input_image_tokens", "input_image_tokens"),
    ("cached_input_image_tokens", "cache_image_read_tokens"),
    ("output_image_tokens", "output_image_tokens"),
    ("character_count", "input_characters"),
    ("web_searches", "web_searches"),
    ("file_searches", "storage_searches"),
    ("rerank_searches", "rerank_searches"),
    ("document_pages", "input_document_pages"),
    ("annotated_pages", "input_annotated_document_pages"),
    ("containers", "containers"),
)
"""Counts that are parts of the base counts, or billed beside them, and their units: those of genai-prices, and ours."""

BASE_COUNTS = ("input_tokens", "output_tokens", "total_tokens", "cached_tokens")
"""The counts that an event always has; all others are None on it where they were not reported."""

CACHE_OUTSIDE_INPUT = frozenset({"anthropic", "aws"})
"""Providers whose input leaves cache reads and writes out (SPEC 1.3)."""

USAGE_FIELDS = frozenset(f.name for f in fields(Usage)) - {"cache_outside_input"}
"""All counts."""

OTHER_COUNTS = frozenset(f.name for f in fields(Usage) if f.name not in (*BASE_COUNTS, "cache_outside_input"))

SPECIAL_COUNTS = OTHER_COUNTS - {"reasoning_tokens"}
"""What few calls report; three rates bill all the others."""

_UNIT_OF = dict(UNITS)


LARGEST_NUMBER = 10**12
"""What one call can use of anything; the cost of that many tokens of any model fits into a column."""


def parse_number(value: float, name: str) -> float:
    """Return a number that an application gives, not negative and finite, else raise `ConfigurationError` naming it."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= LARGEST_NUMBER or isinstance(value, (bool, str, bytes)):
        raise ConfigurationError(
            f"{name}: invalid value {value!r}; expected a number from 0 to 10^12, for example 12.5"
        )
    return number


def parse_count(value: int | None, name: str) -> int | None:
    """Return a count that an application gives, else raise `ConfigurationError` naming it; None stays None."""
    if value is None:
        return None
    try:
        count = index(value)
    except TypeError:
        count = -1
    if not 0 <= count <= LARGEST_NUMBER or isinstance(value, bool):
        raise ConfigurationError(
            f"{name}: invalid value {value!r}; expected a whole number from 0 to 10^12, or None for 'not reported'"
        )
    return count
