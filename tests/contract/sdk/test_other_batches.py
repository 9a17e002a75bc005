"""Batches of the other SDKs: each holds until its end, and is billed then, by an estimate if it reports no usage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import cohere
import groq
import pytest
import together
from google import genai
from mistralai.client import Mistral

from tests.contract.sdk.makers import Maker
from tests.contract.sdk.metered import TENANT
from token_limit_core import CallUnpriced, LimitExhausted, LLMEvent, Meter, MeterConfig
from token_limit_core.money import to_usd

pytestmark = pytest.mark.filterwarnings(  # its clients leave their sockets open
    "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

TEXT = "What is forty plus two? " * 50
FILE = {"input_file_id": "f-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
OPENAI_LIKE = {"id": "b-1", "object": "batch", "created_at": 1, **FILE}
JOB = {
    "id": "b-1", "object": "batch", "input_files": ["f-1"], "endpoint": "/v1/chat/completions", "errors": [],
    "created_at": 1, "total_requests": 9, "completed_requests": 9, "failed_requests": 0,
    "model": "mistral-small-latest",
}  # fmt: skip
COHERE = {"id": "b-1", "name": "n", "input_dataset_id": "d-1", "model": "command-r-08-2024"}
EMBEDDING = {
    "job_id": "b-1", "created_at": "2026-01-01T00:00:00Z", "input_dataset_id": "d-1", "model": "embed-v4.0",
    "truncate": "END",
}  # fmt: skip
GEMINI = "gemini-2.5-flash"


def operation(state: str, **metadata: Any) -> dict[str, Any]:
    """Make what the Gemini API says of a batch."""
    return {
        "name": "batches/b-1",
        "metadata": {"state": f"BATCH_STATE_{state}", "model": f"models/{GEMINI}", **metadata},
    }


def answers(count: int) -> dict[str, Any]:
    usage = {"promptTokenCount": 1_000, "candidatesTokenCount": 200, "totalTokenCount": 1_200}
    row = {"response": {"modelVersion": GEMINI, "usageMetadata": usage, "candidates": []}}
    return {"inlinedResponses": {"inlinedResponses": [row] * count + [{"error": {"code": 500}}]}}


def mistral_answers(count: int) -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 200, "total_tokens": 1_200}
    return [
        {"custom_id": "a", "response": {"status_code": 200, "body": {"model": JOB["model"], "usage": usage}}}
    ] * count


class Service(NamedTuple):
    """A service's batches. `unreported` has ended with 7 answers and `reported` with 7 times 1,000 and 200 tokens."""

    make: Callable[[Any], Any]
    retrieve: Callable[[Any], Any]
    made: dict[str, Any]
    unreported: dict[str, Any]
    reported: dict[str, Any] | None
    failed: dict[str, Any]


def _counted(status: str, completed: int) -> dict[str, Any]:
    counts = {"total": 9, "completed": completed, "failed": 9 - completed}
    return {**OPENAI_LIKE, "status": status, "request_counts": counts}


SERVICES = {
    "groq": Service(
        lambda client: client.batches.create(**FILE),
        lambda client: client.batches.retrieve("b-1"),
        {**OPENAI_LIKE, "status": "validating"},
        _counted("completed", 7),
        None,
        _counted("failed", 0),
    ),
    "together": Service(
        lambda client: client.batches.create(input_file_id="f-1", endpoint=FILE["endpoint"], model_id="some/model"),
        lambda client: client.batches.retrieve("b-1"),
        {"job": {"id": "b-1", "status": "VALIDATING"}},
        {"id": "b-1", "status": "COMPLETED", "model_id": "some/model", "output_file_id": "f-2"},
        None,
        {"id": "b-1", "status": "FAILED", "error": "the file cannot be read"},
    ),
    "mistral": Service(
        lambda client: client.batch.jobs.create(
            endpoint="/v1/chat/completions", model=JOB["model"], input_files=["f-1"]
        ),
        lambda client: client.batch.jobs.get(job_id="b-1"),
        {**JOB, "status": "QUEUED", "succeeded_requests": 0},
        {**JOB, "status": "SUCCESS", "succeeded_requests": 7, "output_file": "f-2"},
        {**JOB, "status": "SUCCESS", "succeeded_requests": 7, "outputs": mistral_answers(7)},
        {**JOB, "status": "FAILED", "succeeded_requests": 0, "errors": [{"message": "no", "count": 9}]},
    ),
    "cohere": Service(
        lambda client: client.batches.create(
            request={"name": "n", "input_dataset_id": "d-1", "model": COHERE["model"]}
        ),
        lambda client: client.batches.retrieve("b-1"),
        {"batch": {**COHERE, "status": "BATCH_STATUS_QUEUED"}},
        {
            "batch": {
                **COHERE,
                "status": "BATCH_STATUS_COMPLETED",
                "num_successful_records": 7,
                "output_dataset_id": "e",
            }
        },
        {"batch": {**COHERE, "status": "BATCH_STATUS_COMPLETED", "input_tokens": "7000", "output_tokens": "1400"}},
        {"batch": {**COHERE, "status": "BATCH_STATUS_FAILED", "num_successful_records": 0}},
    ),
    "cohere embeddings": Service(
        lambda client: client.embed_jobs.create(model="embed-v4.0", dataset_id="d-1", input_type="search_document"),
        lambda client: client.embed_jobs.get("b-1"),
        {"job_id": "b-1"},
        {**EMBEDDING, "status": "complete", "output_dataset_id": "e"},
        {**EMBEDDING, "status": "complete", "meta": {"billed_units": {"input_tokens": 7_000}}},
        {**EMBEDDING, "status": "failed"},
    ),
    "google": Service(
        lambda client: client.batches.create(model=GEMINI, src="files/f-1"),
        lambda client: client.batches.get(name="batches/b-1"),
        operation("PENDING"),
        operation("SUCCEEDED", batchStats={"successfulRequestCount": "7"}, output={"responsesFile": "files/f-2"}),
        operation("SUCCEEDED", output=answers(7)),
        operation("FAILED", batchStats={"successfulRequestCount": "0"}),
    ),
}


def client_of(name: str, maker: Maker) -> Any:
    match name.partition(" ")[0]:
        case "groq":
            return groq.Groq(api_key="secret", base_url=maker.url)
        case "together":
            return together.Together(api_key="secret", base_url=f"{maker.url}/v1")
        case "mistral":
            return Mistral(api_key="secret", server_url=maker.url)
        case "cohere":
            return cohere.ClientV2(api_key="secret", base_url=maker.url)
    return genai.Client(api_key="secret", http_options={"base_url": maker.url})


def meter_of(name: str, maker: Maker, events: list[LLMEvent] | None = None, **options: Any) -> Meter:
    own = name.partition(" ")[0]
    told: dict[str, Any] = {} if events is None else {"on_event": events.append}
    return Meter(MeterConfig(store="memory://", hosts={maker.host: own}, **told, **options)).patch(own)


named = pytest.mark.parametrize("name", SERVICES)
reporting = [name for name, service in SERVICES.items() if service.reported is not None]


@named
def test_a_batch_holds_until_it_is_seen_to_have_failed(name: str, maker: Maker) -> None:
    service = SERVICES[name]
    with meter_of(name, maker) as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 100)
        client = client_of(name, maker)
        maker.say(service.made)
        service.make(client)
        (hold,) = meter.store.holds(TENANT)
        assert hold.amount is not None and hold.amount > 10**6
        assert hold.expires_at - hold.created_at > 29 * 86_400
        maker.say(service.failed)
        service.retrieve(client)
        assert meter.store.holds(TENANT) == []
        assert meter.usage(TENANT)[0].settled == 0
        assert meter.status()["unguarded"] == []


@named
@pytest.mark.parametrize("on_unpriced", ["assume", "free"])
def test_a_batch_that_does_not_say_what_it_used_is_billed_once_by_an_estimate(
    name: str, on_unpriced: Any, maker: Maker
) -> None:
    service, events = SERVICES[name], list[LLMEvent]()
    with meter_of(name, maker, events, on_unpriced=on_unpriced) as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 100)
        client = client_of(name, maker)
        maker.say(service.made)
        service.make(client)
        (hold,) = meter.store.holds(TENANT)
        maker.say(service.unreported)
        service.retrieve(client)
        service.retrieve(client)
        assert meter.flush(60)
        (status,) = meter.usage(TENANT)
        assert (status.held, meter.store.holds(TENANT)) == (0, [])
    (event, *_) = events
    assert event.tags["unpriced"] == ["batch"]
    if on_unpriced == "free":
        assert (event.cost_usd, status.settled) == (None, 0)
        return
    assert (event.service_tier, event.tags["estimated"]) == ("batch", True)
    assert event.cost_usd == to_usd(status.settled) > 0
    requests = 100 if name in ("together", "cohere embeddings") else 7  # these do not count their answers
    assert event.total_tokens == pytest.approx(hold.tokens * requests / 100, rel=0.01)


@pytest.mark.parametrize("name", reporting)
def test_a_batch_that_says_what_it_used_is_billed_that(name: str, maker: Maker) -> None:
    service, events = SERVICES[name], list[LLMEvent]()
    with meter_of(name, maker, events) as meter, meter.for_tenant(TENANT):
        client = client_of(name, maker)
        for said, call in ((service.made, service.make), (service.reported, service.retrieve)):
            maker.say(said)
            call(client)
        assert meter.flush(60)
    (event,) = events
    assert (event.input_tokens, event.output_tokens) == (7_000, 0 if "embeddings" in name else 1_400)
    assert (event.service_tier, "estimated" in event.tags) == ("batch", False)
    assert event.cost_usd is not None and event.cost_usd > Decimal(0)


@named
def test_a_used_up_limit_and_a_strict_one_refuse_batches(name: str, maker: Maker) -> None:
    with meter_of(name, maker) as meter, meter.for_tenant(TENANT):
        client = client_of(name, maker)
        meter.set_limit(TENANT, 0)
        with pytest.raises(LimitExhausted):
            SERVICES[name].make(client)
        meter.set_limit(TENANT, 100, mode="strict")
        with pytest.raises(CallUnpriced):
            SERVICES[name].make(client)
    assert maker.requests == []


def test_requests_inside_of_a_batch_are_counted_with_their_bounds(maker: Maker) -> None:
    with meter_of("mistral", maker) as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 100)
        maker.say({**JOB, "status": "QUEUED", "succeeded_requests": 0})
        rows: Any = [{"body": {"max_tokens": 5, "messages": [{"role": "user", "content": TEXT}]}}] * 10
        client_of("mistral", maker).batch.jobs.create(
            endpoint="/v1/chat/completions", model="mistral-small-latest", requests=rows
        )
        (hold,) = meter.store.holds(TENANT)
    assert 10 * len(TEXT) / 4 + 50 <= hold.tokens <= 10 * (len(TEXT) / 4 + 20) + 50


def test_requests_inside_of_a_batch_of_google_are_counted_by_its_asynchronous_client(maker: Maker) -> None:
    async def make() -> None:
        client = client_of("google", maker)
        row = {"contents": [{"parts": [{"text": TEXT}]}], "config": {"max_output_tokens": 5}}
        await client.aio.batches.create(model=GEMINI, src=[row] * 10)
        maker.say(operation("SUCCEEDED", output=answers(10)))
        await client.aio.batches.get(name="batches/b-1")

    events = list[LLMEvent]()
    with meter_of("google", maker, events) as meter, meter.for_tenant(TENANT):
        meter.set_limit(TENANT, 100)
        holds = meter.store.holds
        maker.say(operation("PENDING"))
        asyncio.run(make())
        assert meter.flush(60)
        assert holds(TENANT) == []
    (event,) = events
    assert (event.model, event.input_tokens, event.output_tokens) == (GEMINI, 10_000, 2_000)
