"""Clients with middleware: each answer that the provider gave is an event, however many a call has, and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from tests.contract.sdk import anthropic_wire as wire
from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import BETA, MESSAGES, AnthropicWire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.test_anthropic import COUNTS, cost
from tests.contract.sdk.test_anthropic_clients import BEDROCK, PLATFORMS, SYNC, at, client_of, streamed
from tests.contract.sdk.uses import Endpoint, Use, value
from tests.contract.sdk.wire import Answer, as_events, as_json, drop

PATCH = "anthropic"

WAYS: list[Use] = [
    uses.plain,
    uses.raw,
    uses.streaming_parsed,
    uses.streaming_read,
    uses.stream,
    uses.stream_raw,
    uses.stream_streaming,
    uses.stream_bytes,
    wire.helper_plain,
]


def passing(request: Any, call_next: Any) -> Any:
    return call_next(request)


async def apassing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def twice(request: Any, call_next: Any) -> Any:
    call_next(request).http_response.read()
    return call_next(request)


async def atwice(request: Any, call_next: Any) -> Any:
    await (await call_next(request)).http_response.aread()
    return await call_next(request)


def cached(request: Any, call_next: Any) -> Any:
    return anthropic.types.Message.model_validate(wire.message())


async def acached(request: Any, call_next: Any) -> Any:
    return cached(request, call_next)


def fails_after(request: Any, call_next: Any) -> Any:
    call_next(request).http_response.read()
    raise ValueError("the middleware's own")


async def afails_after(request: Any, call_next: Any) -> Any:
    await (await call_next(request)).http_response.aread()
    raise ValueError("the middleware's own")


def through(make: Callable[..., Any], wired: AnthropicWire, pair: tuple[Any, Any], **options: Any) -> Any:
    """Make a client with one of a pair of middlewares, the one of its kind."""
    asynchronous = make is AnthropicWire.async_client
    return make(wired, middleware=[pair[asynchronous]], **options)


@pytest.mark.parametrize("use", WAYS)
def test_middleware_that_only_passes_on_changes_nothing(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    untouched = run(use, through(make, AnthropicWire(wire.messages), (passing, apassing)), MESSAGES)
    wired = AnthropicWire(wire.messages)
    result = metered.run(use, through(make, wired, (passing, apassing)), MESSAGES)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert all(body.closed for body in wired.bodies)
    event = metered.event()
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert event.cost_usd == cost(wire.OUTPUT)


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_a_free_call_that_middleware_makes_on_the_way_is_not_the_paid_one(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    held: list[int] = []

    def counting(sent: dict[str, Any]) -> Answer:
        held.append(sum(hold.held for hold in metered.meter.store.holds()))
        return as_json({"input_tokens": 9}) if "max_tokens" not in sent else wire.messages(sent)

    def first(request: Any, call_next: Any) -> Any:
        if "count_tokens" not in str(request.url):
            client.messages.count_tokens(model=wire.MODEL, messages=MESSAGES.arguments["messages"])
        return call_next(request)

    async def afirst(request: Any, call_next: Any) -> Any:
        if "count_tokens" not in str(request.url):
            await client.messages.count_tokens(model=wire.MODEL, messages=MESSAGES.arguments["messages"])
        return await call_next(request)

    client = through(make, AnthropicWire(counting), (first, afirst))
    assert metered.run(use, client, MESSAGES).error is None
    assert metered.event().cost_usd == cost(wire.OUTPUT)
    assert len(held) == 2
    assert held[0] == held[1] > 0


@pytest.mark.parametrize("use", WAYS)
def test_middleware_that_calls_twice_is_two_events(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    wired = AnthropicWire(wire.messages)
    result = metered.run(use, through(make, wired, (twice, atwice)), MESSAGES)

    assert result.error is None
    assert len(wired.sent) == 2
    assert [event.output_tokens for event in metered.events] == [wire.OUTPUT] * 2
    assert {event.tenant_id for event in metered.events} == {TENANT}
    assert len({event.event_id for event in metered.events}) == 2
    assert [event.cost_usd for event in metered.events] == [cost(wire.OUTPUT)] * 2
    assert metered.meter.store.holds() == []
    (status,) = metered.meter.usage(TENANT)
    assert (status.held, status.settled) == (0, 2 * int(cost(wire.OUTPUT) * 10**9))


def test_an_answer_out_of_the_middlewares_cache_costs_nothing(make: Callable[..., Any], metered: Metered) -> None:
    wired = AnthropicWire(wire.messages)
    result = metered.run(uses.plain, through(make, wired, (cached, acached)), MESSAGES)

    assert result.seen[0].usage.input_tokens == wire.INPUT
    assert wired.sent == []
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.cost_usd) == (0, 0, 0)
    assert event.tags["answered_by"] == "middleware"


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_an_answer_that_middleware_throws_away_is_billed(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    result = metered.run(use, through(make, AnthropicWire(wire.messages), (fails_after, afails_after)), MESSAGES)

    assert str(result.error) == "the middleware's own"
    assert metered.event().output_tokens == wire.OUTPUT


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_errors_and_retries_under_middleware_are_one_call(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    down = wire.error(500, "api_error")
    wired = AnthropicWire(down, drop(wire.httpx.ReadError("gone")), wire.messages)
    result = metered.run(use, through(make, wired, (passing, apassing), max_retries=2), MESSAGES)

    assert result.error is None
    assert len(wired.sent) == 3
    assert metered.event().output_tokens == wire.OUTPUT

    metered.events.clear()
    failing = through(make, AnthropicWire(down), (passing, apassing))
    assert isinstance(metered.run(use, failing, MESSAGES).error, anthropic.InternalServerError)
    (event,) = metered.events
    assert (event.error, event.cost_usd) == ("InternalServerError 500 api_error", 0)


@pytest.mark.parametrize("use", [uses.broken_off, uses.block_broken_off, uses.closed, uses.raw_broken_off])
def test_a_stream_under_middleware_left_early_is_billed_its_exact_input(
    make: Callable[..., Any], use: Use, metered: Metered
) -> None:
    result = metered.run(use, through(make, AnthropicWire(wire.messages), (passing, apassing)), MESSAGES)

    assert result.error is None
    event = metered.event()
    assert {name: getattr(event, name) for name in COUNTS} == COUNTS
    assert event.tags["estimated"] is True


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_raw])
@SYNC
def test_bedrocks_answers_under_middleware_are_counted_too(use: Use, sync: bool, metered: Metered) -> None:
    wired = AnthropicWire(wire.messages if use is uses.plain else streamed)
    client = client_of(PLATFORMS[0], wired, sync, middleware=[twice if sync else atwice])
    result = metered.run(use, client, at(PLATFORMS[0]))

    assert result.error is None
    assert [event.cost_usd for event in metered.events] == [cost(wire.OUTPUT, BEDROCK, "aws")] * 2


# -- the SDK's own: another model takes over when one refuses ----------------------------------------

OTHER = "claude-opus-4-8"


def refusing(sent: dict[str, Any]) -> Answer:
    """Refuse to the first model, answer to the other."""
    if sent["model"] == OTHER:
        if sent.get("stream"):
            return as_events(wire.events(model=OTHER), end=b"")
        return as_json(wire.message(model=OTHER))
    if not sent.get("stream"):
        return as_json(wire.message(stop_reason="refusal", content=[]))
    events = wire.events()
    events[-2]["delta"]["stop_reason"] = "refusal"
    return as_events([events[0], *events[-2:]], end=b"")


@pytest.mark.parametrize("use", [uses.plain, uses.stream, uses.stream_raw, uses.stream_streaming, wire.helper_plain])
def test_a_fallback_to_another_model_is_billed_for_both(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    from anthropic.lib.middleware import BetaRefusalFallbackMiddleware

    def client(wired: AnthropicWire) -> Any:
        return make(wired, middleware=[BetaRefusalFallbackMiddleware([{"model": OTHER}])])

    untouched = run(use, client(AnthropicWire(refusing)), BETA)
    wired = AnthropicWire(refusing)
    result = metered.run(use, client(wired), BETA)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    assert [sent["model"] for sent in wired.sent] == [wire.MODEL, OTHER]
    billed = {(event.model, event.tenant_id, event.cost_usd) for event in metered.events}
    assert billed == {(wire.ANSWERED, TENANT, cost(wire.OUTPUT)), (OTHER, TENANT, cost(wire.OUTPUT, OTHER))}
    assert len(metered.events) == 2
    assert metered.meter.store.holds() == []


def test_a_fallback_in_the_middle_of_a_stream_is_the_tenants_that_opened_it(
    make: Callable[..., Any], metered: Metered
) -> None:
    from anthropic.lib.middleware import BetaRefusalFallbackMiddleware

    async def use(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        stream = await value(endpoint.create(client, stream=True))
        with metered.meter.for_tenant("somebody else"):
            seen += [event async for event in uses.each(stream)]

    middleware = [BetaRefusalFallbackMiddleware([{"model": OTHER}])]
    metered.run(use, make(AnthropicWire(refusing), middleware=middleware), BETA)

    assert sorted((event.model, event.tenant_id) for event in metered.events) == [
        (OTHER, TENANT),
        (wire.ANSWERED, TENANT),
    ]
