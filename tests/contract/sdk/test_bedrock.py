"""Bedrock through boto3: models and prices, bodies of every maker, errors inside of streams, what is not metered."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EventStreamError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from tests.contract.sdk import makers
from tests.contract.sdk.makers import CLAUDE_ON_AWS, OUTPUT, QUESTION, Maker, bedrock, frame
from tests.contract.sdk.metered import TENANT, Metered, price
from token_limit_core import LLMEvent, MeterConfig
from token_limit_core.errors import UnguardedCall
from token_limit_core.meter import Meter

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # boto3 leaves sockets open

MESSAGES = [{"role": "user", "content": [{"text": QUESTION}]}]


@pytest.fixture
def metered() -> Iterator[Metered]:
    metered = Metered("bedrock")
    metered.meter.patch("bedrock")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        yield metered
    metered.meter.close()


def stubbed(response: dict[str, Any], operation: str = "invoke_model") -> Any:
    """Make a client that answers without any server, as botocore's own tests do."""
    client = bedrock("http://127.0.0.1:9")
    stubber = Stubber(client)
    stubber.add_response(operation, response)
    stubber.activate()
    return client


def body_of(document: Any) -> StreamingBody:
    data = json.dumps(document).encode()
    return StreamingBody(io.BytesIO(data), len(data))


def told(headers: dict[str, str]) -> dict[str, Any]:
    return {"HTTPStatusCode": 200, "HTTPHeaders": headers, "RequestId": "req-42"}


# -- models and prices ------------------------------------------------------------------------------

SAME_PRICE = [
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "apac.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "ca.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
]


@pytest.mark.parametrize("model", SAME_PRICE)
def test_a_profile_of_any_place_and_an_arn_have_the_price_of_their_model(
    model: str, maker: Maker, metered: Metered
) -> None:
    bedrock(maker.url).converse(modelId=model, messages=MESSAGES)

    event = metered.event()
    assert event.model == model
    assert event.cost_usd == price(CLAUDE_ON_AWS, "aws", **makers.PRICED_OUTSIDE)


def test_a_global_profile_is_cheaper(maker: Maker, metered: Metered) -> None:
    model = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
    bedrock(maker.url).converse(modelId=model, messages=MESSAGES)

    cost = metered.event().cost_usd
    assert cost == price(model, "aws", **makers.PRICED_OUTSIDE)
    assert cost is not None
    assert cost < price(CLAUDE_ON_AWS, "aws", **makers.PRICED_OUTSIDE)


@pytest.mark.parametrize(
    "model", ["openai.gpt-oss-120b-1:0", "us.amazon.nova-pro-v1:0", "meta.llama3-8b-instruct-v1:0"]
)
def test_every_maker_has_a_price(model: str, maker: Maker, metered: Metered) -> None:
    bedrock(maker.url).converse(modelId=model, messages=MESSAGES)

    cost = metered.event().cost_usd
    assert cost is not None
    assert cost > 0


def test_cache_writes_are_split_by_their_lifetime(metered: Metered) -> None:
    details = [{"ttl": "1h", "inputTokens": 10}, {"ttl": "5m", "inputTokens": 6}]
    usage = {**makers.CONVERSE_USAGE, "cacheDetails": details}
    answer = {
        "output": makers._message(), "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1},
        "serviceTier": {"type": "priority"},
    }  # fmt: skip
    stubbed(answer, "converse").converse(modelId=CLAUDE_ON_AWS, messages=MESSAGES)

    event = metered.event()
    assert (event.cache_creation_5m_tokens, event.cache_creation_1h_tokens) == (6, 10)
    assert event.service_tier == "priority"


# -- bodies -----------------------------------------------------------------------------------------

NOVA = {"output": {}, "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}}
TITAN = {"inputTextTokenCount": 5, "results": [{"tokenCount": 3}, {"tokenCount": 4}]}
LLAMA = {"generation": "Hi", "prompt_token_count": 5, "generation_token_count": 7}
JAMBA = {"model": "jamba", "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}
BODIES = {"nova": NOVA, "titan": TITAN, "llama": LLAMA, "openai": JAMBA}


@pytest.mark.parametrize("maker_of", BODIES)
def test_the_body_of_each_maker_is_read(maker_of: str, metered: Metered) -> None:
    answer = {"body": body_of(BODIES[maker_of]), "contentType": "application/json", "ResponseMetadata": told({})}
    seen = stubbed(answer).invoke_model(modelId="amazon.nova-micro-v1:0", body=b'{"prompt": "?"}')["body"].read()

    assert json.loads(seen) == BODIES[maker_of]
    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (5, 7, 12)
    assert event.request_id == "req-42"


def test_headers_are_read_where_the_body_reports_nothing(metered: Metered) -> None:
    headers = {
        "x-amzn-bedrock-input-token-count": "5",
        "x-amzn-bedrock-output-token-count": "7",
        "x-amzn-bedrock-cache-read-input-token-count": "9",
    }
    answer = {"body": body_of({"outputs": []}), "contentType": "application/json", "ResponseMetadata": told(headers)}
    stubbed(answer).invoke_model(modelId="mistral.mistral-7b-instruct-v0:2", body="{}")

    event = metered.event()
    assert (event.input_tokens, event.output_tokens, event.cached_tokens) == (5, 7, 9)
    assert event.cost_usd == price("mistral.mistral-7b-instruct-v0:2", "aws", input_tokens=14, output_tokens=7)


def test_pictures_are_counted(metered: Metered) -> None:
    answer = {"body": body_of({"images": ["a", "b"]}), "contentType": "application/json", "ResponseMetadata": told({})}
    stubbed(answer).invoke_model(modelId="amazon.nova-canvas-v1:0", body="{}")

    assert metered.event().image_count == 2


WAYS = [lambda body: body.read(), b"".join, lambda body: body.read(1 << 20)]


@pytest.mark.parametrize("read", WAYS, ids=["read", "chunks", "part"])
def test_the_caller_reads_the_same_body(read: Any, maker: Maker, metered: Metered) -> None:
    body = bedrock(maker.url).invoke_model(modelId=CLAUDE_ON_AWS, body=io.BytesIO(b"{}"))["body"]

    assert type(body) is StreamingBody
    assert json.loads(read(body)) == makers.CLAUDE
    assert metered.event().output_tokens == OUTPUT


LLAMA_CHUNKS = [
    {"generation": "Forty", "prompt_token_count": 5, "generation_token_count": 1},
    {"generation": "-two", "prompt_token_count": None, "generation_token_count": 2},
    {"generation": "", "generation_token_count": 3, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 5}},
]


@pytest.mark.parametrize("taken", [1, 3])
def test_a_stream_that_counts_as_it_goes_is_billed_as_far_as_it_was_read(
    taken: int, maker: Maker, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(makers, "claude_events", lambda: LLAMA_CHUNKS)
    client = bedrock(maker.url)
    stream = client.invoke_model_with_response_stream(modelId="meta.llama3-8b-instruct-v1:0", body="{}")["body"]
    for _, _event in zip(range(taken), stream, strict=False):
        pass
    stream.close()

    event = metered.event()
    assert (event.input_tokens, event.output_tokens) == (5, taken)
    assert "estimated" not in event.tags


# -- errors -----------------------------------------------------------------------------------------


def test_an_error_in_a_stream_is_settled_when_it_is_raised(
    maker: Maker, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [*makers.converse_frames()[:3], frame("throttlingException", {"message": "secret"}, "exception")]
    monkeypatch.setattr(makers, "converse_frames", lambda: frames)
    stream = bedrock(maker.url).converse_stream(modelId=CLAUDE_ON_AWS, messages=MESSAGES)["stream"]
    with pytest.raises(EventStreamError):
        list(stream)

    event = metered.event()  # while the stream is still alive
    assert event.error == "FrameError throttlingException"
    assert event.tags["estimated"] is True


def test_a_call_with_wrong_parameters_is_never_sent(maker: Maker, metered: Metered) -> None:
    with pytest.raises(Exception, match="Parameter validation failed"):
        bedrock(maker.url).converse(modelId=CLAUDE_ON_AWS, messages="?")

    assert maker.requests == []
    assert (metered.event().cost_usd, metered.event().error) == (0, "ParamValidationError")


def test_retries_of_the_sdk_are_one_call(maker: Maker, metered: Metered) -> None:
    maker.status = 500
    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", aws_access_key_id="i", aws_secret_access_key="s",
        endpoint_url=maker.url, config=Config(retries={"total_max_attempts": 2}),
    )  # fmt: skip
    with pytest.raises(client.exceptions.ClientError):
        client.converse(modelId=CLAUDE_ON_AWS, messages=MESSAGES)

    assert len(maker.requests) == 2
    assert metered.event().cost_usd == 0


# -- what is not metered ----------------------------------------------------------------------------

UNSEEN = [
    ("bedrock-runtime", "start_async_invoke",
     {"modelId": "m", "modelInput": {}, "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://a"}}}),
    ("bedrock-agent-runtime", "invoke_agent", {"agentId": "A" * 10, "agentAliasId": "B" * 10, "sessionId": "s1"}),
    ("bedrock", "create_model_invocation_job",
     {"jobName": "j", "roleArn": "r", "modelId": "m", "inputDataConfig": {}, "outputDataConfig": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("service", "method", "arguments"), UNSEEN, ids=[row[1] for row in UNSEEN])
def test_what_spends_out_of_sight_falls_under_the_policy(
    service: str, method: str, arguments: dict[str, Any], maker: Maker
) -> None:
    client = boto3.client(
        service, region_name="us-east-1", aws_access_key_id="i", aws_secret_access_key="s", endpoint_url=maker.url,
        config=Config(parameter_validation=False),
    )  # fmt: skip
    meter = Meter(MeterConfig(store="memory://", on_unguarded="refuse", patches=["bedrock"]))
    with meter.patch_all(), pytest.raises(UnguardedCall, match=f"of boto3's {service}"):
        getattr(client, method)(**arguments)
    assert maker.requests == []


def test_what_is_free_and_other_services_pass(maker: Maker, caplog: pytest.LogCaptureFixture) -> None:
    events: list[LLMEvent] = []
    config = MeterConfig(store="memory://", on_unguarded="refuse", patches=["bedrock"], on_event=events.append)
    with caplog.at_level(logging.WARNING, "token_limit"), Meter(config).patch_all():
        counting = {"converse": {"messages": MESSAGES}}
        bedrock(maker.url).count_tokens(modelId=CLAUDE_ON_AWS, input=counting)
        s3 = boto3.client(
            "s3", region_name="us-east-1", aws_access_key_id="i", aws_secret_access_key="s", endpoint_url=maker.url
        )
        maker.status = 403
        with pytest.raises(s3.exceptions.ClientError):
            s3.list_buckets()
    assert events == []
    assert caplog.records == []


def test_the_status_lists_what_is_guarded(metered: Metered) -> None:
    told = metered.meter.status()["patches"]["bedrock"]
    assert (told["sdk"], told["state"]) == ("botocore", "installed")
    assert "converse_stream" in told["guards"]
    assert "bedrock-agent-runtime" in told["not_guarded"]


def test_what_is_held_for_an_arn_is_the_price_of_its_model(maker: Maker, metered: Metered) -> None:
    held: list[int] = []

    def looking(exchange: Any) -> None:
        held.append(metered.meter.usage(TENANT)[0].held)
        maker.answer(exchange)

    maker.server.serve = looking
    bedrock(maker.url).converse(modelId=SAME_PRICE[-1], messages=MESSAGES)
    assert held[0] > 0


def test_the_estimate_knows_the_bound(maker: Maker, metered: Metered) -> None:
    """A call that may generate 1 token holds far less than its like that may generate thousands."""
    held: list[Decimal] = []

    def looking(exchange: Any) -> None:
        held.append(Decimal(metered.meter.usage(TENANT)[0].held))
        maker.answer(exchange)

    maker.server.serve = looking
    for bound in (1, 100_000):
        bedrock(maker.url).converse(modelId=CLAUDE_ON_AWS, messages=MESSAGES, inferenceConfig={"maxTokens": bound})
    assert held[0] < held[1]
