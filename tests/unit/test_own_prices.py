"""Prices of the application's own, and hosts with paths: what each model is priced as."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from token_limit_core import ConfigurationError, LLMEvent, Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.cli.prices import show_prices
from token_limit_core.hosts import provider_of
from token_limit_core.pricing import PriceBook, listed_price

PRICES: dict[str, Any] = {
    "my-deployment": "gpt-4o",
    "azure/gpt4-eu": "openai/gpt-4o-mini",
    "claude": "claude-sonnet-4-5",
    "in-house": "free",
    "ft:gpt-4o-mini:acme": {"input": 0.3, "cached_input": "0.15", "output": Decimal("1.2")},
    "gpt-4o": {"input": 2, "output": 8, "request": "0.001", "web_search": "0.02"},
    "pictures": {"image": "0.04"},
    "voice": {"second": "0.0001", "character": "0.00002"},
    "writer": {"input": 3, "cached_input": "0.3", "cache_write": "3.75", "cache_write_1h": 6, "output": 15},
}


def tracked(model: str, provider: str = "openai", **counts: Any) -> LLMEvent:
    given = {"input_tokens": 1_000_000, "output_tokens": 100_000, **counts}
    with Meter(MeterConfig(store="memory://", patches=[], prices=PRICES, on_unpriced="free")) as meter:
        return meter.track_manually(provider=provider, model=model, **given)


COSTS: list[tuple[str, str, dict[str, Any], str | None]] = [
    ("openai", "my-deployment", {}, "3.5"),
    ("azure", "my-deployment", {}, "3.5"),
    ("azure", "gpt4-eu", {}, "0.21"),
    ("openai", "gpt4-eu", {}, None),
    ("my-gateway", "claude", {"input_tokens": 1000, "output_tokens": 100}, "0.0045"),
    ("openai", "in-house", {}, "0"),
    ("openai", "ft:gpt-4o-mini:acme", {}, "0.42"),
    ("openai", "ft:gpt-4o-mini:acme", {"cached_tokens": 500_000}, "0.345"),
    ("openai", "gpt-4o", {"web_searches": 2}, "2.841"),
    ("openai", "pictures", {"input_tokens": 0, "output_tokens": 0, "image_count": 3}, "0.12"),
    ("openai", "voice", {"input_tokens": 0, "output_tokens": 0, "duration_seconds": 90}, "0.009"),
    ("openai", "voice", {"input_tokens": 0, "output_tokens": 0, "character_count": 500}, "0.01"),
    ("openai", "writer", {"cached_tokens": 200_000, "cache_creation_tokens": 300_000,
                          "cache_creation_1h_tokens": 100_000}, "4.41"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "counts", "cost"), COSTS, ids=str)
def test_a_model_costs_what_the_settings_say(
    provider: str, model: str, counts: dict[str, Any], cost: str | None
) -> None:
    event = tracked(model, provider, **counts)
    assert event.cost_usd == (None if cost is None else Decimal(cost))
    assert event.price_source == (None if cost is None else "settings")


def test_another_model_costs_what_the_list_says() -> None:
    assert (tracked("gpt-4o-mini").cost_usd, tracked("gpt-4o-mini").price_source) == (Decimal("0.21"), "list")


def test_a_dated_answer_is_priced_by_the_name_that_was_asked_for() -> None:
    book = PriceBook(prices={"gpt-4o": {"input": 1, "output": 1}})
    price = book.price_for("openai", "gpt-4o", 1.8e9)
    assert price is not None
    assert (price.source, price.version) == ("settings", "settings")


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ("gpt-4o", "prices: invalid value"),
        ({"": "gpt-4o"}, "prices: invalid value"),
        ({"m": 5}, r"prices: 'm': invalid value 5; expected"),
        ({"m": {}}, r"prices: 'm': invalid value"),
        ({"m": ""}, r"prices: 'm': invalid value"),
        ({"m": {"inptu": 1}}, r"prices: 'm': unknown unit 'inptu'; expected some of"),
        ({"m": {"input": -1}}, r"prices: 'm': 'input': "),
        ({"m": {"input": float("nan")}}, r"prices: 'm': 'input': "),
        ({"m": {"input": True}}, r"prices: 'm': 'input': "),
        ({"m": {"input": "much"}}, r"prices: 'm': 'input': "),
    ],
)
def test_a_price_that_cannot_be_is_an_error_that_names_it(prices: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        MeterConfig(prices=prices)


def test_a_name_that_the_list_does_not_have_is_no_price(caplog: pytest.LogCaptureFixture) -> None:
    book = PriceBook(prices={"alias": "no-such-model-at-all"})
    for _ in range(2):
        assert book.price_for("openai", "alias", 1.8e9) is None
    assert [record.message for record in caplog.records] == [
        "prices: the price list has no model 'no-such-model-at-all'; give a model of the list, or amounts in US dollars"
    ]


HOSTS = {"GW.internal/openai": "openai", "gw.internal/anthropic/v2/": "anthropic", "gw.internal": "mistral",
         "gw.internal:9000": "groq", "llama.local": "free"}  # fmt: skip


@pytest.mark.parametrize(
    ("host", "port", "path", "provider"),
    [
        ("gw.internal", 443, "/openai/v1", "openai"),
        ("gw.internal", 443, "/OpenAI/v1/", "openai"),
        ("gw.internal", 443, "/openai-eu/v1", "mistral"),
        ("gw.internal", 443, "/anthropic/v2", "anthropic"),
        ("gw.internal", 443, "/anthropic/v1", "mistral"),
        ("gw.internal", 9000, "/openai/v1", "openai"),
        ("gw.internal", 9000, "/v1", "groq"),
        ("gw.internal", None, "", "mistral"),
        ("other.internal", 443, "/openai/v1", "unknown"),
        ("llama.local", 8080, "/v1", "free"),
    ],
)
def test_a_host_with_a_path_is_a_provider(host: str, port: int | None, path: str, provider: str) -> None:
    config = MeterConfig(hosts=HOSTS)
    assert provider_of(host, port, config.hosts, path) == provider


@pytest.mark.parametrize("host", ["https://gw.internal", "/openai", "", 5])
def test_a_host_with_a_scheme_is_refused(host: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^hosts: "):
        MeterConfig(hosts={host: "openai"})


def test_a_free_host_costs_nothing() -> None:
    price = PriceBook().price_for("free", "llama", 1.8e9)
    assert price is not None
    assert price.of_tokens(1000, 1000) == 0
    assert listed_price("free", "llama", 1.8e9) is None


# -- the command ---------------------------------------------------------------------------------------


def shown(model: str, provider: str | None = None, **config: Any) -> list[str]:
    with Meter(MeterConfig(store="memory://", patches=[], prices=PRICES, **config)) as meter:
        return show_prices(meter, model, provider).splitlines()


@pytest.mark.parametrize(
    ("model", "provider", "reason", "line"),
    [
        ("gpt-4o-mini", "openai", "the price list has this model", "input, a million tokens          $0.15"),
        ("gpt-4o-mini-2024-07-18", "openai", "the price list has it as gpt-4o-mini", "web search"),
        ("my-deployment", "azure", "your `prices` name gpt-4o", "source: settings, version: genai-prices"),
        ("gpt-4o", "openai", "your `prices` give its amounts", "output, a million tokens         $8"),
        ("in-house", "openai", "your `prices` say that it is free", "free"),
        ("llama", "ollama", "calls at ollama cost nothing", "free"),
        ("claude-sonnet-4-5", "anthropic", "the price list has this model",
         "input, a million tokens, above 200,000 $6"),
        ("no-such-model", "unknown", "no price is known; it is assumed, by fallback_price",
         "output, a million tokens         $25"),
        ("code_interpreter", "openai", "a fee that is known here", "container, by gigabyte           $0.03"),
    ],
)  # fmt: skip
def test_the_command_says_what_a_model_is_priced_as_and_why(model: str, provider: str, reason: str, line: str) -> None:
    lines = shown(model, provider)
    assert lines[0] == f"{model} at {provider}"
    assert lines[1].strip() == reason
    assert any(one.strip().startswith(line) for one in lines[2:])


def test_the_command_shows_each_provider_that_has_a_model() -> None:
    first = [line for line in shown("gpt-4o-mini") if " at " in line and not line.startswith(" ")]
    assert {"gpt-4o-mini at openai", "gpt-4o-mini at azure"} <= set(first)
    assert shown("no-such-model")[0] == "no-such-model at unknown"


@pytest.mark.parametrize(("policy", "consequence"), [("refuse", "is refused"), ("free", "is recorded without a cost")])
def test_the_command_says_what_becomes_of_a_model_without_a_price(policy: Any, consequence: str) -> None:
    assert consequence in shown("no-such-model", on_unpriced=policy)[1]


def test_the_command_line_has_it(tmp_path: Path) -> None:
    arguments = ["--store", f"sqlite:///{tmp_path}/l.db", "prices", "gpt-4o-mini", "--provider", "openai"]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "gpt-4o-mini at openai")
    assert list(tmp_path.iterdir()) == []
