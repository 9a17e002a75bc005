"""What answers do not report: usage of a whole answer, errors under a status of 200, fees, finished batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.contract.sdk import anthropic_wire, gemini, uses, wire
from tests.contract.sdk.metered import Metered, run
from tests.contract.sdk.uses import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Endpoint, Use, value
from tests.contract.sdk.wire import Answer, Wire

TEXT = "x" * 400
"""What an answer without usage says: 100 tokens."""


def answering(document: Any) -> wire.Script:
    return lambda sent: wire.as_json(document)


def choice(message: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
            ]}  # fmt: skip


CALL = {"id": "1", "type": "function", "function": {"name": "", "arguments": TEXT}}
OUTPUT = {"id": "m", "type": "message", "role": "assistant", "status": "completed",
          "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}  # fmt: skip
RESPONSE = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-4o-mini", "status": "completed",
            "tools": [], "parallel_tool_calls": True, "tool_choice": "auto", "output": [OUTPUT]}  # fmt: skip

SILENT = {
    "chat": (CHAT, choice({"content": TEXT})),
    "chat, reasoning": (CHAT, choice({"content": TEXT[:200], "reasoning_content": TEXT[200:]})),
    "chat, tools": (CHAT, choice({"content": None, "tool_calls": [CALL]})),
    "completions": (COMPLETIONS, {"id": "c", "object": "text_completion", "created": 1, "model": "gpt-4o-mini",
                                  "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]}),
    "responses": (RESPONSES, RESPONSE),
}  # fmt: skip


@pytest.mark.parametrize("use", [uses.plain, uses.raw, uses.streaming_bytes])
@pytest.mark.parametrize(("endpoint", "document"), SILENT.values(), ids=SILENT)
def test_the_output_of_an_answer_without_usage_is_estimated_from_its_text(
    make: Callable[..., Any], use: Use, endpoint: Endpoint, document: dict[str, Any], metered: Metered
) -> None:
    metered.run(use, make(Wire(answering(document))), endpoint)
    event = metered.event()
    assert (event.output_tokens, event.error, event.tags["estimated"]) == (100, None, True)
    assert event.input_tokens > 0


def test_the_output_of_messages_and_of_gemini_without_usage_is_estimated_from_their_text() -> None:
    message = {**anthropic_wire.message({}), "content": [{"type": "text", "text": TEXT}]}
    metered = Metered("anthropic")
    metered.run(uses.plain, anthropic_wire.AnthropicWire(answering(message)).client(), anthropic_wire.MESSAGES)
    metered.meter.close()
    assert (metered.event().output_tokens, metered.event().tags["estimated"]) == (100, True)

    content = {"candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP"}]}
    metered = Metered("google")
    metered.run(gemini.plain, gemini.Wire(answering(content)).client(), None)  # type: ignore[arg-type]
    metered.meter.close()
    assert (metered.event().output_tokens, metered.event().tags["estimated"]) == (100, True)


def test_embeddings_without_usage_have_no_output(make: Callable[..., Any], metered: Metered) -> None:
    document = {"object": "list", "model": "text-embedding-3-small", "data": [{"index": 0, "embedding": [0.5]}]}
    metered.run(uses.plain, make(Wire(answering(document))), EMBEDDINGS)
    assert (metered.event().output_tokens, metered.event().input_tokens > 0) == (0, True)


ERRORS = {
    "OpenRouter": ({"error": {"code": 429, "message": "secret", "metadata": {}}}, "ErrorAnswer 429"),
    "OpenAI": ({"error": {"message": "secret", "type": "server_error", "code": "overloaded"}},
               "ErrorAnswer overloaded"),
    "text": ({"error": "secret words"}, "ErrorAnswer"),
    "Anthropic": ({"type": "error", "error": {"type": "overloaded_error", "message": "s"}},
                  "ErrorAnswer overloaded_error"),
    "vLLM": ({"object": "error", "message": "secret", "type": "BadRequestError", "code": 400},
             "ErrorAnswer 400 BadRequestError"),
    "Cloudflare": ({"success": False, "result": None, "errors": [{"code": 7009, "message": "s"}]},
                   "ErrorAnswer 7009"),
    "FastAPI": ({"detail": "Not authenticated"}, "ErrorAnswer"),
    "MiniMax": ({"id": "1", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "s"}},
                "ErrorAnswer 1004"),
    "Baidu": ({"error_code": 17, "error_msg": "secret"}, "ErrorAnswer 17"),
}  # fmt: skip


@pytest.mark.parametrize("use", [uses.plain, uses.raw, uses.streaming_bytes])
@pytest.mark.parametrize(("document", "described"), ERRORS.values(), ids=ERRORS)
def test_an_error_under_a_status_of_200_costs_nothing(
    make: Callable[..., Any], use: Use, document: dict[str, Any], described: str, metered: Metered
) -> None:
    untouched = run(use, make(Wire(answering(document))), CHAT)
    result = metered.run(use, make(Wire(answering(document))), CHAT)
    assert result.comparable() == untouched.comparable()
    event = metered.event()
    assert (event.error, event.cost_usd, event.input_tokens, event.output_tokens) == (described, 0, 0, 0)
    assert "estimated" not in event.tags


@pytest.mark.parametrize("use", [uses.stream, uses.stream_bytes])
@pytest.mark.parametrize("words", [0, 3])
def test_an_error_in_a_stream_costs_what_came_before_it(
    make: Callable[..., Any], use: Use, words: int, metered: Metered
) -> None:
    def failing(sent: dict[str, Any]) -> Answer:
        answer = wire.chat(sent)
        broken = wire.as_event({"error": {"code": 502, "message": "secret"}})
        answer.pieces = [*answer.pieces[: words and words + 1], broken]
        return answer

    metered.run(use, make(Wire(failing)), CHAT)
    event = metered.event()
    assert event.error is not None
    assert (event.cost_usd == 0, event.input_tokens > 0) == (not words, bool(words))


@pytest.mark.parametrize("use", [uses.stream, uses.stream_bytes])
@pytest.mark.parametrize(
    "failure",
    [
        {"type": "error", "code": "server_error", "message": "secret", "param": None, "sequence_number": 1},
        {"type": "response.failed", "sequence_number": 1, "response": {
            **RESPONSE, "status": "failed", "output": [], "error": {"code": "server_error", "message": "secret"}}},
    ],
    ids=["error", "response.failed"],
)  # fmt: skip
def test_a_stream_of_responses_that_fails_at_once_costs_nothing(
    make: Callable[..., Any], use: Use, failure: dict[str, Any], metered: Metered
) -> None:
    def failing(sent: dict[str, Any]) -> Answer:
        answer = wire.responses(sent)
        answer.pieces = [answer.pieces[0], wire.as_event(failure)]
        return answer

    metered.run(use, make(Wire(failing)), RESPONSES)
    assert (metered.event().error, metered.event().cost_usd) == ("ErrorAnswer server_error", 0)


# -- fees ---------------------------------------------------------------------------------------------

RUN = {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "code": "1", "outputs": []}
AUTO = {"type": "code_interpreter", "container": {"type": "auto"}}
USED = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
TOKENS = Decimal("0.00021")
CONTAINERS = {
    "none used": ([AUTO], [], 0),
    "one": ([AUTO], ["cntr_1", "cntr_1"], 1),
    "two": ([AUTO], ["cntr_1", "cntr_2"], 2),
    "larger": ([{**AUTO, "container": {"type": "auto", "memory_limit": "4g"}}], ["cntr_1"], 4),
    "made before": ([{**AUTO, "container": "cntr_1"}], ["cntr_1"], 0),
}


@pytest.mark.parametrize("use", [uses.plain, uses.raw, uses.stream])
@pytest.mark.parametrize(("tools", "ids", "billed"), CONTAINERS.values(), ids=CONTAINERS)
def test_containers_of_the_code_interpreter_are_billed(
    make: Callable[..., Any], use: Use, tools: list[Any], ids: list[str], billed: int, metered: Metered
) -> None:
    output = [*({**RUN, "container_id": its_id} for its_id in ids), OUTPUT]
    document = {**RESPONSE, "tools": tools, "output": output, "usage": USED}

    def script(sent: dict[str, Any]) -> Answer:
        done = {"type": "response.completed", "sequence_number": 1, "response": document}
        return wire.as_events([done], end=b"") if sent.get("stream") else wire.as_json(document)

    metered.run(use, make(Wire(script)), RESPONSES)
    event = metered.event()
    assert (event.containers or 0, event.cost_usd) == (billed, TOKENS + billed * Decimal("0.03"))


@pytest.mark.skipif(not hasattr(openai.OpenAI, "containers"), reason="this openai has no containers")
@pytest.mark.parametrize(("limit", "cost"), [(None, "0.03"), ("1g", "0.03"), ("16g", "0.48")])
def test_a_container_that_is_made_by_itself_is_billed(
    make: Callable[..., Any], limit: str | None, cost: str, metered: Metered
) -> None:
    document = {"id": "cntr_1", "object": "container", "created_at": 1, "name": "n", "status": "running",
                "memory_limit": limit}  # fmt: skip

    async def create(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(await value(client.containers.create(name="n")))

    metered.run(create, make(Wire(answering(document))), CHAT)
    event = metered.event()
    assert (event.endpoint, event.model, event.cost_usd) == ("containers.create", "code_interpreter", Decimal(cost))


@pytest.mark.parametrize("use", [uses.plain, uses.stream])
@pytest.mark.parametrize(
    ("model", "fee"),
    [
        ("gpt-4o-search-preview-2025-03-11", "0.025"),
        ("gpt-4o-mini-search-preview", "0.025"),
        ("gpt-5-search-api", "0.01"),
    ],
)
def test_the_search_of_a_search_model_is_billed(
    make: Callable[..., Any], use: Use, model: str, fee: str, metered: Metered
) -> None:
    def script(sent: dict[str, Any]) -> Answer:
        answer = wire.chat(sent)
        answer.pieces = [piece.replace(wire.ANSWERED.encode(), model.encode()) for piece in answer.pieces]
        return answer

    metered.run(use, make(Wire(script)), replace(CHAT, arguments={**CHAT.arguments, "model": model}))
    event = metered.event()
    assert event.web_searches == 1
    assert event.cost_usd is not None
    assert Decimal(fee) < event.cost_usd < Decimal(fee) + Decimal("0.001")


def test_the_seconds_of_sound_that_mistral_heard_are_billed(make: Callable[..., Any], metered: Metered) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 390, "prompt_audio_seconds": 30}
    document = {**choice({"content": "Hi"}), "model": "voxtral-small-latest", "usage": usage}
    metered.run(uses.plain, make(Wire(answering(document)), base_url="https://api.mistral.ai/v1"), CHAT)
    event = metered.event()
    assert (event.duration_seconds, event.cost_usd) == (30, Decimal("0.002003"))


def test_pictures_of_googles_openai_endpoint_are_listed(make: Callable[..., Any], metered: Metered) -> None:
    async def draw(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        seen.append(await value(client.images.generate(model="imagen-4.0-generate-001", prompt="a cat", n=2)))

    document = {"created": 1, "data": [{"b64_json": "AA=="}, {"b64_json": "AA=="}]}
    url = "https://generativelanguage.googleapis.com/v1beta/openai"
    metered.run(draw, make(Wire(answering(document)), base_url=url), CHAT)
    event = metered.event()
    assert (event.provider, event.image_count, event.tags["unpriced"]) == ("google", 2, ["image_count"])


# -- batches and work in the background ----------------------------------------------------------------

BATCH = {"id": "batch-1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "f-1",
         "completion_window": "24h", "created_at": 1}  # fmt: skip
BATCHES = {
    "completed": ({"status": "completed", "request_counts": {"total": 9, "completed": 9, "failed": 0}}, 1),
    "without counts": ({"status": "completed"}, 1),
    "expired in part": ({"status": "expired", "request_counts": {"total": 9, "completed": 2, "failed": 0}}, 1),
    "nothing done": ({"status": "failed", "request_counts": {"total": 9, "completed": 0, "failed": 9}}, 0),
    "under way": ({"status": "in_progress", "request_counts": {"total": 9, "completed": 2, "failed": 0}}, 0),
}


@pytest.mark.parametrize(("more", "events"), BATCHES.values(), ids=BATCHES)
def test_a_batch_that_ended_without_usage_leaves_one_estimated_event(
    make: Callable[..., Any], more: dict[str, Any], events: int, metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    async def poll(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        for _ in range(2):
            await value(client.batches.retrieve("batch-1"))

    with caplog.at_level(logging.WARNING, "token_limit"):
        metered.run(poll, make(Wire(answering({**BATCH, **more}))), CHAT)
    ended = metered.settled(events)
    assert [(event.tags["unpriced"], event.tags["estimated"]) for event in ended] == [(["batch"], True)] * events
    assert all(event.cost_usd is not None and event.cost_usd > 0 for event in ended)


def test_work_in_the_background_that_ended_without_usage_is_estimated(
    make: Callable[..., Any], metered: Metered
) -> None:
    async def poll(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        for _ in range(2):
            await value(client.responses.retrieve("r"))

    metered.run(poll, make(Wire(answering({**RESPONSE, "background": True}))), RESPONSES)
    event = metered.event()
    assert (event.output_tokens, event.tags["estimated"]) == (100, True)
