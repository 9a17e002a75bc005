"""Recorded answers of Claude, replayed through Anthropic's own clients: the event says what the provider reported."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from urllib.parse import unquote, urlsplit

import anthropic
import pytest

from tests.contract import corpus
from tests.contract.corpus import Exchange
from tests.contract.sdk.anthropic_wire import httpx
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import each, entered, value
from tests.waiting import PATIENCE
from token_limit_core import LLMEvent

PATCH = "anthropic"

pytestmark = [
    corpus.needs_corpus,
    pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*output_format.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using Claude with .* and 'thinking.type=enabled'.*:UserWarning"),
]


def wanted(exchange: Exchange) -> bool:
    return exchange["family"] == "anthropic" or (
        exchange["family"] == "bedrock-invoke" and "anthropic.claude" in exchange["url"]
    )


KNOWN = inspect.signature(anthropic.resources.Messages.create).parameters
EXCHANGES = list(corpus.exchanges(wanted))


def client_for(exchange: Exchange, sync: bool) -> Any:
    """Make the client that would have made the exchange."""
    transport = corpus.replay().transport(exchange, lib=httpx.__name__)
    http_client = (anthropic.DefaultHttpxClient if sync else anthropic.DefaultAsyncHttpxClient)(transport=transport)
    options: dict[str, Any] = {"http_client": http_client, "max_retries": 0}
    if exchange["family"] == "bedrock-invoke":
        cls: Any = anthropic.AnthropicBedrock if sync else anthropic.AsyncAnthropicBedrock
        options |= {"aws_access_key": "x", "aws_secret_key": "x", "aws_region": "us-east-1"}
        return cls(base_url=exchange["url"].partition("/model/")[0], **options)
    cls = anthropic.Anthropic if sync else anthropic.AsyncAnthropic
    return cls(api_key="x", base_url=exchange["url"].partition("/v1/messages")[0], **options)


def arguments(exchange: Exchange) -> dict[str, Any]:
    """Give the recorded request as arguments of `create`; what an SDK version has no name for goes along as it is."""
    body = dict(exchange["request"])
    body.pop("anthropic_version", None)
    if exchange["family"] == "bedrock-invoke":
        body["model"] = unquote(urlsplit(exchange["url"]).path.split("/")[2])
        if exchange["stream"] or exchange["url"].endswith("-stream"):
            body["stream"] = True
    extra = {name: body.pop(name) for name in list(body) if name not in KNOWN}
    return {"max_tokens": None, **body, **({"extra_body": extra} if extra else {})}


async def replay(exchange: Exchange, sync: bool, as_bytes: bool) -> None:
    """Make the recorded call once, and read all of its answer."""
    client = client_for(exchange, sync)
    view = client.beta.messages if "beta=true" in exchange["url"] else client.messages
    if as_bytes:
        view = view.with_streaming_response
    given = arguments(exchange)
    if counts_tokens(exchange):
        given.pop("max_tokens")
        answer = view.count_tokens(**given)
    else:
        answer = view.create(**given)
    if as_bytes:
        async with entered(answer) as response:
            await value(response.read())
        return
    answer = await value(answer)
    if given.get("stream"):
        async for _ in each(answer):
            pass


def counts_tokens(exchange: Exchange) -> bool:
    return str(exchange["url"]).partition("?")[0].endswith("/count_tokens")


def events_of(exchange: Exchange, sync: bool, as_bytes: bool) -> list[LLMEvent]:
    """Replay one exchange under a Meter of its own."""
    metered = Metered(PATCH)
    metered.meter.patch(PATCH)
    try:
        with metered.meter.for_tenant(TENANT):
            fails = exchange["status"] != 200
            with pytest.raises(anthropic.APIStatusError) if fails else nullcontext():
                asyncio.run(replay(exchange, sync, as_bytes))
        assert metered.meter.flush(PATIENCE)
        assert metered.meter.store.holds() == []
        return metered.events
    finally:
        metered.meter.close()


@pytest.mark.parametrize("as_bytes", [False, True], ids=["parsed", "bytes"])
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_every_recorded_exchange_is_billed_as_the_provider_reported_it(
    sync: bool, as_bytes: bool, record_property: Callable[[str, object], None]
) -> None:
    tally = corpus.Tally()
    for exchange in EXCHANGES:
        name = exchange["id"]
        events = events_of(exchange, sync, as_bytes)
        if counts_tokens(exchange):
            tally.outcomes["free"] += 1
            if events:
                tally.wrong[name] = events
        elif len(events) != 1:
            tally.wrong[name] = events
        elif corpus.scored(exchange):
            tally.compare(events[0], exchange)
            tally.note_price(events[0])
        elif told := _noted(events[0], exchange):
            tally.wrong[name] = told
        else:
            tally.outcomes["noted"] += 1
    tally.finish(f"Claude, {'sync' if sync else 'async'}, {'bytes' if as_bytes else 'parsed'}", record_property)
    assert tally.outcomes.total() == len(EXCHANGES)


def _noted(event: LLMEvent, exchange: Exchange) -> dict[str, Any]:
    """Compare an answer whose top level leaves iterations out with the sum of its iterations."""
    told = exchange["expected"]
    assert told["note"] == "iterations_exceed_top_level"
    sums = {"input_tokens": told["iterations_input_total"], "output_tokens": told["iterations_output_total"]}
    return {name: (getattr(event, name), wanted) for name, wanted in sums.items() if getattr(event, name) != wanted}
