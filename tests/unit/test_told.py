"""What an application tells of a call itself: every field is read with suspicion, and no text of a call is kept."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.acme import Client
from token_limit_core import ConfigurationError, LLMEvent, Meter, MeterConfig
from token_limit_core.events import EVENT_FIELDS, FIELDS
from token_limit_core.ingest.events import read_event
from token_limit_core.meter import engine_of

OWN_FIELDS = {name for name, rule in EVENT_FIELDS.items() if not rule.given}
"""What has an argument of its own, or only we may set."""


def manual(meter: Meter, **fields: Any) -> LLMEvent:
    given = {"provider": "openai", "model": "gpt-4o-mini", "input_tokens": 1000, "output_tokens": 100}
    return meter.track_manually(**{**given, **fields})


def by_hand(meter: Meter, events: list[LLMEvent], fields: dict[str, Any]) -> LLMEvent:
    return manual(meter, **fields)


def by_extractor(meter: Meter, events: list[LLMEvent], fields: dict[str, Any]) -> LLMEvent:
    Client(fields=fields).generate("hi")
    return events[-1]


@pytest.fixture(params=[by_hand, by_extractor])
def telling(request: pytest.FixtureRequest, meter: Meter, events: list[LLMEvent]) -> Callable[[dict[str, Any]], Any]:
    return lambda fields: request.param(meter, events, fields)


Telling = Callable[[dict[str, Any]], LLMEvent]


@pytest.mark.parametrize("seconds", [12.5, 12, 0, Decimal("12.5")])
def test_seconds_of_audio_may_be_a_fraction(telling: Telling, seconds: Any) -> None:
    told = {"model": "whisper-1", "input_tokens": 0, "output_tokens": 0, "duration_seconds": seconds}
    event = telling(told)
    assert event.duration_seconds == seconds
    assert event.cost_usd == Decimal("0.0001") * Decimal(str(seconds))


@pytest.mark.parametrize("name", ["duration_seconds", "duration_ms"])
@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), 10**400, True, "12.5", b"1", [], 1e13])
def test_a_duration_that_is_none_is_an_error_that_names_it(telling: Telling, name: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        telling({name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": "x"},
        {"stream": 1},
        {"tags": "x"},
        {"tags": [("a", 1)]},
        {"input_tokens": 10**13},
        {"image_count": "2"},
        {"cache_miss_tokens": -1},
        {"cost_usd": "free"},
        {"provider": 5},
        {"model": 5},
        {"endpoint": b"chat"},
        {"upstream_provider": 5},
        {"fim_prefix": 5},
        {"service_tier": 5},
        {"price_version": 5},
    ],
    ids=str,
)
def test_a_field_of_no_use_is_an_error_that_names_it(telling: Telling, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
        telling(wrong)


@pytest.mark.parametrize(
    "wrong", [{"provider": None}, {"model": None}, {"event_id": "x" * 65}, {"event_id": ""}, {"event_id": "a\n"}]
)
def test_what_only_a_manual_event_needs_is_checked_as_well(meter: Meter, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
        manual(meter, tenant_id="a", **wrong)
    assert meter.store.spend("a", 0, 4e9).calls == 0


NAMES = {"request_id", "user", "feature"}
"""What an application has as numbers or UUIDs as well."""


@pytest.mark.parametrize("name", sorted(set(FIELDS) - OWN_FIELDS - NAMES))
def test_no_field_reaches_an_event_unread(telling: Telling, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        telling({name: object()})


@pytest.mark.parametrize("name", sorted(set(FIELDS) - OWN_FIELDS - {"provider", "model"}))
def test_none_is_not_told(telling: Telling, name: str) -> None:
    event = telling({name: None})
    assert (event.provider, event.stream, event.tags) == ("openai", False, {})


def test_ids_may_be_more_than_text(meter: Meter) -> None:
    given = uuid.uuid4()
    event = manual(meter, event_id=given, session_id=7, user=8, request_id=9)
    assert (event.event_id, event.session_id, event.user, event.request_id) == (str(given), "7", "8", "9")


def test_whatever_is_taken_can_be_stored(postgres_url: str) -> None:
    """PostgreSQL is the strictest: SQLite keeps nearly everything it is given."""
    largest = {"input_tokens": 10**12, "output_tokens": 10**12, "cached_tokens": 10**12, "duration_seconds": 1e12}
    texts = dict.fromkeys(("endpoint", "request_id", "session_id", "user", "service_tier"), "x\0\ud800" * 300)
    with Meter(MeterConfig(store=postgres_url, patches=[])) as meter:
        event = manual(meter, tenant_id="a", model="o1-pro", event_id="é" * 64, **largest, **texts)
        assert event.cost_usd is not None
        assert meter.store.spend("a", 0, 4e9).calls == 1


# -- no text of a call ------------------------------------------------------------------------------


def test_what_is_before_and_after_a_gap_is_kept_as_lengths(telling: Telling) -> None:
    event = telling({"fim_prefix": "def secret():", "fim_suffix": "return"})
    assert (event.fim_prefix, event.fim_suffix) == ("13 characters", "6 characters")


def test_what_is_before_and_after_a_gap_is_kept_where_that_is_wanted(acme: None, events: list[LLMEvent]) -> None:
    config = MeterConfig(store="memory://", patches=["acme"], capture_content=True, on_event=events.append)
    with Meter(config).patch_all() as meter:
        for telling in (by_hand, by_extractor):
            assert telling(meter, events, {"fim_prefix": "def f():"}).fim_prefix == "def f():"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("Timeout 504", "Timeout 504"),
        ("AuthenticationError: Incorrect API key provided: sk-abc123", "AuthenticationError"),
        (ValueError("secret"), "ValueError"),
        (504, "504"),
    ],
)
def test_the_error_of_a_manual_event_is_kept_without_its_message(meter: Meter, error: Any, kept: str) -> None:
    assert manual(meter, error=error).error == kept


@pytest.mark.parametrize(
    ("provider", "counts", "units", "total"),
    [
        ("openai", {"cached_tokens": 400}, {"input_tokens": 600, "cached": 400}, 1010),
        ("anthropic", {"cached_tokens": 400}, {"input_tokens": 1000, "cached": 400}, 1410),
        ("anthropic", {"cache_creation_5m_tokens": 400}, {"input_tokens": 1000, "written": 400}, 1410),
    ],
)
def test_counts_mean_what_they_mean_at_their_provider(
    provider: str, counts: dict[str, int], units: dict[str, int], total: int
) -> None:
    model = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}[provider]
    rates = {"openai": (2500, 1250, 0, 10_000), "anthropic": (3000, 300, 3750, 15_000)}[provider]
    with Meter(MeterConfig(store="memory://", patches=[])) as meter:
        event = meter.track_manually(provider=provider, model=model, input_tokens=1000, output_tokens=10, **counts)
    used = (units["input_tokens"], units.get("cached", 0), units.get("written", 0), 10)
    assert event.cost_usd is not None
    assert event.cost_usd * 10**9 == sum(count * rate for count, rate in zip(used, rates, strict=True))
    assert event.total_tokens == total


def test_the_table_of_fields_has_every_field_of_an_event() -> None:
    assert EVENT_FIELDS.keys() == set(FIELDS)


@pytest.mark.parametrize(
    "counts",
    [
        {"provider": "openai", "model": "gpt-5.3-codex", "web_searches": 2},
        {"provider": "openai", "model": "gpt-4o", "containers": 4, "cached_tokens": 400},
        {"provider": "anthropic", "model": "claude-sonnet-4-5", "cached_tokens": 400, "web_searches": 1},
        {"provider": "google", "model": "gemma-3"},
        {"provider": "openai", "model": "gpt-4o", "cost_usd": "0.25"},
    ],
    ids=str,
)
def test_an_event_costs_the_same_whether_it_is_tracked_by_hand_or_ingested(counts: dict[str, Any]) -> None:
    with Meter(MeterConfig(store="memory://", patches=[])) as meter:
        tracked = manual(meter, **counts)
        row = {**tracked.to_dict(), "cost_usd": counts.get("cost_usd"), "price_source": None, "price_version": None}
        ingested = read_event({**row, "tags": {}}, tracked.timestamp, engine_of(meter).prices).event
    names = ("cost_usd", "tags", "price_source", "price_version")
    assert [getattr(tracked, name) for name in names] == [getattr(ingested, name) for name in names]
