"""Recorded answers of Gemini, replayed through Google's SDK: the event says what the provider reported, each once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from google import genai
from google.oauth2.credentials import Credentials

from tests.contract import corpus
from tests.contract.corpus import Exchange, needs_corpus
from tests.contract.sdk.gemini import HAS_INTERACTIONS, NO_TLS, httpx
from tests.contract.sdk.metered import Metered
from tests.contract.sdk.uses import each, value

PATCH = "google"
FAMILIES = ("gemini", "gemini-interactions", "vertex-predict")

EXCHANGES = list(corpus.exchanges(lambda exchange: exchange["family"] in FAMILIES))

URL = re.compile(
    r"(?P<prefix>.*?)/(?P<version>v1\w*)/(projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/)?"
    r"(.*/)?(?P<model>[^/:]+)(:(?P<verb>\w+))?"
)

pytestmark = [needs_corpus, pytest.mark.filterwarnings("ignore:.*experimental")]


def unreplayable(exchange: Exchange, sent: list[str]) -> str | None:
    """Say why this SDK cannot be made to receive an exchange; None when it has."""
    if "interactions" in exchange["url"] and not HAS_INTERACTIONS:
        return "this google-genai has no interactions"
    asked = urlsplit(exchange["url"]).path.rpartition(":")[2]
    if sent and not sent[0].endswith(asked) and {asked, sent[0].rpartition(":")[2]} <= EMBEDDING_VERBS:
        return f"this google-genai asks {sent[0].rpartition(':')[2]} of this model, not {asked}"
    return None


EMBEDDING_VERBS = {"predict", "embedContent", "batchEmbedContents"}


def as_events(exchange: Exchange) -> Exchange:
    """Give a stream recorded as a JSON array (without `alt=sse`) as the events that this SDK asks for."""
    body = exchange.get("response_text") or ""
    if not exchange["stream"] or not body.lstrip().startswith("["):
        return exchange
    events = [f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in json.loads(body)]
    return {**exchange, "response_text": "".join(events)}


def parts_of(exchange: Exchange) -> re.Match[str]:
    parts = URL.fullmatch(urlsplit(exchange["url"]).path)
    assert parts is not None
    return parts


def client(exchange: Exchange, transport: Any) -> genai.Client:
    url, parts = urlsplit(exchange["url"]), parts_of(exchange)
    arguments = {"transport": transport, "verify": NO_TLS}
    options: Any = {
        "base_url": f"{url.scheme}://{url.netloc}{parts['prefix']}",
        "api_version": parts["version"],
        "client_args": arguments,
        "async_client_args": arguments,
        "retry_options": {"attempts": 1},
    }
    if parts["project"]:
        place = {"project": parts["project"], "location": parts["location"]}
        credentials = Credentials("secret")  # type: ignore[no-untyped-call]
        return genai.Client(vertexai=True, credentials=credentials, http_options=options, **place)
    return genai.Client(api_key="secret", vertexai="/publishers/" in url.path or None, http_options=options)


async def replay(client: Any, exchange: Exchange, seen: list[Any]) -> None:
    """Make the recorded call; the body goes as it was recorded, whatever the SDK made of it."""
    parts = parts_of(exchange)
    verb, models = parts["verb"], client.models
    if verb is None:
        answer = await value(client.interactions.create(**exchange["request"]))
        seen += [event async for event in each(answer)] if exchange["stream"] else [answer]
        return
    call = {"model": parts["model"], "config": {"http_options": {"extra_body": exchange["request"]}}}
    if verb == "streamGenerateContent":
        seen += [chunk async for chunk in each(await value(models.generate_content_stream(contents="?", **call)))]
    elif verb == "generateContent":
        seen.append(await value(models.generate_content(contents="?", **call)))
    elif verb == "countTokens":
        seen.append(await value(models.count_tokens(contents="?", **call)))
    else:
        seen.append(await value(models.embed_content(contents="?", **call)))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_recorded_exchanges_are_billed_as_reported(
    asynchronous: bool, metered: Metered, record_property: Callable[[str, object], None]
) -> None:
    tally = corpus.Tally()
    for exchange in map(as_events, EXCHANGES):
        transport = corpus.replay().transport(exchange, lib=httpx.__name__)
        made = client(exchange, transport)

        metered.events.clear()
        if unreplayable(exchange, []) is None:
            metered.run(replay, made.aio if asynchronous else made, exchange)  # type: ignore[arg-type]
            corpus.release_work(metered.meter, exchange)
        reason = unreplayable(exchange, [urlsplit(sent["url"]).path for sent in transport.seen])
        if reason is not None:
            tally.outcomes[reason] += 1
            continue
        free = bool(exchange["expected"].get("count_only"))
        assert len(metered.events) == (0 if free else 1), exchange["id"]
        for event in metered.events:
            tally.note_price(event)
        if free:
            tally.outcomes["free, not metered"] += 1
        elif not corpus.scored(exchange):
            tally.outcomes["not scored: " + exchange["expected"]["note"]] += 1
        else:
            tally.compare(metered.events[0], exchange)
    tally.finish("Gemini", record_property)
    assert metered.meter.store.holds() == []
