"""Cohere's SDK: what its surfaces are billed by, its retries, its client for Bedrock, and what is not metered."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import cohere
import httpx
import pytest

from tests.contract.sdk.makers import Maker
from tests.contract.sdk.metered import TENANT, Metered, price
from token_limit_core import Meter, MeterConfig
from token_limit_core.errors import UnguardedCall

pytestmark = pytest.mark.filterwarnings(  # its clients leave their sockets open
    "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def metered() -> Iterator[Metered]:
    metered = Metered("cohere")
    metered.meter.patch("cohere")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        yield metered
    metered.meter.close()


def client(maker: Maker, **options: Any) -> cohere.ClientV2:
    return cohere.ClientV2(**{"api_key": "secret", "base_url": maker.url, "max_retries": 0, **options})


def with_units(**units: int) -> dict[str, Any]:
    return {"id": "req-42", "meta": {"api_version": {"version": "2"}, "billed_units": units}}


def embedded(**units: int) -> dict[str, Any]:
    return {
        **with_units(**units),
        "response_type": "embeddings_by_type",
        "embeddings": {"float": [[0.5]]},
        "texts": ["?"],
    }


def test_what_was_embedded(maker: Maker, metered: Metered) -> None:
    maker.say(embedded(input_tokens=7, image_tokens=5))
    client(maker).embed(model="embed-v4.0", texts=["?"], input_type="search_query", embedding_types=["float"])

    event = metered.event()
    assert (event.endpoint, event.input_tokens, event.input_image_tokens) == ("embed", 7, 5)
    assert event.cost_usd == price("embed-v4.0", "cohere", input_tokens=12)
    assert event.request_id == "req-42"


def test_searches_of_reranking_are_counted(maker: Maker, metered: Metered) -> None:
    maker.say({**with_units(search_units=2), "results": [{"index": 0, "relevance_score": 0.9}]})
    client(maker).rerank(model="rerank-v3.5", query="?", documents=["a"])

    event = metered.event()
    assert (event.endpoint, event.rerank_searches) == ("rerank", 2)
    assert event.tags["price_assumed"]  # the list has no price of this model


def test_the_first_api_embeds_in_batches_each_of_which_is_a_request(maker: Maker, metered: Metered) -> None:
    maker.say(
        {**with_units(input_tokens=7), "response_type": "embeddings_floats", "embeddings": [[0.5]], "texts": ["?"]}
    )
    first = cohere.Client(api_key="secret", base_url=maker.url)
    first.embed(model="embed-v4.0", texts=["?"] * 100, input_type="search_query", batching=False)

    assert (len(maker.requests), metered.event().input_tokens) == (1, 7)


def test_retries_of_the_sdk_are_one_call(maker: Maker, metered: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    maker.status = 500
    with pytest.raises(cohere.errors.InternalServerError):
        client(maker, max_retries=2).chat(model="command-a-03-2025", messages=[{"role": "user", "content": "?"}])

    assert len(maker.requests) == 3
    assert (metered.event().error, metered.event().cost_usd) == ("StatusError 500", 0)


def test_its_client_for_bedrock_is_priced_as_bedrock(metered: Metered) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"X-Amzn-Bedrock-Input-Token-Count": "100", "X-Amzn-Bedrock-Output-Token-Count": "20"}
        return httpx.Response(200, json={"text": "42", "generation_id": "g"}, headers=headers)

    bedrock = cohere.BedrockClient(aws_access_key="a", aws_secret_key="b", aws_region="us-east-1")
    sending = bedrock._client_wrapper.httpx_client.httpx_client
    sending._transport = httpx.MockTransport(answer)
    bedrock.chat(model="mistral.mistral-7b-instruct-v0:2", message="?")  # any model that has a price there

    event = metered.event()
    assert (event.provider, event.input_tokens, event.output_tokens) == ("aws", 100, 20)
    assert event.cost_usd == price("mistral.mistral-7b-instruct-v0:2", "aws", input_tokens=100, output_tokens=20)


def test_what_more_goes_into_the_body_counts(maker: Maker, metered: Metered) -> None:
    maker.say(embedded(input_tokens=1))
    more: Any = {"additional_body_parameters": {"model": "embed-v4.0"}}
    client(maker).embed(
        model="x", texts=["?"], input_type="search_query", embedding_types=["float"], request_options=more
    )

    assert (metered.event().model, metered.event().cost_usd) == ("embed-v4.0", Decimal("1.2e-7"))


SPENDING = [("finetuning", "create_finetuned_model", {"request": {}})]
FREE = [("", "tokenize", {"text": "?", "model": "m", "offline": False}), ("connectors", "list", {})]


def called(maker: Maker, where: str, method: str, arguments: dict[str, Any]) -> None:
    made = client(maker)
    getattr(getattr(made, where) if where else made, method)(**arguments)


@pytest.mark.parametrize(("where", "method", "arguments"), SPENDING, ids=[row[0] for row in SPENDING])
def test_what_spends_out_of_sight_falls_under_the_policy(
    where: str, method: str, arguments: dict[str, Any], maker: Maker
) -> None:
    meter = Meter(MeterConfig(store="memory://", on_unguarded="refuse", patches=["cohere"]))
    with meter.patch_all(), pytest.raises(UnguardedCall, match="of the cohere SDK"):
        called(maker, where, method, arguments)
    assert maker.requests == []


@pytest.mark.parametrize(("where", "method", "arguments"), FREE, ids=[row[1] for row in FREE])
def test_what_is_free_passes(where: str, method: str, arguments: dict[str, Any], maker: Maker) -> None:
    maker.say({"tokens": [1], "token_strings": ["?"], "connectors": []})
    with Meter(MeterConfig(store="memory://", on_unguarded="refuse", patches=["cohere"])).patch_all() as meter:
        called(maker, where, method, arguments)
        assert meter.status()["counts"] == {}
    assert len(maker.requests) == 1
