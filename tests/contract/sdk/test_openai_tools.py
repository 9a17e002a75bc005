"""What the provider's own tools use in a response: searches, and pictures that another model makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import Metered, price, run
from tests.contract.sdk.uses import RESPONSES, Use
from tests.contract.sdk.wire import Answer, Script, Wire

USES = pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.raw, uses.stream_bytes, uses.streaming_read])

SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
OPENED = {"id": "ws_2", "type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "u"}}
PICTURE = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "AA=="}
DRAWN = {
    "input_tokens": 350,
    "output_tokens": 1056,
    "total_tokens": 1406,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 300},
    "cached_tokens": 140,
    "cached_tokens_details": {"cached_text_tokens": 40, "cached_image_tokens": 100},
}
NO_PICTURE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

COUNTS = {"input_tokens": wire.INPUT, "output_tokens": wire.OUTPUT, "cache_read_tokens": wire.CACHED}


def with_tools(*items: dict[str, Any], **changes: Any) -> Script:
    """Answer a response that has used tools."""

    def script(sent: dict[str, Any]) -> Answer:
        def grown(document: dict[str, Any]) -> dict[str, Any]:
            return {**document, **changes, "model": "gpt-4o", "output": [*items, *document["output"]]}

        answer = wire.responses(sent)
        if not sent.get("stream"):
            return wire.as_json(grown(json.loads(answer.content)))
        events = [json.loads(piece.split(b"data: ")[1]) for piece in answer.pieces]
        return wire.as_events([*events[:-1], {**events[-1], "response": grown(events[-1]["response"])}], end=b"")

    return script


@USES
def test_searches_are_counted_and_billed(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    script = with_tools(SEARCH, OPENED, SEARCH)
    untouched = run(use, make(Wire(script)), RESPONSES)
    result = metered.run(use, make(Wire(script)), RESPONSES)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert event.web_searches == 2
    assert event.cost_usd == price("gpt-4o", web_searches=2, **COUNTS)
    assert event.cost_usd - price("gpt-4o", **COUNTS) == 2 * price("gpt-4o", web_searches=1)


@USES
def test_file_searches_are_counted_and_billed(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    searched = {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["one", "two"]}
    metered.run(use, make(Wire(with_tools(searched, SEARCH, searched))), RESPONSES)

    event = metered.event()
    assert (event.file_searches, event.web_searches) == (2, 1)
    assert event.cost_usd == price("gpt-4o", storage_searches=2, web_searches=1, **COUNTS)


def test_the_providers_own_count_of_searches_wins(make: Callable[..., Any], metered: Metered) -> None:
    told = {"web_search": {"num_requests": 1}, "image_gen": NO_PICTURE}
    metered.run(uses.plain, make(Wire(with_tools(SEARCH, SEARCH, tool_usage=told))), RESPONSES)

    event = metered.event()
    assert (event.web_searches, event.image_count, event.output_image_tokens) == (1, None, None)


@USES
@pytest.mark.parametrize(
    ("item", "tools", "model"),
    [
        (PICTURE, [], "gpt-image-1"),
        (PICTURE, [{"type": "image_generation", "model": "gpt-image-1-mini"}], "gpt-image-1-mini"),
        (
            {**PICTURE, "model": "gpt-image-1.5"},
            [{"type": "image_generation", "model": "gpt-image-1"}],
            "gpt-image-1.5",
        ),
    ],
    ids=["default", "set", "told"],
)
def test_pictures_are_billed_as_what_the_model_that_makes_them_costs(
    make: Callable[..., Any],
    use: Use,
    item: dict[str, Any],
    tools: list[dict[str, Any]],
    model: str,
    metered: Metered,
) -> None:
    told = {"web_search": {"num_requests": 0}, "image_gen": DRAWN}
    script = with_tools(item, tool_usage=told, tools=tools)
    untouched = run(use, make(Wire(script)), RESPONSES)
    result = metered.run(use, make(Wire(script)), RESPONSES)

    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, wire.OUTPUT)
    assert (event.input_text_tokens, event.cached_input_text_tokens) == (50, 40)
    assert (event.input_image_tokens, event.cached_input_image_tokens) == (300, 100)
    assert (event.output_image_tokens, event.image_count) == (1056, 1)
    drawn = price(
        model,
        input_tokens=350,
        output_tokens=1056,
        cache_read_tokens=140,
        input_image_tokens=300,
        cache_image_read_tokens=100,
        output_image_tokens=1056,
    )
    assert drawn > 0
    assert event.cost_usd == price("gpt-4o", **COUNTS) + drawn
    assert event.tags["other_models"] == [model]


def test_a_picture_that_is_not_accounted_for_is_at_least_counted(make: Callable[..., Any], metered: Metered) -> None:
    metered.run(uses.plain, make(Wire(with_tools(PICTURE))), RESPONSES)

    event = metered.event()
    assert (event.image_count, event.output_image_tokens) == (1, None)
    assert event.cost_usd == price("gpt-4o", **COUNTS)
