"""Every way to call Google's SDK: the caller notices nothing, and one event a request says what it cost.

Each cell runs twice against the same wire, unpatched and patched, and compares what the caller got.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from google.genai import _api_client, chats, models

from tests.contract.sdk import gemini
from tests.contract.sdk.gemini import (
    CONTENT,
    EMBED,
    HAS_INTERACTIONS,
    IMAGES,
    INTERACTIONS,
    MODEL,
    Way,
    Wire,
    api_client,
    so_far,
    vertex_client,
)
from tests.contract.sdk.metered import TENANT, Metered, price, run
from tests.contract.sdk.uses import each, value
from token_limit_core.errors import UnguardedCall

PATCH = "google"

experimental = pytest.mark.filterwarnings("ignore:.*(experimental|deprecated)")
needs_interactions = pytest.mark.skipif(not HAS_INTERACTIONS, reason="this google-genai has no interactions")


def on(*places: Callable[..., Any]) -> Any:
    """Run a test with synchronous and asynchronous clients of several places."""

    def client(place: Callable[..., Any], asynchronous: bool) -> Callable[..., Any]:
        return lambda wired, **options: place(wired, **options).aio if asynchronous else place(wired, **options)

    names = {api_client: "api", vertex_client: "vertex"}
    return pytest.mark.parametrize(
        "make",
        [
            pytest.param(client(place, asynchronous), id=f"{names[place]}-{'async' if asynchronous else 'sync'}")
            for place in places
            for asynchronous in (False, True)
        ],
    )


def ways(*given: Way) -> Any:
    return pytest.mark.parametrize("way", given, ids=lambda way: way.use.__name__)


def check_whole(make: Callable[..., Any], way: Way, metered: Metered) -> None:
    """Make a call that is read to its end."""
    before, wired = Wire(*way.scripts), Wire(*way.scripts)
    untouched = run(way.use, make(before), way)  # type: ignore[arg-type]
    result = metered.run(way.use, make(wired), way)  # type: ignore[arg-type]

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert (wired.sent, wired.paths) == (before.sent, before.paths)
    assert len(wired.sent) == len(way.events)
    for event, expected in zip(metered.settled(len(way.events)), way.events, strict=True):
        assert {name: getattr(event, name) for name in expected} == expected
        assert (event.provider, event.endpoint, event.stream) == ("google", way.endpoint, way.streams)
        assert (event.model, event.request_id, event.error) == (way.model, way.request_id, None)
        assumed = {"unpriced": ["image_count"], "price_assumed": "fallback_price"}
        assert event.tags == {"plan": "gold", **({} if event.image_count is None else assumed)}
        if way.priced is None:
            assert event.cost_usd == Decimal("0.0264") * (event.image_count or 0)
        else:
            cached = way.priced if event.cached_tokens else {}
            counts = {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens}
            assert event.cost_usd == price(way.model, "google", **counts, **cached)


@on(api_client, vertex_client)
@ways(*CONTENT)
def test_content_is_billed_once_a_request_with_the_usage_that_was_reported(
    make: Callable[..., Any], way: Way, metered: Metered
) -> None:
    check_whole(make, way, metered)


@on(api_client, vertex_client)
def test_embeddings_are_billed_by_the_tokens_they_tell(make: Callable[..., Any], metered: Metered) -> None:
    check_whole(make, EMBED, metered)


@experimental
@on(vertex_client)
@ways(*IMAGES)
def test_images_are_counted(make: Callable[..., Any], way: Way, metered: Metered) -> None:
    check_whole(make, way, metered)


@needs_interactions
@experimental
@on(api_client, vertex_client)
@ways(*INTERACTIONS)
def test_interactions_are_billed_once(make: Callable[..., Any], way: Way, metered: Metered) -> None:
    check_whole(make, way, metered)


@on(api_client, vertex_client)
@pytest.mark.parametrize(
    ("use", "read"),
    [
        (gemini.broken_off, 2),
        (gemini.loop_broken_off, 1),
        (gemini.closed, 1),
        (gemini.chat_broken_off, 1),
    ],
)
def test_what_is_not_read_to_its_end_is_billed_at_what_was_told_until_then(
    make: Callable[..., Any], use: Any, read: int, metered: Metered
) -> None:
    untouched = run(use, make(Wire(gemini.chunks)), None)  # type: ignore[arg-type]
    result = metered.run(use, make(Wire(gemini.chunks)), None)  # type: ignore[arg-type]

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    told = so_far(read - 1)
    assert event.input_tokens == told["promptTokenCount"]
    assert event.output_tokens == told["candidatesTokenCount"] + told["thoughtsTokenCount"]
    assert (event.stream, event.error, event.tags["estimated"]) == (True, None, True)


@on(api_client, vertex_client)
def test_a_stream_that_is_never_read_costs_only_what_was_sent(make: Callable[..., Any], metered: Metered) -> None:
    wired = Wire(gemini.chunks)
    metered.run(gemini.never_iterated, make(wired), None)  # type: ignore[arg-type]

    for event in metered.settled(len(wired.sent)):  # older releases send when an asynchronous stream is asked for
        assert event.tags["estimated"] is True


@needs_interactions
@experimental
@on(api_client)
@pytest.mark.parametrize("use", [gemini.interact_broken_off, gemini.interact_block])
def test_an_interaction_that_is_broken_off_is_estimated(make: Callable[..., Any], use: Any, metered: Metered) -> None:
    metered.run(use, make(Wire(gemini.interaction)), None)  # type: ignore[arg-type]

    event = metered.event()
    assert (event.stream, event.error, event.tags["estimated"]) == (True, None, True)
    assert (event.model, event.request_id) == (MODEL, gemini.RESPONSE_ID)
    assert event.input_tokens > 0


# -- who pays ---------------------------------------------------------------------------------------


@on(api_client)
@pytest.mark.parametrize("use", ["models", "chat"])
def test_a_stream_is_paid_by_the_tenant_that_asked_for_it(make: Callable[..., Any], use: str, metered: Metered) -> None:
    metered.meter.patch("google")

    async def read_elsewhere(client: Any, way: Any, seen: list[Any]) -> None:
        opened = gemini.opened(client) if use == "models" else client.chats.create(model=MODEL).send_message_stream("?")
        reading = await value(opened)
        with metered.meter.for_tenant("somebody else"):
            seen += [chunk async for chunk in each(reading)]

    metered.run(read_elsewhere, make(Wire(gemini.chunks)), None)  # type: ignore[arg-type]

    assert metered.event().tenant_id == TENANT


@on(api_client)
@pytest.mark.parametrize("use", [gemini.plain, gemini.stream, gemini.chat, gemini.chat_stream])
def test_nothing_is_sent_once_the_limit_is_reached(make: Callable[..., Any], use: Any, metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    wired = Wire(gemini.content)
    result = metered.run(use, make(wired), None)  # type: ignore[arg-type]

    assert type(result.error).__name__ == "LimitExhausted"
    assert wired.sent == []
    metered.settled(0)


@on(api_client)
def test_the_output_that_is_held_for_is_bounded_for_all_candidates(make: Callable[..., Any], metered: Metered) -> None:
    held: list[int | None] = []

    def look(sent: dict[str, Any]) -> gemini.Answer:
        held.append(metered.meter.store.holds()[0].amount)
        return gemini.content(sent)

    async def ask(client: Any, way: Any, seen: list[Any]) -> None:
        bounds = {"max_output_tokens": 10, "candidate_count": 3}
        seen.append(await value(client.models.generate_content(model=MODEL, contents="", config=bounds)))

    metered.run(ask, make(Wire(look)), None)  # type: ignore[arg-type]

    (amount,) = held
    assert amount is not None
    per_input, per_output = 300, 2_500  # nano-dollars, gemini-2.5-flash
    assert (amount - 30 * per_output) % per_input == 0
    assert 0 < amount - 30 * per_output < 20 * per_input


# -- what is free, and what is not guarded -----------------------------------------------------------


FREE = {
    "count_tokens": lambda client: client.models.count_tokens(model=MODEL, contents=QUESTION),
    "models.list": lambda client: client.models.list(),
    "files.list": lambda client: client.files.list(),
    "caches.list": lambda client: client.caches.list(),
    "files.delete": lambda client: client.files.delete(name="files/1"),
}
QUESTION = gemini.QUESTION


@on(api_client)
@pytest.mark.parametrize("call", FREE.values(), ids=FREE)
def test_what_is_free_is_not_metered(make: Callable[..., Any], call: Any, metered: Metered) -> None:
    async def ask(client: Any, way: Any, seen: list[Any]) -> None:
        await value(call(client))

    result = metered.run(ask, make(Wire(lambda sent: gemini.as_json({"totalTokens": 4}))), None)  # type: ignore[arg-type]

    assert result.error is None
    metered.settled(0)
    assert metered.meter.status()["unguarded"] == []


def cached(client: Any) -> Any:
    return client.caches.create(model=MODEL, config={"contents": QUESTION})


def video(client: Any) -> Any:
    return client.models.generate_videos(model="veo-3.0-generate-001", prompt="A duck")


async def twice(client: Any, call: Any, seen: list[Any]) -> None:
    await value(call(client))
    await value(call(client))


def check_unguarded(make: Callable[..., Any], what: str, call: Any, metered: Metered, warned: Any) -> None:
    wired = Wire(lambda sent: gemini.as_json({"name": "thing/1"}))
    result = metered.run(twice, make(wired), call)  # type: ignore[arg-type]

    assert result.error is None
    assert len(wired.sent) == 2
    assert [record.args for record in warned.records if record.levelno == logging.WARNING] == [(what,)]
    assert metered.meter.status()["unguarded"] == [what]
    metered.settled(0)


@experimental
@on(api_client)
def test_what_is_not_guarded_is_warned_about_once(
    make: Callable[..., Any], metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    check_unguarded(make, "POST cachedContents of the google SDK", cached, metered, caplog)


@experimental
@on(vertex_client)
def test_videos_are_not_guarded(make: Callable[..., Any], metered: Metered, caplog: pytest.LogCaptureFixture) -> None:
    check_unguarded(make, "POST *:predictLongRunning of the google SDK", video, metered, caplog)


@experimental
@on(api_client)
def test_what_is_not_guarded_is_refused_on_demand(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.config.on_unguarded = "refuse"
    wired = Wire(gemini.content)
    result = metered.run(twice, make(wired), cached)  # type: ignore[arg-type]

    assert type(result.error) is UnguardedCall
    assert wired.sent == []


async def test_a_websocket_is_not_guarded(metered: Metered) -> None:
    metered.meter.config.on_unguarded = "refuse"
    metered.meter.patch("google")

    with pytest.raises(UnguardedCall, match="live.connect of the google SDK"):
        api_client(Wire(gemini.content)).aio.live.connect(model=MODEL)


# -- the hooks ---------------------------------------------------------------------------------------


def hooked() -> list[Any]:
    client = _api_client.BaseApiClient
    names = ("request", "request_streamed", "async_request", "async_request_streamed")
    streams = [(models.Models, "generate_content_stream"), (models.AsyncModels, "generate_content_stream")]
    chatting = [(chats.Chat, "send_message_stream"), (chats.AsyncChat, "send_message_stream")]
    return [getattr(cls, name) for cls, name in [*((client, name) for name in names), *streams, *chatting]]


def test_the_sdk_keeps_its_signatures_and_gets_its_methods_back(metered: Metered) -> None:
    before = hooked()
    metered.meter.patch("google")
    during = hooked()
    metered.meter.unpatch("google")

    assert hooked() == before
    for plain, wrapped in zip(before, during, strict=True):
        assert wrapped is not plain
        assert inspect.signature(wrapped) == inspect.signature(plain)
        assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(plain)
        assert (wrapped.__name__, wrapped.__doc__) == (plain.__name__, plain.__doc__)
