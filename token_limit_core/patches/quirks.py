"""Differences of single providers of OpenAI's protocol, from recorded traffic or the provider's documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..calls.request import Outcome
from ..events import as_length
from .reading import count, fields_of, text
from .streams import Reader
from .surfaces import Plan

Amend = Callable[[Outcome, Mapping[str, Any]], None]
"""Corrects an outcome by the other fields of its usage object."""


def amend_outcomes(plan: Plan, amend: Amend) -> None:
    """Correct the outcomes of a plan, without work per chunk."""
    read_as_told, reader_as_told = plan.read, plan.reader

    def read(answer: Any) -> Outcome:
        outcome = read_as_told(answer)
        amend(outcome, fields_of(fields_of(answer).get("usage")))
        return outcome

    def reader(request_id: str | None, injected: bool) -> Reader:
        return _Amended(reader_as_told(request_id, injected), amend)

    plan.read, plan.reader = read, reader


class _Amended:
    def __init__(self, reader: Any, amend: Amend) -> None:
        self.see = reader.see
        self._reader = reader
        self._amend = amend

    def outcome(self, error: BaseException | None) -> Outcome:
        outcome: Outcome = self._reader.outcome(error)
        self._amend(outcome, fields_of(self._reader.usage))
        return outcome


def openrouter(outcome: Outcome, usage: Mapping[str, Any]) -> None:
    """OpenRouter: the model's name begins with the provider behind it."""
    if outcome.model is not None and "/" in outcome.model and outcome.usage is not None:
        outcome.fields = {**(outcome.fields or {}), "upstream_provider": outcome.model.partition("/")[0]}


def deepseek(outcome: Outcome, usage: Mapping[str, Any]) -> None:
    """DeepSeek reports cache misses beside the hits."""
    missed = count(usage.get("prompt_cache_miss_tokens"))
    if missed is not None:
        outcome.fields = {**(outcome.fields or {}), "cache_miss_tokens": missed}


def google(outcome: Outcome, usage: Mapping[str, Any]) -> None:
    """Google's OpenAI endpoint counts thoughts in the total only. They are billed as output (2 of 2 recorded)."""
    used = outcome.usage
    if used is not None and used.total_tokens is not None and used.input_tokens is not None:
        used.output_tokens = max(used.total_tokens - used.input_tokens, used.output_tokens or 0)


def vercel(outcome: Outcome, usage: Mapping[str, Any]) -> None:
    """Vercel's gateway counts reasoning neither in the completion nor in the total (28 of 28 by its own cost)."""
    used = outcome.usage
    if used is not None and used.reasoning_tokens and used.output_tokens is not None:
        outside = used.total_tokens == (used.input_tokens or 0) + used.output_tokens
        if outside and "prompt_tokens" in usage:
            used.output_tokens += used.reasoning_tokens


AMENDS: Mapping[str, Amend] = {"openrouter": openrouter, "deepseek": deepseek, "google": google, "vercel": vercel}


def fill_in_the_middle(plan: Plan) -> None:
    """Name the endpoint of DeepSeek's fill-in-the-middle, with the lengths of prefix and suffix."""
    body, capture = plan.body, plan.engine.config.capture_content
    plan.endpoint = "fim.completions"
    plan.fields = {
        field: value
        for field, name in (("fim_prefix", "prompt"), ("fim_suffix", "suffix"))
        if (given := text(body.get(name))) is not None
        for value in (given if capture else as_length(given),)
    }
