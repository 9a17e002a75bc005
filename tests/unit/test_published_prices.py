"""What providers, and pages that quote them, say that usage costs: within 0.1 %, or explained in the table."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from token_limit_core.events import LLMEvent
from token_limit_core.pricing import PriceBook, price_recorded

MILLION = 10**6

OPENAI_PRICES = "https://developers.openai.com/api/docs/pricing"
OPENAI_MODELS = "https://developers.openai.com/api/docs/models"
DEEPSEEK = "https://api-docs.deepseek.com/quick_start/pricing-details-usd"
CLAUDE_MATH = "https://eonsr.com/en/claude-prompt-caching-math"
CLAUDE_HOUR = "https://aipromptshub.co/calc/claude-api-cost"
CLAUDE_TABLE = "https://claudecodeguides.com/claude-prompt-caching-pricing-and-cost-savings/"
GEMINI = "https://deploybase.ai/articles/gemini-2.5-pricing"
GEMINI_LONG = "https://deploybase.ai/articles/gemini-api-pricing-2026"
GEMINI_IMAGES = "https://discuss.ai.google.dev/t/gemini-2-5-pro-api-pricing-question/85315"
BEDROCK = "https://zilliz.com/ai-faq/how-do-pricing-and-costs-work-in-amazon-bedrock-for-example-how-are-users-charged-for-model-usage-or-data-throughput"
COMPARED = "https://tokenpricing.dev/cheapest-llm-2026/"

SINCE = "the list has only the price that holds since the end of 2025"


class Example(NamedTuple):
    """Usage, what its source says that it costs (US dollars), and why the list's cost is another, if it is."""

    provider: str
    model: str
    used: dict[str, Any]
    usd: str
    source: str
    at: str = "2026-11-15"
    why: str = ""


EXAMPLES = [
    Example("openai", "gpt-4o-mini", {"input_tokens": 2 * MILLION, "cached_tokens": MILLION, "output_tokens": MILLION},
            "0.825", OPENAI_PRICES),
    Example("openai", "gpt-4o-mini", {"input_tokens": MILLION, "output_tokens": MILLION, "service_tier": "batch"},
            "0.375", OPENAI_PRICES),
    Example("openai", "gpt-5", {"input_tokens": 200_000, "cached_tokens": 100_000, "output_tokens": 100_000},
            "1.1375", OPENAI_PRICES),
    Example("openai", "o1", {"input_tokens": 100_000, "output_tokens": 100_000, "reasoning_tokens": 90_000},
            "7.5", OPENAI_PRICES),
    Example("openai", "text-embedding-3-small", {"input_tokens": MILLION}, "0.02", OPENAI_PRICES),
    Example("openai", "whisper-1", {"duration_seconds": 60.0}, "0.006", OPENAI_PRICES),
    Example("openai", "tts-1", {"character_count": MILLION}, "15", OPENAI_PRICES),
    Example("openai", "gpt-image-1-mini",
            {"input_tokens": 2 * MILLION, "input_text_tokens": MILLION, "input_image_tokens": MILLION,
             "output_tokens": MILLION, "output_image_tokens": MILLION},
            "12.5", f"{OPENAI_MODELS}/gpt-image-1-mini"),
    Example("openai", "gpt-4o-mini-transcribe",
            {"input_tokens": MILLION, "audio_input_tokens": MILLION, "output_tokens": MILLION},
            "6.25", f"{OPENAI_MODELS}/compare?model=gpt-4o-mini-transcribe",
            why="the list has $3 a million tokens of sound, OpenAI's page has $1.25"),
    Example("anthropic", "claude-sonnet-4-20250514",
            {"cache_creation_tokens": 100_000, "cache_creation_5m_tokens": 100_000}, "0.375", CLAUDE_MATH),
    Example("anthropic", "claude-sonnet-4-20250514", {"cached_tokens": 100_000}, "0.03", CLAUDE_MATH),
    Example("anthropic", "claude-sonnet-4-6", {"cache_creation_tokens": 2000, "cache_creation_1h_tokens": 2000},
            "0.012", CLAUDE_HOUR),
    Example("anthropic", "claude-sonnet-4-6", {"cached_tokens": 99 * 2000}, "0.0594", CLAUDE_HOUR),
    Example("anthropic", "claude-haiku-4-5",
            {"input_tokens": MILLION, "cached_tokens": MILLION, "cache_creation_tokens": MILLION,
             "cache_creation_5m_tokens": MILLION, "output_tokens": MILLION}, "7.35", CLAUDE_TABLE),
    Example("anthropic", "claude-opus-4-6", {"input_tokens": MILLION, "output_tokens": MILLION}, "30", CLAUDE_TABLE),
    Example("anthropic", "claude-opus-4-6",
            {"input_tokens": MILLION, "output_tokens": MILLION, "service_tier": "batch"}, "15", CLAUDE_TABLE),
    Example("anthropic", "claude-sonnet-4-6", {"web_searches": 1000}, "10",
            "https://platform.claude.com/docs/en/about-claude/pricing"),
    Example("google", "gemini-2.5-pro", {"input_tokens": 50_000, "output_tokens": 2000}, "0.0825", GEMINI),
    Example("google", "gemini-2.5-flash", {"input_tokens": 50_000, "output_tokens": 2000}, "0.02", GEMINI),
    Example("google", "gemini-2.5-pro", {"input_tokens": 1000, "output_tokens": 500, "reasoning_tokens": 400},
            "0.00625", GEMINI_LONG),
    Example("google", "gemini-2.5-pro", {"input_tokens": MILLION, "output_tokens": MILLION}, "17.5", GEMINI_LONG),
    Example("google", "gemini-2.5-flash-image",
            {"output_tokens": 1_290_000, "output_image_tokens": 1_290_000, "image_count": 1000}, "39", GEMINI_IMAGES,
            why="the source rounds $0.0387 an image (1,290 tokens at $30 a million) to $0.039"),
    Example("deepseek", "deepseek-chat",
            {"input_tokens": 2 * MILLION, "cached_tokens": MILLION, "output_tokens": MILLION},
            "1.44", DEEPSEEK, "2025-06-01", SINCE),
    Example("deepseek", "deepseek-reasoner",
            {"input_tokens": 2 * MILLION, "cached_tokens": MILLION, "output_tokens": MILLION},
            "2.88", DEEPSEEK, "2025-06-01", SINCE),
    Example("aws", "anthropic.claude-3-sonnet-20240229-v1:0", {"input_tokens": 500, "output_tokens": 300},
            "0.006", BEDROCK, "2024-06-01"),
    Example("groq", "llama-3.1-8b-instant", {"input_tokens": MILLION, "output_tokens": MILLION}, "0.13", COMPARED),
    Example("groq", "llama-3.3-70b-versatile", {"input_tokens": MILLION, "output_tokens": MILLION}, "1.38", COMPARED),
    Example("x-ai", "grok-4-fast", {"input_tokens": 100_000, "output_tokens": 100_000}, "0.07", COMPARED),
    Example("mistral", "codestral-latest", {"input_tokens": MILLION, "output_tokens": MILLION}, "1.2", COMPARED),
]  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.provider} {example.model} {example.usd}")
def test_usage_costs_what_is_published(example: Example) -> None:
    at = datetime.fromisoformat(example.at).replace(tzinfo=UTC).timestamp()
    event = LLMEvent("e", "acme", provider=example.provider, model=example.model, timestamp=at, **example.used)
    assert price_recorded(event, PriceBook()) is not None
    assert event.tags == {}
    published = Decimal(example.usd)
    assert event.cost_usd is not None
    differs = abs(event.cost_usd - published) > published / 1000
    assert differs == bool(example.why), (event.cost_usd, published, example.source)
