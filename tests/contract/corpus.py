"""The recorded corpus: real provider answers, replayed through the real SDKs, and what each must be billed as.

It is not part of this project: `TOKEN_LIMIT_CORPUS` names its folder, and without that its tests skip.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from token_limit_core import LLMEvent, Meter

Exchange = dict[str, Any]

FOLDER = os.environ.get("TOKEN_LIMIT_CORPUS")

needs_corpus = pytest.mark.skipif(FOLDER is None, reason="TOKEN_LIMIT_CORPUS names no folder with recorded exchanges")

SAME_NAMES = (
    "cache_creation_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)


COUNTED = "recorded exchanges"
"""The property of a test's report that says how many exchanges it has replayed; the summary of the run shows it."""


@cache
def replay() -> ModuleType:
    """Load the corpus's own replay module."""
    assert FOLDER is not None
    spec = importlib.util.spec_from_file_location("token_limit_corpus_replay", Path(FOLDER, "replay.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exchanges(wanted: Callable[[Exchange], bool]) -> Iterator[Exchange]:
    """Give the recorded exchanges that are wanted; none without the corpus."""
    if FOLDER is not None:
        yield from filter(wanted, replay().load(Path(FOLDER, "corpus.jsonl.gz")))


def expected(exchange: Exchange) -> dict[str, Any]:
    """Give what the event of an exchange must say, by event field (SPEC 1.3); what was not recorded is left out."""
    told = exchange["expected"]
    counts = {name: told.get(name) for name in SAME_NAMES}
    counts["cached_tokens"] = told.get("cached_tokens")
    if told.get("input_tokens") is not None:
        counts["input_tokens"] = told["input_tokens"] + (told.get("tool_use_prompt_tokens") or 0)
    counts["output_tokens"] = told.get("output_tokens_all")
    counts["total_tokens"] = told.get("total_tokens")
    counts["web_searches"] = told.get("web_search_requests")
    counts["input_image_tokens"] = told.get("image_input_tokens")
    counts["output_image_tokens"] = told.get("image_output_tokens")
    wanted = {name: count for name, count in counts.items() if count is not None}
    model = told.get("model") or told.get("request_model")
    request_id = told.get("request_id") or told.get("response_id")
    if model:
        wanted["model"] = model
    if request_id:
        wanted["request_id"] = request_id
    return wanted


def scored(exchange: Exchange) -> bool:
    """Tell whether the provider's own numbers are sound; the corpus notes those that are not."""
    return not exchange["expected"].get("note")


def differences(event: LLMEvent, exchange: Exchange) -> dict[str, tuple[Any, Any]]:
    """Give the fields in which an event is not what the provider reported, as (event, expected)."""
    return {
        name: (getattr(event, name), wanted)
        for name, wanted in expected(exchange).items()
        if getattr(event, name) != wanted
    }


def release_work(meter: Meter, exchange: Exchange) -> None:
    """Give back what queued work and work in the background hold: not every result is among the recordings."""
    request, answer = exchange["request"] or {}, exchange.get("response")
    queued = isinstance(answer, dict) and answer.get("status") in ("queued", "in_progress")
    if queued or request.get("background"):
        for hold in meter.store.holds():
            meter.release(hold.call_id)


class Tally:
    """What became of recorded exchanges: how many had which outcome, and which were billed otherwise than reported."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()
        """By provider, the events that were billed at an assumed price."""
        self.wrong: dict[str, Any] = {}

    def compare(self, event: LLMEvent, exchange: Exchange, **others: tuple[Any, Any]) -> None:
        """Compare an event with what the provider reported, and others of its fields as (found, expected)."""
        wrong = differences(event, exchange)
        wrong |= {name: pair for name, pair in others.items() if pair[0] != pair[1]}
        self.outcomes["different" if wrong else "as reported"] += 1
        if wrong:
            self.wrong[exchange["id"]] = wrong

    def note_price(self, event: LLMEvent) -> None:
        """Check that an event has a cost, and that a price was assumed only where the price list has none."""
        assert event.cost_usd is not None, event
        if "price_assumed" in event.tags and not event.tags.get("unpriced"):
            self.assumed[event.provider] += 1
            with pytest.raises(LookupError):
                calc_price(Usage(input_tokens=1, output_tokens=1), event.model, provider_id=event.provider)

    def finish(self, title: str, report: Callable[[str, object], None]) -> None:
        """Write the counts into the summary of the run, and check that no exchange was billed wrong."""
        report(COUNTED, f"{title}: {dict(self.outcomes.most_common())}, at an assumed price: {dict(self.assumed)}")
        assert self.wrong == {}, self.wrong
