"""How much a model can read and write in one call, for limits that hold the most a call may cost."""

from __future__ import annotations

import re
from typing import NamedTuple

from .price_list import context_window

WRITES: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), tokens)
    for pattern, tokens in (
        (r"gpt-3\.5|gpt-4-(turbo|0125|1106|vision)", 4_096),
        (r"gpt-4o|chatgpt-4o", 16_384),
        (r"gpt-4\.1", 32_768),
        (r"gpt-4(-0613|-0314)?$", 8_192),
        (r"gpt-5[\w.-]*chat", 16_384),
        (r"gpt-5-pro", 272_000),
        (r"gpt-5", 128_000),
        (r"o[134](-|$)", 100_000),
        (r"gemini-(1|2\.0)", 8_192),
        (r"gemini-", 65_536),
    )
)
"""Tokens of output that models write at most, by the beginning of their names; the first that fits counts.

Source: the model pages of OpenAI and Google, 2026. What is not here writes no more than its context window.
"""

SAFE_BOUND = 4_096
"""A bound on the output that every model takes: a larger one may be refused by a model that writes less."""


class ModelSize(NamedTuple):
    """Tokens that a model takes in one call (`window`) and writes at most (`output`); None where that is not known.

    `bound` is the largest bound on the output that it surely accepts.
    """

    window: int | None
    output: int | None
    bound: int


def size_of(provider: str, model: str) -> ModelSize:
    """Return how much a model can read and write."""
    window = context_window(provider, model)
    name = model.lower().rpartition("/")[2]
    written = next((tokens for pattern, tokens in WRITES if pattern.match(name)), None)
    if written is None:
        return ModelSize(window, window, SAFE_BOUND)
    return ModelSize(window, written, written)
