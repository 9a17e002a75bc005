"""The price list against what providers say that recorded answers have cost: equal, or explained one by one.

A cost that an answer tells is what is billed. This proves the list, which prices the answers that tell none.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.contract.corpus import COUNTED, Exchange, needs_corpus
from tests.contract.sdk.metered import Metered
from tests.contract.sdk.test_corpus_openai import metered, problems, recorded
from token_limit_core.events import LLMEvent, made_of
from token_limit_core.money import to_nano
from token_limit_core.pricing import PriceBook, price_recorded

__all__ = ["metered", "recorded"]  # fixtures

SEARCH = "the fee of OpenRouter's web search is in the cost, and no count of searches is in the answer"
ADVISOR = "the cost includes the calls of the advisor model, whose tokens the usage leaves out"
RAISED = "OpenRouter asks $6 and $30 a million for this old model, the list has $3 and $15"
ROUTED = "OpenRouter chose a host that is dearer than the one of the list"
OTHER_DAY = "the price on the day of the recording is not the list's"

EXPLAINED = {
    "openrouter_anthropic_claude_3_5_sonnet_20241022.yaml#0": RAISED,
    "test_ref_sibling_wire_contract[qwen-nested-model].yaml#0": ROUTED,
    "test_openai_responses_raw_cot_stream_openrouter.yaml#0": ROUTED,
    "test_openrouter_advisor_tool.yaml#0": ADVISOR,
    "test_openrouter_advisor_tool_stream.yaml#0": ADVISOR,
    "test_openrouter_file_annotation.yaml#0": "$0.002 for reading a PDF are in the cost, and no count of pages",
    "test_openrouter_web_search_annotations.yaml#0": SEARCH,
    "test_openrouter_web_search_annotations_stream.yaml#0": SEARCH,
    "test_openrouter_web_search_tool_usage.yaml#0": SEARCH,
    "test_openrouter_web_search_tool_usage_stream.yaml#0": SEARCH,
    "test_openrouter_web_search_tool_full_params.yaml#0": OTHER_DAY,
    "test_openrouter_responses_prompt_cache_e2e.yaml#0": OTHER_DAY,
    "test_openrouter_responses_prompt_cache_e2e.yaml#1": OTHER_DAY,
    "test_openrouter_cache_instructions_gemini_real_api.yaml#0": "cached and written tokens overlap in the answer",
    "test_openrouter_stream_error.yaml#0": "the stream failed and cost nothing; the list has no such model",
    "test_openrouter_stream_with_native_options.yaml#0": "a free model was asked for, an unlisted one answered",
}
"""Why the list's cost is another, by recording."""


def listed_cost(event: LLMEvent) -> int | None:
    """Price an event by the list, as if its answer told no cost (nano-dollars)."""
    told = ("cost_usd", "cost_nano", "charge_usd", "price_source", "price_version")
    fields = {name: value for name, value in vars(event).items() if name not in told and value is not None}
    return price_recorded(made_of(LLMEvent, {**fields, "tags": {}}), PriceBook())


@needs_corpus
@pytest.mark.filterwarnings("ignore")
def test_the_list_says_what_the_answers_say(
    recorded: list[Exchange], metered: Metered, record_property: Callable[[str, object], None]
) -> None:
    equal, unexplained, explained = 0, {}, set()
    for exchange in recorded:
        told = exchange["expected"].get("told_cost_usd")
        if told is None:
            continue
        assert problems(metered, exchange, own=False) == [], exchange["id"]
        [event] = metered.events
        cost, cassette = listed_cost(event), exchange["id"].rpartition("/")[2]
        wanted = to_nano(Decimal(str(told)))
        if cost is not None and abs(cost - wanted) * 1000 <= wanted:
            equal += 1
        elif cassette in EXPLAINED:
            explained.add(cassette)
        else:
            unexplained[exchange["id"]] = (cost, wanted)
    record_property(COUNTED, f"costs that answers tell: {equal} equal the list's, {len(explained)} are explained")
    assert unexplained == {}
    assert explained == EXPLAINED.keys() & {one["id"].rpartition("/")[2] for one in recorded}
    assert equal > 2 * len(explained)
