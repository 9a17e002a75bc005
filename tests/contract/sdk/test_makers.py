"""Bedrock, Mistral, Cohere and LiteLLM: the caller notices nothing, and one event a call says what it cost."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.sdk.makers import ANSWER, OUTPUT, QUESTION, Maker, Sdk, closing, sdks
from tests.contract.sdk.metered import TENANT, Metered, Run, price, run
from tests.contract.sdk.uses import each, first, value
from tests.waiting import wait_until
from token_limit_core import LimitExceededException, Meter, MeterConfig
from token_limit_core.errors import refusal_in

ALL = list(sdks())

pytestmark = pytest.mark.filterwarnings("ignore")  # those SDKs warn of much of their own


@pytest.fixture
def sdk(request: pytest.FixtureRequest) -> Sdk:
    chosen: Sdk = request.param
    return chosen


@pytest.fixture
def metered(sdk: Sdk, maker: Maker, caplog: pytest.LogCaptureFixture) -> Iterator[Metered]:
    metered = Metered(sdk.patch, **({"hosts": {maker.host: sdk.provider}} if sdk.hosts else {}))
    yield metered
    metered.meter.close()
    faults = [
        record.message for record in caplog.records if record.levelname == "ERROR" and record.name == "token_limit"
    ]
    assert faults == []


every_sdk = pytest.mark.parametrize("sdk", ALL, indirect=True, ids=str)


# -- ways to call -----------------------------------------------------------------------------------


async def every(opened: Any, sdk: Sdk) -> list[Any]:
    """Read a stream to its end; LiteLLM's are of both kinds, whichever function made them."""
    return [chunk async for chunk in each(opened)] if sdk.asynchronous else list(opened)


async def one(opened: Any, sdk: Sdk) -> Any:
    return await first(opened) if sdk.asynchronous else next(iter(opened))


async def whole(client: Any, sdk: Sdk, seen: list[Any]) -> None:
    seen.append(await value(sdk.whole(client)))


async def stream(client: Any, sdk: Sdk, seen: list[Any]) -> None:
    seen += await every(await value(sdk.stream(client)), sdk)


async def broken_off(client: Any, sdk: Sdk, seen: list[Any]) -> None:
    opened = await value(sdk.stream(client))
    seen += [await one(opened, sdk), await one(opened, sdk)]


async def closed(client: Any, sdk: Sdk, seen: list[Any]) -> None:
    opened = await value(sdk.stream(client))
    seen.append(await one(opened, sdk))
    for name in ("aclose", "close") if sdk.asynchronous else ("close",):
        if hasattr(opened, name):
            await value(getattr(opened, name)())
            await value(getattr(opened, name)())
            return


async def never_iterated(client: Any, sdk: Sdk, seen: list[Any]) -> None:
    await value(sdk.stream(client))


def tidy(way: Any) -> Any:
    async def tidied(client: Any, sdk: Sdk, seen: list[Any]) -> None:
        await closing(way(client, sdk, seen))

    return tidied


def use(metered: Metered, way: Any, sdk: Sdk, maker: Maker) -> Run:
    return metered.run(tidy(way), sdk.make(maker.url), sdk)  # type: ignore[arg-type]


def without(way: Any, sdk: Sdk, maker: Maker, client: Any = None) -> Run:
    """Run a use without a Meter, or under one that has patched already."""
    return run(tidy(way), client or sdk.make(maker.url), sdk)  # type: ignore[arg-type]


def as_told(sdk: Sdk) -> Decimal:
    return price(sdk.priced_as, sdk.provider, **sdk.prices)


# -- what is billed ---------------------------------------------------------------------------------


@every_sdk
@pytest.mark.parametrize("way", [whole, stream])
def test_a_call_is_billed_as_the_provider_reported(way: Any, sdk: Sdk, maker: Maker, metered: Metered) -> None:
    untouched = without(way, sdk, maker)
    maker.requests.clear()
    result = use(metered, way, sdk, maker)

    assert (result.error, untouched.error) == (None, None)
    assert list(map(type, result.seen)) == list(map(type, untouched.seen))
    assert all(piece in str(result.seen) for piece in ANSWER)
    assert len(maker.requests) == 1
    event = metered.event()
    assert (event.provider, event.model, event.endpoint) == (sdk.provider, sdk.model, sdk.endpoint)
    assert {name: getattr(event, name) for name in sdk.counts} == sdk.counts
    assert event.cost_usd == as_told(sdk)
    assert (event.stream, event.error, event.request_id) == (way is stream, None, sdk.request_id)
    assert "estimated" not in event.tags
    assert QUESTION not in str(event.to_dict())
    assert ANSWER[-1] not in str(event.to_dict())


@every_sdk
@pytest.mark.parametrize("way", [broken_off, closed, never_iterated])
def test_a_stream_that_is_left_is_settled_once(way: Any, sdk: Sdk, maker: Maker, metered: Metered) -> None:
    maker.requests.clear()
    result = use(metered, way, sdk, maker)

    assert result.error is None
    sent = len(maker.requests)  # none for a stream that is sent when it is first read
    wait_until(lambda: gc.collect() >= 0 and len(metered.events) == sent)  # LiteLLM's threads may hold it for a while
    assert metered.meter.flush(5)
    for event in metered.settled(sent):
        assert (event.provider, event.stream) == (sdk.provider, True)
        assert event.error in (None, "CancelledError")  # of LiteLLM's own task, as the loop ends
        assert event.tags.get("estimated") or event.output_tokens


@every_sdk
def test_a_stream_that_breaks_off_is_settled_once(sdk: Sdk, maker: Maker, metered: Metered) -> None:
    maker.cut = True
    untouched = without(stream, sdk, maker)
    result = use(metered, stream, sdk, maker)

    assert type(result.error) is type(untouched.error)
    assert len(result.seen) == len(untouched.seen)
    event = metered.event()
    assert event.error is not None or untouched.error is None
    assert event.tags["estimated"] is True
    assert event.input_tokens > 0


@every_sdk
@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("way", [whole, stream])
def test_an_error_of_the_provider_costs_nothing(
    way: Any, status: int, sdk: Sdk, maker: Maker, metered: Metered
) -> None:
    maker.status = status
    untouched = without(way, sdk, maker)
    sent = len(maker.requests)
    result = use(metered, way, sdk, maker)

    assert result.error is not None
    assert type(result.error).__name__ == type(untouched.error).__name__
    again = way is stream and status == 400 and sdk.endpoint == "chat.completions" and sdk.patch == "litellm"
    assert len(maker.requests) == 2 * sent + again  # as it may be for the usage that it was asked for
    for event in metered.events:
        assert event.error is not None
        assert str(status) in event.error
        assert "secret" not in event.error
        assert (event.cost_usd, event.total_tokens, event.tags.get("estimated")) == (0, 0, None)
    assert len(metered.events) == (sent if sdk.patch == "litellm" else 1)


@every_sdk
def test_a_server_that_is_not_there_costs_nothing(sdk: Sdk, maker: Maker, metered: Metered) -> None:
    maker.server.stop()
    result = use(metered, whole, sdk, maker)

    assert result.error is not None
    assert {event.cost_usd for event in metered.events} == {0}


# -- what is refused --------------------------------------------------------------------------------


@every_sdk
@pytest.mark.parametrize("way", [whole, stream])
def test_a_refusal_is_raised_before_any_traffic(way: Any, sdk: Sdk, maker: Maker, metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    result = use(metered, way, sdk, maker)

    assert isinstance(result.error, LimitExceededException)
    assert refusal_in(result.error) is result.error
    assert maker.requests == []
    assert metered.events == []
    assert metered.meter.store.holds() == []
    assert metered.meter.status()["counts"]["refused"] == 1


@every_sdk
def test_spending_counts_against_the_limit(sdk: Sdk, maker: Maker, metered: Metered) -> None:
    metered.meter.set_limit(TENANT, as_told(sdk))
    admitted = use(metered, whole, sdk, maker)
    refused = use(metered, whole, sdk, maker)

    assert admitted.error is None
    assert isinstance(refused.error, LimitExceededException)
    assert len(maker.requests) == 1


# -- who pays ---------------------------------------------------------------------------------------


@every_sdk
def test_the_tenant_that_asks_for_a_stream_pays_for_it(sdk: Sdk, maker: Maker, metered: Metered) -> None:
    async def later(client: Any, sdk: Sdk, seen: list[Any]) -> None:
        with metered.meter.for_tenant("beta"):
            opened = await value(sdk.stream(client))
        seen += await every(opened, sdk)

    metered.meter.patch(sdk.patch)  # Cohere's clients keep the method that they find when they are made
    use(metered, later, sdk, maker)

    assert [event.tenant_id for event in metered.events] == ["beta"]


# -- hooks ------------------------------------------------------------------------------------------


@every_sdk
def test_a_client_made_before_the_patch_is_metered_until_it_is_taken_out(sdk: Sdk, maker: Maker) -> None:
    events: list[Any] = []
    client = sdk.make(maker.url)
    meter = Meter(MeterConfig(store="memory://", patches=[sdk.patch], on_event=events.append))
    with meter.patch_all(), meter.for_tenant(TENANT):
        assert meter.status()["patches"][sdk.patch]["state"] == "installed"
        without(whole, sdk, maker, client)
        assert len(events) == 1
    with meter.for_tenant(TENANT):
        assert without(whole, sdk, maker).error is None
    assert len(events) == 1


@every_sdk
def test_two_meters_share_one_hook(sdk: Sdk, maker: Maker, metered: Metered) -> None:
    mine: list[Any] = []
    metered.meter.patch(sdk.patch)
    with Meter(MeterConfig(store="memory://", patches=[sdk.patch], on_event=mine.append)).patch_all() as other:
        for scope in (other, metered.meter):
            with scope.for_tenant(TENANT):
                assert without(whole, sdk, maker).error is None
    assert (len(mine), len(metered.events)) == (1, 1)


@every_sdk
@pytest.mark.parametrize("way", [whole, stream])
def test_with_every_patch_a_call_is_still_one_event(way: Any, sdk: Sdk, maker: Maker) -> None:
    events: list[Any] = []
    hosts = {maker.host: sdk.provider}
    with Meter(MeterConfig(store="memory://", on_event=events.append, hosts=hosts)).patch_all() as meter:
        with meter.for_tenant(TENANT):
            assert without(way, sdk, maker).error is None
        assert meter.flush(5)
    assert [(event.provider, event.output_tokens) for event in events] == [(sdk.provider, OUTPUT)]


@pytest.mark.parametrize("sdk", ALL[:1], indirect=True, ids=str)
def test_nothing_said_is_in_the_log(sdk: Sdk, maker: Maker, metered: Metered, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "token_limit"):
        use(metered, whole, sdk, maker)
    gc.collect()
    assert QUESTION not in "".join(record.getMessage() for record in caplog.records if record.name == "token_limit")
