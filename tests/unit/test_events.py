"""LLMEvent: its fields are a contract."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from decimal import Decimal
from typing import Any

import pytest

from token_limit_core import LLMEvent
from token_limit_core.events import as_length, event_of, made_of, safe_error

CONTRACT = [
    "event_id",
    "tenant_id",
    "session_id",
    "provider",
    "model",
    "endpoint",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "duration_ms",
    "timestamp",
    "request_id",
    "stream",
    "error",
    "duration_seconds",
    "audio_input_tokens",
    "audio_output_tokens",
    "character_count",
    "input_text_tokens",
    "cached_input_text_tokens",
    "input_image_tokens",
    "cached_input_image_tokens",
    "output_image_tokens",
    "image_count",
    "cache_creation_tokens",
    "cache_miss_tokens",
    "reasoning_tokens",
    "cost_usd",
    "upstream_provider",
    "fim_prefix",
    "fim_suffix",
    "tags",
]


def test_the_published_fields_are_there() -> None:
    event = LLMEvent("e1")
    assert all(hasattr(event, name) for name in CONTRACT)


def test_a_dict_leaves_out_what_is_none_but_not_what_is_zero() -> None:
    assert LLMEvent("e1", timestamp=0.0).to_dict() == {
        "event_id": "e1",
        "tenant_id": "",
        "provider": "unknown",
        "model": "",
        "endpoint": "",
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "cached_tokens": 0,
        "timestamp": 0.0,
        "stream": False,
        "tags": {},
    }
    assert LLMEvent("e1", reasoning_tokens=0, character_count=0).to_dict()["reasoning_tokens"] == 0


def test_a_cost_is_written_as_a_decimal_and_zero_is_a_cost() -> None:
    for cost, text in ((Decimal("0.000000001"), "0.000000001"), (Decimal(0), "0"), (Decimal("1E+2"), "100")):
        row = LLMEvent("e1", cost_usd=cost).to_dict()
        assert row["cost_usd"] == text
        assert json.loads(json.dumps(row)) == row
    assert "cost_usd" not in LLMEvent("e1").to_dict()


def test_two_events_do_not_share_their_tags() -> None:
    LLMEvent("e1").tags["a"] = 1
    assert LLMEvent("e2").tags == {}


@pytest.mark.parametrize("cost", [{"cost_usd": Decimal("0.5")}, {"cost_nano": 500_000_000}])
def test_an_event_of_what_is_set_is_like_any_other(cost: dict[str, Any]) -> None:
    made = LLMEvent("e1", "acme", input_tokens=3, cost_usd=Decimal("0.500000000"), timestamp=5.0)
    row = {"event_id": "e1", "tenant_id": "acme", "input_tokens": 3, "timestamp": 5.0, **cost, "tags": {}}
    sparse = made_of(LLMEvent, row)

    assert sparse == made
    assert event_of(sparse.to_dict()) == made
    assert dataclasses.asdict(sparse) == dataclasses.asdict(made)
    assert dataclasses.replace(sparse, model="m") == dataclasses.replace(made, model="m")
    assert copy.copy(sparse) == copy.deepcopy(sparse) == pickle.loads(pickle.dumps(sparse)) == made
    assert sparse.output_tokens == 0
    assert sparse.reasoning_tokens is None


def test_a_text_is_told_by_its_length_and_a_length_as_it_is() -> None:
    """An event that another process has sent has lengths already."""
    assert as_length("def secret():") == "13 characters"
    assert as_length(as_length("def secret():")) == "13 characters"
    assert as_length("") == "0 characters"
    assert as_length("12 characters\n") == "14 characters"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("ValueError", "ValueError"),
        ("BadRequestError 400 context_length_exceeded", "BadRequestError 400 context_length_exceeded"),
        ("BadRequestError 400 17", "BadRequestError 400 17"),
        ("APIError server_error", "APIError server_error"),
        ("openai.RateLimitError", "openai.RateLimitError"),
        ("504", "504"),
        ("HTTP 504", "HTTP 504"),
        ("429 Too Many Requests", "429"),
        ("NotFoundError 404 no such thing", "NotFoundError 404"),
        ("AuthenticationError: Incorrect API key provided: sk-abc123", "AuthenticationError"),
        ("ValueError('secret')", "error"),
        ("ValueError\nsecret", "error"),
        ("sk-abc123 is no key", "error"),
        ("Zahnärztin Müller", "Zahnärztin"),
        ("x" * 65, "error"),
        ("???", "error"),
        ("", "error"),
    ],
)
def test_an_error_that_is_told_keeps_its_class_status_and_code(told: str, kept: str) -> None:
    assert safe_error(told) == kept
    assert safe_error(kept) == kept
