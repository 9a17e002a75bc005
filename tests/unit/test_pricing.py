"""Usage to money, held against genai-prices itself: equal to the nano-dollar, at a hundredth of its time."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import PriceContext

from token_limit_core.events import LLMEvent, made_of
from token_limit_core.money import to_nano
from token_limit_core.pricing import Price, PriceBook, bill, listed_price, price_event, price_list, price_recorded
from token_limit_core.usage import USAGE_FIELDS, Usage, parse_count

NOW = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
PROVIDERS = [provider for provider in get_snapshot().providers if provider.id != "openrouter"]
"""OpenRouter tells itself what a call has cost; its list has rates with more places than ours keep."""

MODELS = [(provider.id, model.id) for provider in PROVIDERS for model in provider.models]

USAGES: list[dict[str, int]] = [
    {"input_tokens": 1, "output_tokens": 1},
    {"input_tokens": 117, "output_tokens": 33, "cache_read_tokens": 64},
    {"input_tokens": 12_345, "output_tokens": 678, "cache_read_tokens": 2_345, "cache_write_tokens": 3_333},
    {"input_tokens": 450_001, "output_tokens": 70_003, "cache_read_tokens": 210_000},
    {"input_tokens": 900, "output_tokens": 90, "input_audio_tokens": 500, "output_audio_tokens": 70},
    {"input_tokens": 7},
    {"output_tokens": 7},
]


def expected(provider: str, model: str, units: dict[str, int], context: Any = None) -> int | None:
    """Ask genai-prices; None where it cannot find its own model, or does not take these units for it."""
    try:
        found = calc_price(
            PricedUsage(**units),
            model,
            provider_id=provider,
            genai_request_timestamp=NOW,
            price_context=context,
        )
    except (LookupError, ValueError):
        return None
    return int((found.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))


@pytest.mark.parametrize("units", USAGES, ids=str)
def test_every_model_costs_what_the_price_list_says(units: dict[str, int]) -> None:
    compared = 0
    for provider, model in MODELS:
        wanted = expected(provider, model, units)
        if wanted is None:
            continue
        price = listed_price(provider, model, NOW.timestamp())
        assert price is not None
        assert price.cost(units) == wanted, (provider, model)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    "counts", [(1, 1, 0), (117, 33, 64), (450_001, 70_003, 210_000), (0, 7, 0), (5, 5, 9)], ids=str
)
def test_plain_tokens_cost_the_same_however_they_are_priced(counts: tuple[int, int, int]) -> None:
    received, generated, cached = counts
    units = {"input_tokens": received, "output_tokens": generated, "cache_read_tokens": cached}
    full = Usage(input_tokens=received, output_tokens=generated, cached_tokens=cached)
    sparse = made_of(Usage, {"input_tokens": received, "output_tokens": generated, "cached_tokens": cached})
    silent = made_of(Usage, {**vars(sparse), "audio_input_tokens": 0, "reasoning_tokens": 3})
    quick = 0
    for provider, model in MODELS:
        price = listed_price(provider, model, NOW.timestamp())
        if price is None:
            continue  # genai-prices does not find a few of its own models
        wanted = price.cost(units)
        assert price.of_tokens(received, generated, cached) == wanted, (provider, model)
        if price.covers(units):
            assert {price.of_usage(usage) for usage in (full, sparse, silent)} == {wanted}, (provider, model)
        quick += price.plain is not None
    assert quick > len(MODELS) // 2


def test_what_was_not_reported_has_no_cost_and_what_is_none_costs_nothing() -> None:
    price = listed_price("openai", "gpt-4o", NOW.timestamp())

    assert price is not None
    assert price.of_usage(Usage()) is None
    assert price.of_usage(Usage(total_tokens=7)) is None
    assert price.of_usage(Usage(input_tokens=0)) == price.of_usage(Usage(output_tokens=0)) == 0
    assert price.of_usage(Usage(input_tokens=9, reasoning_tokens=4)) == price.cost({"input_tokens": 9})
    assert price.of_usage(Usage(duration_seconds=4.0)) is None


def test_a_usage_of_what_was_told_is_like_any_other() -> None:
    told = made_of(Usage, {"input_tokens": 0, "audio_input_tokens": 3})

    assert told == Usage(input_tokens=0, audio_input_tokens=3)
    assert told.billable() == {"input_tokens": 0, "input_audio_tokens": 3}


@pytest.mark.parametrize("tier", ["default", "flex", "priority", "batch", "scale", "no such tier"])
@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o", "gpt-4o-mini", "o3"])
def test_a_service_tier_costs_what_the_price_list_says(model: str, tier: str) -> None:
    context: PriceContext = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    units = {"input_tokens": 1_000, "output_tokens": 100, "cache_read_tokens": 10}
    price = listed_price("openai", model, NOW.timestamp(), tier)

    assert price is not None
    assert price.cost(units) == expected("openai", model, units, context)


def test_a_part_above_its_whole_counts_as_the_whole() -> None:
    price = listed_price("openai", "gpt-4o", NOW.timestamp())

    assert price is not None
    assert price.cost({"input_tokens": 235, "cache_read_tokens": 373}) == price.cost(
        {"input_tokens": 373, "cache_read_tokens": 373}
    )


def test_nothing_used_costs_nothing() -> None:
    price = listed_price("openai", "gpt-4o", NOW.timestamp())

    assert price is not None
    assert price.cost({}) == price.cost({"input_tokens": 0, "output_tokens": 0}) == 0


def priced(provider: str, model: str, **fields: Any) -> LLMEvent:
    """Price an event that reports nothing but what is given."""
    usage = made_of(Usage, {name: count for name, count in fields.items() if name in USAGE_FIELDS})
    event = LLMEvent("e", provider=provider, model=model, timestamp=NOW.timestamp(), **fields)
    price_event(event, usage, PriceBook(), (model,))
    return event


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "my-fine-thing"), ("openai", "no-name"), ("unknown", "gpt-4o"), ("no such provider", "gpt-4o")],
)
def test_an_unknown_model_has_no_price_and_warns_once(
    provider: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    bill._warn_unpriced.cache_clear()  # other tests of this process may have asked already
    with caplog.at_level(logging.WARNING, "token_limit"):
        assert listed_price(provider, model, NOW.timestamp()) is None
        assert caplog.records == []
        costs = [priced(provider, model, input_tokens=3).cost_usd for _ in range(3)]

    assert costs == [None, None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert repr(model) in caplog.text
    assert ("name the provider of that host in `hosts`" in caplog.text) == (provider == "unknown")


def test_a_reported_cost_needs_no_price_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    bill._warn_unpriced.cache_clear()
    event = priced("no such provider", "gpt-4o", input_tokens=3, cost_usd=Decimal("0.5"))
    assert (event.cost_usd, event.price_source, event.price_version) == (Decimal("0.5"), "reported", None)
    assert caplog.records == []


FREE = [
    ("mistral", "mistral-nemo:free"),
    ("openrouter", "deepseek/deepseek-r1:free"),
    ("github-copilot", "gpt-4o"),
    ("google", "gemma-3"),
    ("cerebras", "qwen-3-coder-480b"),
]


@pytest.mark.parametrize(("provider", "model"), FREE)
def test_a_model_that_the_list_has_for_free_costs_nothing(
    provider: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    event = priced(provider, model, input_tokens=1000, output_tokens=10, web_searches=1)
    assert (event.cost_usd, event.tags, caplog.records) == (0, {}, [])
    assert event.price_version == price_list.version()


ANSWERED = [
    ("openrouter", "foo/bar", "deepseek/deepseek-r1:free", {}, False),
    ("openrouter", "foo/bar:free", "deepseek/deepseek-r1:free", {}, True),
    ("mistral", "foo", "mistral-nemo:free", {}, False),
    ("google", "gemma-9", "gemma-3", {}, False),
    ("openrouter", "foo/bar", "mine", {"mine": "free"}, True),
    ("openrouter", "foo/bar", "mine", {"mine": "deepseek/deepseek-r1:free"}, True),
    ("openrouter", "mine", "deepseek/deepseek-r1:free", {"mine": "free"}, True),
    ("ollama", "foo", "bar", {}, True),
]


@pytest.mark.parametrize(("provider", "answered", "asked", "prices", "is_free"), ANSWERED, ids=str)
@pytest.mark.parametrize("policy", ["assume", "refuse"])
def test_a_model_of_unknown_price_is_not_free_because_a_free_one_was_asked_for(
    provider: str, answered: str, asked: str, prices: Any, is_free: bool, policy: str
) -> None:
    event = LLMEvent("e", provider=provider, model=answered, timestamp=NOW.timestamp(), input_tokens=1_000_000)
    event.tags["requested_model"] = asked
    cost = price_recorded(event, PriceBook(policy, prices=prices))
    if is_free:
        assert (cost, event.tags.get("price_assumed")) == (0, None)
    elif policy == "refuse":
        assert (cost, event.cost_usd) == (None, None)
    else:
        assert cost is not None and cost > 0
        assert event.tags["price_assumed"]


def test_what_the_provider_says_of_the_cost_wins_over_a_free_mark() -> None:
    event = LLMEvent("e", provider="openrouter", model="foo/bar", timestamp=NOW.timestamp(), input_tokens=1_000_000)
    event.tags["requested_model"] = "deepseek/deepseek-r1:free"
    event.cost_usd = Decimal("0.25")
    assert price_recorded(event, PriceBook("assume")) == 250_000_000


FEES = [
    ("openai", "gpt-4o-search-preview", {"web_searches": 2}, "0.05"),
    ("openai", "gpt-4o-mini-search-preview-2025-03-11", {"web_searches": 1}, "0.025"),
    ("openai", "gpt-5-search-api-2025-10-14", {"web_searches": 1}, "0.01"),
    ("openai", "gpt-4o", {"containers": 4}, "0.12"),
    ("azure", "gpt-4o", {"containers": 1}, "0.03"),
    ("openai", "code_interpreter", {"containers": 1}, "0.03"),
    ("mistral", "voxtral-small-latest", {"duration_seconds": 60.0}, "0.004"),
]


@pytest.mark.parametrize(("provider", "model", "used", "cost"), FEES, ids=str)
def test_a_fee_is_billed_beside_the_tokens(provider: str, model: str, used: dict[str, Any], cost: str) -> None:
    event = priced(provider, model, **used)
    assert (event.cost_usd, event.tags) == (Decimal(cost), {})


NOT_PRICED = [
    ("openai", "gpt-5.3-codex", {"input_tokens": 5, "web_searches": 1}),
    ("groq", "openai/gpt-oss-120b", {"input_tokens": 5, "containers": 1}),
    ("mistral", "mistral-small-latest", {"input_tokens": 5, "duration_seconds": 2.0}),
    ("google", "imagen-4.0-generate-001", {"image_count": 2}),
    ("openai", "dall-e-3", {"image_count": 2}),
    ("anthropic", "claude-sonnet-4-5", {"input_tokens": 5, "document_pages": 1}),
    ("no such provider", "m", {"character_count": 5}),
]


@pytest.mark.parametrize(("provider", "model", "used"), NOT_PRICED, ids=str)
def test_what_has_no_price_is_listed_on_the_event(provider: str, model: str, used: dict[str, Any]) -> None:
    event = priced(provider, model, **used)
    assert event.tags["unpriced"] == [name for name in used if name != "input_tokens"]
    assert (event.cost_usd is not None) == ("input_tokens" in used)


@pytest.mark.parametrize(
    ("provider", "model", "used"),
    [
        ("openai", "gpt-image-1", {"output_tokens": 9, "output_image_tokens": 9, "image_count": 1}),
        ("openai", "gpt-4o-transcribe", {"input_tokens": 9, "audio_input_tokens": 9, "duration_seconds": 3.0}),
        ("openai", "gpt-4o-mini-tts", {"output_tokens": 9, "character_count": 5}),
    ],
)
def test_what_the_tokens_bill_already_is_no_fee(provider: str, model: str, used: dict[str, Any]) -> None:
    event = priced(provider, model, **used)
    assert event.cost_usd is not None
    assert "unpriced" not in event.tags


@pytest.mark.parametrize(
    ("provider", "version", "model"),
    [
        ("aws", "openai.gpt-oss-120b", "openai.gpt-oss-120b-1:0"),
        ("aws", "openai.gpt-oss-20b", "openai.gpt-oss-20b-1:0"),
        ("aws", "us.openai.gpt-oss-20b-1:0", "openai.gpt-oss-20b-1:0"),
        ("google", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("openai", "gpt-5-search-api-2025-10-14", "gpt-5-search-api"),
    ],
)
def test_a_version_of_a_model_costs_what_the_model_costs(provider: str, version: str, model: str) -> None:
    one, other = (listed_price(provider, name, NOW.timestamp()) for name in (version, model))
    assert one is not None
    assert other is not None
    assert one.rates == other.rates


def test_a_price_names_the_list_it_is_from() -> None:
    price = listed_price("openai", "gpt-4o", NOW.timestamp())

    assert price is not None
    assert price.version.startswith("genai-prices ")


def test_prices_that_change_with_time_are_looked_up_for_the_time_of_the_call() -> None:
    units = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    dated = [
        (provider.id, model.id)
        for provider in PROVIDERS
        for model in provider.models
        if provider.id not in ("aws", "fireworks") and isinstance(model.prices, list) and len(model.prices) > 1
    ]
    costs = set()
    for provider, model in dated:
        for moment in (datetime(2024, 1, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, 1, tzinfo=UTC), NOW):
            price = listed_price(provider, model, moment.timestamp())
            assert price is not None
            found = calc_price(PricedUsage(**units), model, provider_id=provider, genai_request_timestamp=moment)
            assert price.cost(units) == to_nano(found.total_price), (provider, model, moment)
            costs.add((provider, model, price.cost(units)))
    assert len(costs) > len(dated)


def test_amounts_too_small_for_a_nano_dollar_round_half_even_once() -> None:
    price = listed_price("openai", "text-embedding-3-small", NOW.timestamp())  # 20 nano-dollars a token

    assert price is not None
    assert [price.cost({"input_tokens": count}) for count in (1, 3)] == [20, 60]
    half = Price(tuple(rate._replace(scaled=rate.scaled // 40) for rate in price.rates), price.version)
    assert [half.cost({"input_tokens": count}) for count in (1, 2, 3, 5)] == [0, 1, 2, 2]


def test_cache_outside_the_input_is_added_for_the_price_list() -> None:
    usage = Usage(
        input_tokens=10, output_tokens=5, cached_tokens=100, cache_creation_tokens=20, cache_outside_input=True
    )

    assert usage.billable() == {
        "input_tokens": 130,
        "output_tokens": 5,
        "cache_read_tokens": 100,
        "cache_write_tokens": 20,
    }
    assert Usage().billable() == {}
    assert Usage(input_tokens=0).billable() == {"input_tokens": 0}


@pytest.mark.parametrize("value", [-1, 1.5, "3", True, Decimal(1)])
def test_what_is_no_count_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="input_tokens"):
        parse_count(value, "input_tokens")


def test_no_count_is_not_zero() -> None:
    assert parse_count(None, "input_tokens") is None
    assert parse_count(0, "input_tokens") == 0


def test_a_search_costs_as_much_where_claude_is_a_guest() -> None:
    theirs, guest = (listed_price(name, "claude-sonnet-4-6", NOW.timestamp()) for name in ("anthropic", "google"))
    assert theirs is not None
    assert guest is not None
    searched = Usage(input_tokens=1, output_tokens=1, web_searches=3)
    plain = Usage(input_tokens=1, output_tokens=1)
    fees = [price.of_usage(searched) - price.of_usage(plain) for price in (theirs, guest)]  # type: ignore[operator]
    assert fees == [3 * 10_000_000] * 2
