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

from token_limit_core import pricing
from token_limit_core.events import made_of
from token_limit_core.money import to_nano
from token_limit_core.pricing import Price, price_of
from token_limit_core.usage import Usage, parse_count

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
        price = price_of(provider, model, NOW.timestamp())
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
        price = price_of(provider, model, NOW.timestamp())
        if price is None:
            continue  # genai-prices does not find a few of its own models
        wanted = price.cost(units)
        assert price.of_tokens(received, generated, cached) == wanted, (provider, model)
        if price.covers(units):
            assert {price.of_usage(usage) for usage in (full, sparse, silent)} == {wanted}, (provider, model)
        quick += price.plain is not None
    assert quick > len(MODELS) // 2


def test_what_was_not_reported_has_no_cost_and_what_is_none_costs_nothing() -> None:
    price = price_of("openai", "gpt-4o", NOW.timestamp())

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
    price = price_of("openai", model, NOW.timestamp(), tier)

    assert price is not None
    assert price.cost(units) == expected("openai", model, units, context)


def test_a_part_above_its_whole_counts_as_the_whole() -> None:
    price = price_of("openai", "gpt-4o", NOW.timestamp())

    assert price is not None
    assert price.cost({"input_tokens": 235, "cache_read_tokens": 373}) == price.cost(
        {"input_tokens": 373, "cache_read_tokens": 373}
    )


def test_nothing_used_costs_nothing() -> None:
    price = price_of("openai", "gpt-4o", NOW.timestamp())

    assert price is not None
    assert price.cost({}) == price.cost({"input_tokens": 0, "output_tokens": 0}) == 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "my-fine-thing"), ("openai", ""), ("unknown", "gpt-4o"), ("no such provider", "gpt-4o")],
)
def test_an_unknown_model_has_no_price_and_warns_once(
    provider: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    pricing._find.cache_clear()  # other tests of this process may have asked already
    with caplog.at_level(logging.WARNING, "token_limit"):
        found = [price_of(provider, model, NOW.timestamp() + 60 * minute) for minute in range(3)]

    assert found == [None, None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert repr(model) in caplog.text
    assert ("name the provider of that host in `hosts`" in caplog.text) == (provider == "unknown")


def test_a_price_names_the_list_it_is_from() -> None:
    price = price_of("openai", "gpt-4o", NOW.timestamp())

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
            price = price_of(provider, model, moment.timestamp())
            assert price is not None
            found = calc_price(PricedUsage(**units), model, provider_id=provider, genai_request_timestamp=moment)
            assert price.cost(units) == to_nano(found.total_price), (provider, model, moment)
            costs.add((provider, model, price.cost(units)))
    assert len(costs) > len(dated)


def test_amounts_too_small_for_a_nano_dollar_round_half_even_once() -> None:
    price = price_of("openai", "text-embedding-3-small", NOW.timestamp())  # 20 nano-dollars a token

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
    theirs, guest = (price_of(name, "claude-sonnet-4-6", NOW.timestamp()) for name in ("anthropic", "google"))
    assert theirs is not None
    assert guest is not None
    searched = Usage(input_tokens=1, output_tokens=1, web_searches=3)
    plain = Usage(input_tokens=1, output_tokens=1)
    fees = [price.of_usage(searched) - price.of_usage(plain) for price in (theirs, guest)]  # type: ignore[operator]
    assert fees == [3 * 10_000_000] * 2


def test_what_has_no_price_beside_the_tokens_is_named() -> None:
    price = price_of("openai", "gpt-5.3-codex", NOW.timestamp())
    assert price is not None
    assert price.leaves_out(Usage(web_searches=1, file_searches=0)) == ["web_searches"]
    with_fee = price_of("openai", "gpt-4o", NOW.timestamp())
    assert with_fee is not None
    assert with_fee.leaves_out(Usage(web_searches=1, file_searches=2)) == []
