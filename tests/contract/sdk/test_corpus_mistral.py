"""Recorded answers of Mistral, replayed through its SDK: the event says what the provider reported, each once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mistralai.client import Mistral

from tests.contract import corpus
from tests.contract.corpus import Exchange, needs_corpus
from tests.contract.sdk.metered import Metered
from tests.contract.sdk.uses import each, value

PATCH = "mistral"

pytestmark = needs_corpus


def client(exchange: Exchange, transport: Any) -> Mistral:
    url = urlsplit(exchange["url"])
    return Mistral(
        api_key="secret",
        server_url=f"{url.scheme}://{url.netloc}",
        client=httpx2.Client(transport=transport),
        async_client=httpx2.AsyncClient(transport=transport),
    )


def caller(asynchronous: bool) -> Any:
    async def replay(client: Mistral, exchange: Exchange, seen: list[Any]) -> None:
        """Make the recorded call; what the SDK makes of its body is of no concern here."""
        ending = "_async" if asynchronous else ""
        asked = {"model": exchange["request"]["model"]}
        if exchange["url"].endswith("/embeddings"):
            seen.append(await value(getattr(client.embeddings, "create" + ending)(inputs=["?"], **asked)))
        elif exchange["stream"]:
            messages: Any = [{"role": "user", "content": "?"}]
            opened = await value(getattr(client.chat, "stream" + ending)(messages=messages, **asked))
            seen += [event async for event in each(opened)]
        else:
            messages = [{"role": "user", "content": "?"}]
            seen.append(await value(getattr(client.chat, "complete" + ending)(messages=messages, **asked)))

    return replay


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_recorded_exchanges_are_billed_as_reported(
    asynchronous: bool, metered: Metered, record_property: Callable[[str, object], None]
) -> None:
    tally = corpus.Tally()
    for exchange in corpus.exchanges(lambda exchange: exchange["provider"] == "mistral"):
        metered.events.clear()
        transport = corpus.replay().transport(exchange, lib="httpx2")
        result = metered.run(caller(asynchronous), client(exchange, transport), exchange)  # type: ignore[arg-type]
        if result.error is not None:
            tally.outcomes[f"the SDK raises {type(result.error).__name__}"] += 1
        (event,) = metered.events
        assert event.provider == "mistral"
        tally.compare(event, exchange)
        tally.note_price(event)
    tally.finish("Mistral", record_property)
    assert metered.meter.store.holds() == []
