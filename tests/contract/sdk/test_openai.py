"""Every way to call OpenAI's SDK: the caller notices nothing, and exactly one event says what it cost.

Each cell runs twice against the same wire, unpatched and patched, and compares what the caller got.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import Metered, price
from tests.contract.sdk.uses import ALL, PARSING, STREAMING, Endpoint, Table, Use, cells
from tests.contract.sdk.wire import Wire

WHOLE: Table = [
    ((uses.plain, uses.raw, uses.posted), ALL, False),
    ((uses.streaming_parsed, uses.streaming_read, uses.streaming_bytes), ALL, False),
    ((uses.parse, uses.parse_raw), PARSING, False),
    ((uses.stream, uses.stream_by_next, uses.stream_block, uses.stream_raw, uses.stream_streaming), STREAMING, True),
    ((uses.stream_bytes, uses.stream_lines, uses.stream_undecoded), STREAMING, True),
    ((uses.helper,), PARSING, True),
]
"""Ways that end with the provider's usage, the endpoints that have them, and whether they stream."""

PARTIAL: Table = [
    ((uses.broken_off, uses.block_broken_off, uses.closed, uses.closed_unread), STREAMING, True),
    ((uses.never_iterated, uses.raw_broken_off, uses.raw_never_read, uses.bytes_broken_off), STREAMING, True),
    ((uses.helper_broken_off,), PARSING, True),
    ((uses.streaming_never_read,), ALL, False),
]
"""Ways that end before the provider's usage was seen."""


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(WHOLE))
def test_a_call_is_billed_once_with_the_usage_the_provider_reported(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    result, wired = metered.run_beside(use, make, lambda: Wire(endpoint.script), endpoint)

    assert result.error is None
    assert len(wired.sent) == 1
    assert all(body.closed for body in wired.bodies)
    event = metered.event()
    assert (event.provider, event.endpoint, event.stream) == ("openai", endpoint.name, streams)
    assert event.model == endpoint.answered
    assert event.tags.get("requested_model") == (wire.MODEL if endpoint.answered != endpoint.model else None)
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, endpoint.output)
    assert event.total_tokens == wire.INPUT + endpoint.output
    assert (event.cached_tokens, event.reasoning_tokens) == (endpoint.cached, endpoint.reasoning)
    assert (event.request_id, event.error) == (wire.REQUEST_ID, None)
    assert "estimated" not in event.tags
    assert event.cost_usd == price(
        endpoint.answered,
        input_tokens=wire.INPUT,
        output_tokens=endpoint.output,
        **({"cache_read_tokens": endpoint.cached} if endpoint.cached else {}),
    )
    assert event.duration_ms is not None
    assert 0 < event.duration_ms < 10_000


@pytest.mark.parametrize(("use", "endpoint", "streams"), cells(PARTIAL))
def test_what_is_not_read_to_its_end_is_billed_once_from_what_was_seen(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, streams: bool, metered: Metered
) -> None:
    result, wired = metered.run_beside(use, make, lambda: Wire(endpoint.script), endpoint)

    assert result.error is None
    event = metered.event()
    assert (event.endpoint, event.stream, event.error) == (endpoint.name, streams, None)
    assert event.tags["estimated"] is True
    assert 0 < event.input_tokens < 50
    assert 0 <= event.output_tokens < 10
    assert event.request_id == wire.REQUEST_ID
    assert event.cost_usd == price(endpoint.model, input_tokens=event.input_tokens, output_tokens=event.output_tokens)


def test_what_was_seen_of_the_output_is_billed(make: Callable[..., Any], metered: Metered) -> None:
    result = metered.run(uses.broken_off, make(Wire(uses.CHAT.script)), uses.CHAT)

    assert [chunk.choices[0].delta.content for chunk in result.seen] == ["", *wire.WORDS[:2]]
    assert metered.event().output_tokens == 2


@pytest.mark.parametrize("use", [uses.stream, uses.stream_raw, uses.block_broken_off, uses.closed, uses.closed_unread])
def test_an_end_the_caller_saw_is_settled_when_it_saw_it(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    counted: list[int] = []

    async def use_and_count(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        await use(client, endpoint, seen)
        counted.append(len(metered.events))

    metered.run(use_and_count, make(Wire(uses.CHAT.script)), uses.CHAT)

    assert counted == [1]
    metered.event()


def test_the_sdk_keeps_its_signatures(make: Callable[..., Any], metered: Metered) -> None:
    client = make(Wire(uses.CHAT.script))
    funnel = type(client).request
    before = inspect.signature(funnel), inspect.iscoroutinefunction(funnel), funnel.__name__, funnel.__doc__
    metered.meter.patch("openai")

    patched = type(client).request
    assert (
        inspect.signature(patched), inspect.iscoroutinefunction(patched), patched.__name__, patched.__doc__
    ) == before  # fmt: skip


def test_other_requests_are_not_metered(metered: Metered) -> None:
    wired = Wire(lambda sent: wire.as_json({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]}))
    metered.meter.patch("openai")
    with metered.meter.for_tenant("acme"):
        assert [model.id for model in wired.client().models.list()] == ["gpt-4o-mini"]

    assert metered.events == []
