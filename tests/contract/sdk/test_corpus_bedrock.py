"""Recorded answers of Bedrock, replayed through boto3: the event says what the provider reported, each once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import botocore.exceptions
from botocore.config import Config

from tests.contract import corpus
from tests.contract.corpus import Exchange, needs_corpus
from tests.contract.sdk.metered import Metered

PATCH = "bedrock"
FAMILIES = ("converse", "bedrock-invoke")

pytestmark = needs_corpus


def client(exchange: Exchange) -> Any:
    made = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )
    corpus.replay().boto_stub(made, exchange)
    return made


async def replay(client: Any, exchange: Exchange, seen: list[Any]) -> None:
    """Make the recorded call, and read its answer to the end."""
    path = unquote(urlsplit(exchange["url"]).path)
    model, _, operation = path.removeprefix("/model/").rpartition("/")
    if operation == "converse":
        seen.append(client.converse(modelId=model, **exchange["request"]))
    elif operation == "converse-stream":
        seen += client.converse_stream(modelId=model, **exchange["request"])["stream"]
    elif operation == "invoke":
        seen.append(client.invoke_model(modelId=model, body=json.dumps(exchange["request"]))["body"].read())
    else:
        body = json.dumps(exchange["request"])
        seen += client.invoke_model_with_response_stream(modelId=model, body=body)["body"]


def test_recorded_exchanges_are_billed_as_reported(
    metered: Metered, record_property: Callable[[str, object], None]
) -> None:
    tally = corpus.Tally()
    for exchange in corpus.exchanges(lambda exchange: exchange["family"] in FAMILIES):
        metered.events.clear()
        result = metered.run(replay, client(exchange), exchange)  # type: ignore[arg-type]
        assert result.error is None or isinstance(result.error, botocore.exceptions.ClientError), exchange["id"]
        (event,) = metered.events
        assert event.provider == "aws"
        if exchange["status"] != 200:
            assert event.error is not None
            assert (event.cost_usd, event.total_tokens) == (0, 0)
            tally.outcomes["refused by the provider, free"] += 1
            continue
        assert result.error is None, exchange["id"]
        tally.compare(event, exchange)
        tally.note_price(event)
    tally.finish("Bedrock", record_property)
    assert metered.meter.store.holds() == []
