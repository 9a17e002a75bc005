"""Recorded answers of Cohere, replayed through its SDK: the event says what the provider reported, each once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import cohere
import httpx
import pytest

from tests.contract import corpus
from tests.contract.corpus import Exchange, needs_corpus
from tests.contract.sdk.metered import Metered, price
from tests.contract.sdk.uses import each, value

PATCH = "cohere"

pytestmark = [needs_corpus, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def client(exchange: Exchange, transport: Any, asynchronous: bool) -> Any:
    second = "/v2/" in exchange["url"]
    made: Any
    if asynchronous:
        made = cohere.AsyncClientV2 if second else cohere.AsyncClient
        return made(api_key="secret", httpx_client=httpx.AsyncClient(transport=transport))
    made = cohere.ClientV2 if second else cohere.Client
    return made(api_key="secret", httpx_client=httpx.Client(transport=transport))


ARGUMENTS: dict[str, dict[str, Any]] = {
    "/v1/chat": {"message": "?"},
    "/v2/chat": {"messages": [{"role": "user", "content": "?"}]},
    "/v1/generate": {"prompt": "?"},
    "/v1/rerank": {"query": "?", "documents": ["?"]},
    "/v2/rerank": {"query": "?", "documents": ["?"]},
    "/v2/embed": {"texts": ["?"], "input_type": "search_query", "embedding_types": ["float"]},
    "/v1/tokenize": {"text": "?", "offline": False},
}


async def replay(client: Any, exchange: Exchange, seen: list[Any]) -> None:
    """Make the recorded call."""
    path = urlsplit(exchange["url"]).path
    arguments = {"model": exchange["request"]["model"], **ARGUMENTS[path]}
    method = path.rpartition("/")[2] + ("_stream" if exchange["stream"] else "")
    answer = getattr(client, method)(**arguments)
    seen += [event async for event in each(answer)] if exchange["stream"] else [await value(answer)]


def listed_cost(exchange: Exchange) -> Decimal | None:
    """Work out what the provider bills by its units, which are fewer than its tokens; None without a price."""
    told = exchange["expected"]
    try:
        return price(
            told["request_model"],
            "cohere",
            None,
            input_tokens=told.get("billed_input_tokens") or 0,
            output_tokens=told.get("billed_output_tokens") or 0,
        )
    except LookupError:
        return None


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_recorded_exchanges_are_billed_as_reported(
    asynchronous: bool, metered: Metered, record_property: Callable[[str, object], None]
) -> None:
    tally = corpus.Tally()
    for exchange in corpus.exchanges(lambda exchange: exchange["provider"] == "cohere"):
        metered.events.clear()
        transport = corpus.replay().transport(exchange, lib="httpx")
        made = client(exchange, transport, asynchronous)
        result = metered.run(replay, made, exchange)  # type: ignore[arg-type]
        free = bool(exchange["expected"].get("count_only"))
        assert len(metered.events) == (0 if free else 1), exchange["id"]
        if free:
            tally.outcomes["free, not metered"] += 1
            continue
        (event,) = metered.events
        if exchange["status"] != 200:
            assert isinstance(result.error, cohere.errors.NotFoundError)
            assert (event.cost_usd, event.total_tokens, event.error) == (0, 0, "StatusError 404")
            tally.outcomes["refused by the provider, free"] += 1
            continue
        assert result.error is None, exchange["id"]
        others = {"rerank_searches": (event.rerank_searches, exchange["expected"].get("billed_search_units"))}
        if event.rerank_searches is None and "price_assumed" not in event.tags:
            others["cost_usd"] = event.cost_usd, listed_cost(exchange)
        tally.compare(event, exchange, **others)
        tally.note_price(event)
    tally.finish("Cohere", record_property)
    assert metered.meter.store.holds() == []
