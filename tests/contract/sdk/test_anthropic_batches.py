"""Batches: making one costs nothing itself, and each message in its results is billed once, at the batch price."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.sdk import anthropic_wire as wire
from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import BETA, MESSAGES, AnthropicWire
from tests.contract.sdk.metered import TENANT, Metered, price, run
from tests.contract.sdk.uses import Endpoint, Use, each, entered, first, value
from tests.contract.sdk.wire import Answer, as_json

PATCH = "anthropic"

BATCH = "msgbatch_1"

HALF: Decimal = price(
    wire.ANSWERED,
    "anthropic",
    {"processing": "batch"},
    input_tokens=wire.INPUT + wire.CACHED + wire.WRITTEN,
    cache_read_tokens=wire.CACHED,
    cache_write_tokens=wire.WRITTEN,
    cache_write_1h_tokens=wire.WRITTEN_1H,
    output_tokens=wire.OUTPUT,
)


def entry(name: str, **result: Any) -> dict[str, Any]:
    return {"custom_id": name, "result": result}


RESULTS = [
    entry("a", type="succeeded", message=wire.message(id="msg_a")),
    entry("b", type="errored", error={"type": "error", "error": {"type": "api_error", "message": "secret"}}),
    entry("c", type="expired"),
    entry("d", type="succeeded", message=wire.message(id="msg_d")),
    entry("e", type="canceled"),
]


def batches(chunk: int = 50, end: bytes = b"\n") -> Callable[[dict[str, Any]], Answer]:
    """Answer a batch that has ended, and its results in pieces of so many bytes."""
    told = 0

    def script(sent: dict[str, Any]) -> Answer:
        nonlocal told
        told += 1
        if told % 2:
            url = f"https://api.anthropic.com/v1/messages/batches/{BATCH}/results"
            return as_json({"id": BATCH, "type": "message_batch", "processing_status": "ended", "results_url": url})
        body = b"\n".join(json.dumps(row).encode() for row in RESULTS) + end
        pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]
        return Answer(200, pieces, "application/binary")

    return script


async def results(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    decoder = await value(endpoint.resource(client).batches.results(BATCH))
    seen += [type(decoder)]
    seen += [row async for row in each(decoder)]


def view(client: Any, endpoint: Endpoint, name: str) -> Any:
    """Give a view of the batches, if this version's has their results."""
    found = getattr(endpoint.resource(client).batches, name)
    if not hasattr(found, "results"):
        pytest.skip(f"this version has no {name}.results")
    return found


async def results_raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    response = await value(view(client, endpoint, "with_raw_response").results(BATCH))
    seen += [row async for row in each(await value(response.parse()))]


async def results_streaming(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(view(client, endpoint, "with_streaming_response").results(BATCH)) as response:
        seen.append(b"".join([data async for data in each(response.iter_bytes())]))


def billed(metered: Metered) -> list[tuple[str | None, str, Decimal | None]]:
    return [(event.request_id, event.tenant_id, event.cost_usd) for event in metered.events]


@pytest.mark.parametrize("endpoint", [MESSAGES, BETA], ids=lambda endpoint: endpoint.name)
@pytest.mark.parametrize("use", [results, results_raw, results_streaming])
@pytest.mark.parametrize("end", [b"\n", b""], ids=["ended", "open"])
def test_each_message_of_a_batch_is_billed_at_the_batch_price(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, end: bytes, metered: Metered
) -> None:
    untouched = run(use, make(AnthropicWire(batches(end=end))), endpoint)
    result = metered.run(use, make(AnthropicWire(batches(end=end))), endpoint)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert billed(metered) == [("msg_a", TENANT, HALF), ("msg_d", TENANT, HALF)]
    event = metered.events[0]
    assert (event.endpoint, event.model, event.service_tier) == ("messages.batches", wire.ANSWERED, "batch")
    assert (event.input_tokens, event.output_tokens, event.cached_tokens) == (wire.INPUT, wire.OUTPUT, wire.CACHED)
    assert (event.stream, event.error, event.session_id, event.user) == (False, None, "s1", "ann")
    assert metered.meter.store.holds() == []
    (status,) = metered.meter.usage(TENANT)
    assert status.settled == 2 * int(HALF * 10**9)


@pytest.mark.parametrize("use", [results, results_raw, results_streaming])
def test_results_that_are_downloaded_again_are_billed_once(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    client = make(AnthropicWire(batches()))
    for _ in range(3):
        assert metered.run(use, client, MESSAGES).error is None

    assert len(metered.events) == 2
    (status,) = metered.meter.usage(TENANT)
    assert status.settled == 2 * int(HALF * 10**9)


def test_what_was_not_downloaded_is_not_billed_yet(make: Callable[..., Any], metered: Metered) -> None:
    async def one(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        decoder = await value(client.messages.batches.results(BATCH))
        seen.append(await first(decoder))
        await value(decoder.close())

    metered.run(one, make(AnthropicWire(batches(chunk=len(json.dumps(RESULTS[0])) + 1))), MESSAGES)

    assert [event.request_id for event in metered.events] == ["msg_a"]


def test_a_tenant_at_its_limit_still_gets_what_it_has_paid_for(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    result = metered.run(results, make(AnthropicWire(batches())), MESSAGES)

    assert result.error is None
    assert len(metered.events) == 2


def test_results_through_middleware_are_billed_once(make: Callable[..., Any], metered: Metered) -> None:
    def passing(request: Any, call_next: Any) -> Any:
        return call_next(request)

    async def apassing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    asynchronous = make is AnthropicWire.async_client
    client = make(AnthropicWire(batches()), middleware=[apassing if asynchronous else passing])
    result = metered.run(results, client, MESSAGES)

    assert result.error is None
    assert billed(metered) == [("msg_a", TENANT, HALF), ("msg_d", TENANT, HALF)]


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_a_call_outside_a_batch_is_not_cheaper(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    metered.run(use, make(AnthropicWire(wire.messages)), MESSAGES)

    cost = metered.event().cost_usd
    assert cost is not None
    assert cost > HALF
