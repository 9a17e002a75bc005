"""Google's own searches, and interactions that go on in the background: each is billed once, when it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.sdk import gemini, wire
from tests.contract.sdk.gemini import HAS_INTERACTIONS, MODEL, Wire, api_client
from tests.contract.sdk.metered import Metered, price, run
from tests.contract.sdk.test_google import on
from tests.contract.sdk.uses import each, value
from tests.contract.sdk.wire import Answer, Script, as_events, as_json

PATCH = "google"
NEWER = "gemini-3-flash-preview"

needs_interactions = pytest.mark.skipif(not HAS_INTERACTIONS, reason="this google-genai has no interactions")
experimental = pytest.mark.filterwarnings("ignore:.*(experimental|deprecated)")

# -- searches ---------------------------------------------------------------------------------------


def grounded(model: str, queries: list[str]) -> dict[str, Any]:
    told = gemini._candidates({"text": wire.TEXT}, finishReason="STOP", groundingMetadata={"webSearchQueries": queries})
    return {**told, "modelVersion": model, "usageMetadata": gemini.USAGE}


def whole(model: str, queries: list[str]) -> Script:
    return lambda sent: as_json(grounded(model, queries))


def streamed(model: str, queries: list[str]) -> Script:
    """Tell the searches in a chunk of their own."""
    searched = grounded(model, queries)
    last = gemini._candidates({"text": "."}, finishReason="STOP") | {"modelVersion": model}
    del searched["usageMetadata"]
    return lambda sent: as_events([searched, {**last, "usageMetadata": gemini.USAGE}], end=b"")


def interacted(model: str, searches: int) -> Script:
    counts = [{"type": "google_search", "count": searches}, {"type": "google_maps", "count": 9}]
    usage = {**gemini.INTERACTION_USAGE, "grounding_tool_count": counts}
    return lambda sent: as_json({**gemini._interaction("completed", usage=usage), "model": model})


SEARCHES = [(MODEL, ["one", "two"], 1), (NEWER, ["", "one", "two"], 2), (NEWER, [""], None), (MODEL, [], None)]


@on(api_client)
@pytest.mark.parametrize(("model", "queries", "billed"), SEARCHES)
@pytest.mark.parametrize(("use", "script"), [(gemini.plain, whole), (gemini.stream, streamed)])
def test_searches_are_billed_by_the_prompt_before_gemini_3_and_by_the_query_since(
    make: Callable[..., Any], use: Any, script: Any, model: str, queries: list[str], billed: int | None,
    metered: Metered,
) -> None:  # fmt: skip
    metered.run(use, make(Wire(script(model, queries))), None)  # type: ignore[arg-type]

    check_searches(metered, model, billed)


def check_searches(metered: Metered, model: str, billed: int | None) -> None:
    event = metered.event()
    assert (event.model, event.web_searches) == (model, billed)
    counts = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens, "cache_read_tokens": 64}
    fee = Decimal(0) if billed is None else billed * price(model, "google", web_searches=1)
    assert event.cost_usd == price(model, "google", **counts) + fee


@needs_interactions
@experimental
@on(api_client)
@pytest.mark.parametrize(("model", "billed"), [(MODEL, 1), (NEWER, 3)])
def test_searches_of_an_interaction_are_billed_alike(
    make: Callable[..., Any], model: str, billed: int, metered: Metered
) -> None:
    metered.run(gemini.interact, make(Wire(interacted(model, 3))), None)  # type: ignore[arg-type]

    check_searches(metered, model, billed)


# -- interactions in the background -------------------------------------------------------------------


async def asked(client: Any, way: Any, seen: list[Any]) -> None:
    seen.append(await value(client.interactions.create(model=MODEL, input="?", background=True)))


async def asked_streamed(client: Any, way: Any, seen: list[Any]) -> None:
    opened = await value(client.interactions.create(model=MODEL, input="?", background=True, stream=True))
    seen += [event async for event in each(opened)]


async def got(client: Any, way: Any, seen: list[Any]) -> None:
    seen.append(await value(client.interactions.get(gemini.RESPONSE_ID)))


async def got_streamed(client: Any, way: Any, seen: list[Any]) -> None:
    opened = await value(client.interactions.get(gemini.RESPONSE_ID, stream=True))
    seen += [event async for event in each(opened)]


def standing(status: str, **more: Any) -> Script:
    return lambda sent: as_json(gemini._interaction(status, **more))


DONE = standing("completed", usage=gemini.INTERACTION_USAGE)


def events(sent: dict[str, Any]) -> Answer:
    return gemini.interaction({"stream": True})


def cut(sent: dict[str, Any]) -> Answer:
    answer = events(sent)
    answer.pieces = answer.pieces[:3]
    return answer


pytestmark = [experimental]


@needs_interactions
@on(api_client)
@pytest.mark.parametrize(("use", "script"), [(asked, standing("in_progress")), (asked_streamed, cut)])
def test_asking_for_it_costs_nothing_yet(make: Callable[..., Any], use: Any, script: Any, metered: Metered) -> None:
    untouched = run(use, make(Wire(script)), None)  # type: ignore[arg-type]
    result = metered.run(use, make(Wire(script)), None)  # type: ignore[arg-type]

    assert result.comparable() == untouched.comparable()
    event = metered.event(waiting=1)
    assert (event.input_tokens, event.output_tokens, event.cost_usd) == (0, 0, 0)
    assert event.tags["background"] is True


@needs_interactions
@on(api_client)
@pytest.mark.parametrize(("use", "script"), [(got, DONE), (got_streamed, events)])
def test_it_is_billed_once_however_often_it_is_asked_for(
    make: Callable[..., Any], use: Any, script: Any, metered: Metered
) -> None:
    untouched = run(use, make(Wire(script)), None)  # type: ignore[arg-type]
    for _ in range(3):
        result = metered.run(use, make(Wire(script)), None)  # type: ignore[arg-type]
        assert result.comparable() == untouched.comparable()
    metered.run(got, make(Wire(DONE)), None)  # type: ignore[arg-type]

    event = metered.event()
    assert {name: getattr(event, name) for name in gemini.WHOLE} == gemini.WHOLE
    assert (event.endpoint, event.model, event.stream) == ("interactions", MODEL, use is got_streamed)
    assert set(event.tags) == {"plan"}
    counts = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens, "cache_read_tokens": 64}
    assert event.cost_usd == price(MODEL, "google", **counts)


@needs_interactions
@on(api_client)
@pytest.mark.parametrize(
    ("use", "script"), [(gemini.interact, gemini.interaction), (gemini.interact_broken_off, gemini.interaction)]
)
def test_one_that_was_billed_when_it_was_made_is_not_billed_when_it_is_asked_for(
    make: Callable[..., Any], use: Any, script: Any, metered: Metered
) -> None:
    metered.run(use, make(Wire(script)), None)  # type: ignore[arg-type]
    metered.run(got, make(Wire(DONE)), None)  # type: ignore[arg-type]

    assert metered.event().request_id == gemini.RESPONSE_ID


@needs_interactions
@on(api_client)
@pytest.mark.parametrize(
    ("use", "script"),
    [
        (got, standing("in_progress")),
        (got, standing("failed")),
        (got, gemini.error(404, "NOT_FOUND")),
        (got_streamed, cut),
    ],
    ids=["in progress", "failed", "404", "broken off"],
)
def test_what_is_not_there_yet_leaves_nothing(
    make: Callable[..., Any], use: Any, script: Any, metered: Metered
) -> None:
    metered.run(use, make(Wire(script)), None)  # type: ignore[arg-type]

    assert metered.events == []


# -- what is held for a file that is sent along -------------------------------------------------------


def test_an_inlined_file_is_not_held_for_by_the_length_of_its_text(metered: Metered) -> None:
    held: list[int] = []

    def look(sent: dict[str, Any]) -> Answer:
        assert len(json.dumps(sent)) > 100_000
        held.append(metered.meter.store.holds()[0].held)
        return gemini.content(sent)

    async def ask(client: Any, way: Any, seen: list[Any]) -> None:
        picture = gemini.genai.types.Part.from_bytes(data=b"\0" * 100_000, mime_type="image/png")
        seen.append(client.models.generate_content(model=MODEL, contents=["?", picture]))

    metered.run(ask, api_client(Wire(look)), None)  # type: ignore[arg-type]

    assert held[0] < 1100 * 300 + 257 * 2_500  # tokens and nano-dollars of gemini-2.5-flash
