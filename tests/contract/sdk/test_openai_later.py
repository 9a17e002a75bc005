"""What is made in the background counts once, when its usage is told, however often and by whomever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, price, run
from tests.contract.sdk.uses import Endpoint, Use, each, entered, value
from tests.contract.sdk.wire import Answer, Script, Wire
from token_limit_core import LimitExceededException, LLMEvent, Meter, MeterConfig, NoTenant
from token_limit_core.meter import engine_of

ASKED = {"model": wire.MODEL, "input": "What is forty plus two?", "background": True}
POST = Endpoint("responses", wire.responses, ASKED)
COST = price(wire.ANSWERED, input_tokens=wire.INPUT, output_tokens=wire.OUTPUT, cache_read_tokens=wire.CACHED)
BATCH_USAGE = {**wire.RESPONSES_USAGE, "input_tokens_details": {"cached_tokens": 0}}


def response(status: str, background: bool = True, **changes: Any) -> dict[str, Any]:
    """Make a response in the background."""
    return {**wire._response(status), "status": status, "background": background, **changes}


def answering(document: dict[str, Any]) -> Script:
    """Answer with a document."""
    return lambda sent: wire.as_json(document)


def streaming(status: str = "completed", background: bool = True) -> Script:
    """Answer with the events of a response."""
    events = [
        {"type": "response.queued", "response": response("queued", background), "sequence_number": 0},
        {"type": f"response.{status}", "response": response(status, background), "sequence_number": 1},
    ]
    return lambda sent: wire.as_events(events, end=b"")


async def retrieved(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    seen.append(await value(client.responses.retrieve("resp_1")))


async def retrieved_raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    answer = await value(client.responses.with_raw_response.retrieve("resp_1"))
    seen += [type(answer), answer.parse()]


async def retrieved_streaming(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    async with entered(client.responses.with_streaming_response.retrieve("resp_1")) as answer:
        seen.append(await value(answer.read()))


async def streamed(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    opened = await value(client.responses.retrieve("resp_1", stream=True))
    seen += [type(opened)] + [event async for event in each(opened)]


async def streamed_raw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    answer = await value(client.responses.with_raw_response.retrieve("resp_1", stream=True))
    seen += [event async for event in each(answer.parse())]


async def beta(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    if not hasattr(client.beta, "responses"):
        pytest.skip("this version has no beta responses")
    seen.append(await value(client.beta.responses.retrieve("resp_1")))


RETRIEVALS: list[tuple[Use, Script]] = [
    (retrieved, answering(response("completed"))),
    (retrieved_raw, answering(response("completed"))),
    (retrieved_streaming, answering(response("completed"))),
    (streamed, streaming()),
    (streamed_raw, streaming()),
    (beta, answering(response("completed"))),
]


@pytest.mark.parametrize(("use", "script"), RETRIEVALS, ids=[use.__name__ for use, _ in RETRIEVALS])
def test_a_finished_response_is_billed_when_it_is_retrieved(
    make: Callable[..., Any], use: Use, script: Script, metered: Metered
) -> None:
    untouched = run(use, make(Wire(script)), POST)
    result = metered.run(use, make(Wire(script)), POST)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.endpoint, event.model, event.stream) == ("responses", wire.ANSWERED, use in (streamed, streamed_raw))
    assert (event.input_tokens, event.output_tokens, event.cost_usd) == (wire.INPUT, wire.OUTPUT, COST)
    assert set(event.tags) == {"plan"}


@pytest.mark.parametrize("use", [retrieved, retrieved_raw])
def test_however_often_it_is_retrieved_it_counts_once(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    for _ in range(3):
        metered.run(use, make(Wire(answering(response("completed")))), POST)
    metered.run(streamed, make(Wire(streaming())), POST)

    assert metered.event().cost_usd == COST


def test_another_process_does_not_count_it_again(tmp_path: Path) -> None:
    """Each Meter stands for a process: nothing is shared but the store."""
    for _ in range(2):
        with Meter(MeterConfig(store=f"sqlite:///{tmp_path}/t.db")).patch("openai") as meter, meter.for_tenant(TENANT):
            Wire(answering(response("completed"))).client().responses.retrieve("resp_1")

    spend = meter.store.spend(TENANT, 0, meter.config.clock() + 1)
    assert (spend.calls, spend.input_tokens) == (1, wire.INPUT)
    meter.store.close()


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_asking_for_it_costs_nothing_yet(make: Callable[..., Any], status: str, metered: Metered) -> None:
    event = metered_post(make, metered, answering(response(status)))

    assert (event.input_tokens, event.output_tokens, event.cost_usd) == (0, 0, 0)
    assert (event.tags["background"], event.error) == (True, None)


def metered_post(make: Callable[..., Any], metered: Metered, script: Script) -> Any:
    metered.run(uses.plain, make(Wire(script)), POST)
    return metered.event(waiting=1)


@pytest.mark.parametrize(
    "script",
    [answering(response("in_progress")), wire.error(404), wire.error(500)],
    ids=["in progress", "404", "500"],
)
def test_what_is_not_there_yet_leaves_nothing(make: Callable[..., Any], script: Script, metered: Metered) -> None:
    metered.run(retrieved, make(Wire(script)), POST)

    assert metered.events == []
    assert metered.meter.store.holds() == []


def test_a_response_that_was_billed_when_it_was_made_is_not_billed_again(
    make: Callable[..., Any], metered: Metered
) -> None:
    metered.run(retrieved, make(Wire(answering(response("completed", background=False)))), POST)
    metered.run(streamed, make(Wire(streaming(background=False))), POST)

    assert metered.events == []


def test_one_that_is_followed_to_its_end_is_not_billed_again_later(make: Callable[..., Any], metered: Metered) -> None:
    metered.run(uses.stream, make(Wire(streaming())), POST)
    metered.run(retrieved, make(Wire(answering(response("completed")))), POST)

    assert metered.event().cost_usd == COST


def test_one_that_is_left_is_billed_later(make: Callable[..., Any], metered: Metered) -> None:
    async def leave(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(await uses.first(await value(endpoint.create(client, stream=True))))

    metered.run(leave, make(Wire(streaming())), POST)
    metered.run(retrieved, make(Wire(answering(response("completed")))), POST)

    assert [(event.input_tokens, event.cost_usd) for event in metered.events] == [(0, 0), (wire.INPUT, COST)]
    assert metered.meter.store.holds() == []


def test_a_spent_limit_does_not_keep_from_what_is_paid_for(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    refused = metered.run(uses.plain, make(Wire(wire.responses)), POST)
    assert isinstance(refused.error, LimitExceededException)

    result = metered.run(retrieved, make(Wire(answering(response("completed")))), POST)
    assert result.error is None
    assert metered.events[0].cost_usd == COST


def test_where_a_call_without_a_tenant_is_refused_asking_is_not(make: Callable[..., Any]) -> None:
    events: list[LLMEvent] = []
    config = MeterConfig(store="memory://", on_no_tenant="refuse", patches=["openai"], on_event=events.append)
    with Meter(config).patch_all():
        for status in ("in_progress", "completed"):
            assert run(retrieved, make(Wire(answering(response(status)))), POST).error is None
        refused = run(uses.plain, make(Wire(wire.responses)), POST)

    assert isinstance(refused.error, NoTenant)
    assert [event.tenant_id for event in events] == [""]


def test_the_price_is_that_of_the_tier_that_answered(make: Callable[..., Any], metered: Metered) -> None:
    document = response("completed", service_tier="priority", model="gpt-4.1")
    metered.run(retrieved, make(Wire(answering(document))), POST)

    event = metered.events[0]
    assert event.service_tier == "priority"
    counts = {"input_tokens": wire.INPUT, "output_tokens": wire.OUTPUT, "cache_read_tokens": wire.CACHED}
    assert event.cost_usd == price("gpt-4.1", "openai", {"service_tier": "priority"}, **counts)


# -- compaction --------------------------------------------------------------------------------------


def test_compaction_is_billed_at_the_model_that_was_asked_for(make: Callable[..., Any], metered: Metered) -> None:
    if not hasattr(openai.resources.responses.Responses, "compact"):
        pytest.skip("this version cannot compact")
    document = {"id": "resp_2", "object": "response.compaction", "created_at": 1, "output": []}
    compact = Endpoint(
        "responses.compact",
        answering({**document, "usage": wire.RESPONSES_USAGE}),
        {"model": wire.ANSWERED, "input": "A long story."},
        method="compact",
        at="responses",
    )
    metered.run(uses.plain, make(Wire(compact.script)), compact)

    event = metered.event()
    assert (event.endpoint, event.model, event.cost_usd) == ("responses.compact", wire.ANSWERED, COST)


# -- batches -----------------------------------------------------------------------------------------


def batch(status: str, **changes: Any) -> dict[str, Any]:
    """Make a batch."""
    head = {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return {**head, "created_at": 1, "input_file_id": "file_1", "status": status, **changes}


async def batched(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
    seen.append(await value(client.batches.retrieve("batch_1")))


def test_a_finished_batch_is_billed_once_at_the_price_of_a_batch(make: Callable[..., Any], metered: Metered) -> None:
    done = batch("completed", usage=BATCH_USAGE, model="gpt-4o-mini")
    for document in (batch("in_progress", usage=BATCH_USAGE, model="gpt-4o-mini"), batch("finalizing"), done, done):
        metered.run(batched, make(Wire(answering(document))), POST)

    event = metered.event()
    assert (event.endpoint, event.service_tier, event.model) == ("batches", "batch", "gpt-4o-mini")
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, wire.OUTPUT)
    whole = price("gpt-4o-mini", input_tokens=wire.INPUT, output_tokens=wire.OUTPUT)
    halved = price("gpt-4o-mini", "openai", {"processing": "batch"}, input_tokens=wire.INPUT, output_tokens=wire.OUTPUT)
    assert event.cost_usd == halved < whole


def test_making_and_cancelling_a_batch_is_free(make: Callable[..., Any], metered: Metered) -> None:
    async def make_one(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        wanted = {"input_file_id": "file_1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        seen += [await value(client.batches.create(**wanted)), await value(client.batches.cancel("batch_1"))]

    result = metered.run(make_one, make(Wire(answering(batch("validating")))), POST)

    assert result.error is None
    assert metered.events == []
    assert metered.meter.status()["unguarded"] == []


# -- assistants --------------------------------------------------------------------------------------


def thread_run(status: str) -> dict[str, Any]:
    """Make an assistant's run."""
    usage = wire.CHAT_USAGE if status == "completed" else None
    return {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "assistant_id": "asst_1"} | {
        "status": status, "model": wire.ANSWERED, "usage": usage, "created_at": 1, "instructions": "", "tools": [],
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
def test_an_assistants_run_is_billed_when_it_is_seen_to_end(make: Callable[..., Any], metered: Metered) -> None:
    async def poll(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        runs = client.beta.threads.runs
        seen.append(await value(runs.create("thread_1", assistant_id="asst_1")))
        for _ in range(3):
            seen.append(await value(runs.retrieve("run_1", thread_id="thread_1")))

    statuses = ("queued", "in_progress", "completed", "completed")
    result = metered.run(poll, make(Wire(*(answering(thread_run(status)) for status in statuses))), POST)

    assert result.error is None
    asked, ended = metered.events
    assert (asked.cost_usd, asked.tags["background"]) == (0, True)
    assert (ended.endpoint, ended.cost_usd) == ("threads.runs", COST)


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
@pytest.mark.parametrize("in_bytes", [False, True])
def test_a_streamed_run_is_billed_at_its_end_and_not_again(
    make: Callable[..., Any], in_bytes: bool, metered: Metered
) -> None:
    def events(sent: dict[str, Any]) -> Answer:
        pieces = [
            f"event: thread.run.{status}\ndata: {json.dumps(thread_run(status))}\n\n".encode()
            for status in ("created", "completed")
        ]
        return Answer(200, [*pieces, b"event: done\ndata: [DONE]\n\n"], "text/event-stream")

    async def follow(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        runs = client.beta.threads.runs
        if in_bytes:
            opened = runs.with_streaming_response.create("thread_1", assistant_id="asst_1", stream=True)
            async with entered(opened) as answer:
                seen += [line async for line in each(answer.iter_lines())]
        else:
            opened = await value(runs.create("thread_1", assistant_id="asst_1", stream=True))
            seen += [event async for event in each(opened)]
        await value(runs.retrieve("run_1", thread_id="thread_1"))

    metered.run(follow, make(Wire(events, answering(thread_run("completed")))), POST)

    assert metered.event().cost_usd == COST


def test_what_is_only_queued_teaches_nothing_about_the_next_call(make: Callable[..., Any], metered: Metered) -> None:
    before = engine_of(metered.meter).habits["openai", wire.MODEL].estimate(400, None)
    metered_post(make, metered, answering(response("queued")))

    assert engine_of(metered.meter).habits["openai", wire.MODEL].estimate(400, None) == before


def test_asking_again_after_a_cancelled_task_bills_once(metered: Metered) -> None:
    stall = wire.Stall(streaming(), 1)
    metered.cancel(streamed, Wire(stall.script).async_client(), POST, stall)
    assert metered.events == []

    metered.run(streamed, Wire(streaming()).async_client(), POST)

    assert metered.event().cost_usd == COST
