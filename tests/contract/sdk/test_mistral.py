"""Mistral's SDK: what each of its surfaces is billed by, and what is not metered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from mistralai.azure.client import MistralAzure
from mistralai.client import Mistral
from mistralai.client.errors import ResponseValidationError
from mistralai.gcp.client import MistralGCP

from tests.contract.sdk.makers import Maker, event_of
from tests.contract.sdk.metered import TENANT, Metered, price
from token_limit_core import Meter, MeterConfig
from token_limit_core.errors import UnguardedCall

MESSAGES: Any = [{"role": "user", "content": "What is forty plus two?"}]
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
CHAT = {
    "id": "req-42", "object": "chat.completion", "created": 1, "model": "codestral-2508", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}],
}  # fmt: skip


@pytest.fixture
def metered() -> Iterator[Metered]:
    metered = Metered("mistral")
    metered.meter.patch("mistral")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        yield metered
    metered.meter.close()


def client(maker: Maker) -> Mistral:
    return Mistral(api_key="secret", server_url=maker.url)


def test_filling_in_the_middle(maker: Maker, metered: Metered) -> None:
    maker.say(CHAT)
    client(maker).fim.complete(model="codestral-2508", prompt="def fib(a):", suffix="return a")

    event = metered.event()
    assert (event.endpoint, event.fim_prefix, event.fim_suffix) == ("fim.completions", "11 characters", "8 characters")
    assert event.cost_usd == price("codestral-2508", "mistral", input_tokens=100, output_tokens=20)


def test_an_agent_is_billed_as_the_model_that_answers(maker: Maker, metered: Metered) -> None:
    maker.say(CHAT)
    client(maker).agents.complete(agent_id="ag_1", messages=MESSAGES)

    event = metered.event()
    assert (event.endpoint, event.model) == ("agents.completions", "codestral-2508")
    assert event.cost_usd == price("codestral-2508", "mistral", input_tokens=100, output_tokens=20)


def test_embeddings(maker: Maker, metered: Metered) -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 7, "completion_tokens": 0, "prompt_audio_seconds": None}
    data = [{"object": "embedding", "embedding": [0.5], "index": 0}]
    maker.say({"id": "req-42", "object": "list", "model": "mistral-embed", "data": data, "usage": usage})
    client(maker).embeddings.create(model="mistral-embed", inputs=["?"])

    event = metered.event()
    assert (event.endpoint, event.input_tokens, event.output_tokens) == ("embeddings", 7, 0)
    assert event.cost_usd == price("mistral-embed", "mistral", input_tokens=7)


ANNOTATED: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.mark.parametrize(("asked", "dollars"), [({}, "0.012"), ({"document_annotation_format": ANNOTATED}, "0.015")])
def test_text_recognition_is_billed_by_the_page(
    asked: dict[str, Any], dollars: str, maker: Maker, metered: Metered
) -> None:
    maker.say({"pages": [], "model": "mistral-ocr-4-0", "usage_info": {"pages_processed": 3, "doc_size_bytes": 9}})
    client(maker).ocr.process(
        model="mistral-ocr-4-0", document={"type": "document_url", "document_url": "https://example.com/a.pdf"}, **asked
    )

    event = metered.event()
    assert (event.endpoint, event.document_pages, event.annotated_pages) == ("ocr", 3, 3 if asked else None)
    assert event.cost_usd == Decimal(dollars)


HEARD = {"prompt_audio_seconds": 60, "prompt_tokens": 4, "completion_tokens": 30, "total_tokens": 400}


def test_a_transcript_is_billed_by_the_second(maker: Maker, metered: Metered) -> None:
    maker.say({"model": "voxtral-mini-2602", "text": "Forty-two", "language": "en", "usage": HEARD, "segments": []})
    client(maker).audio.transcriptions.complete(
        model="voxtral-mini-latest", file={"content": b"abc", "file_name": "a.mp3"}
    )

    event = metered.event()
    assert (event.endpoint, event.model, event.duration_seconds) == ("audio.transcriptions", "voxtral-mini-2602", 60)
    assert event.tags["requested_model"] == "voxtral-mini-latest"
    assert event.cost_usd == Decimal("0.003")


def test_a_transcript_that_is_streamed(maker: Maker, metered: Metered) -> None:
    done = {"type": "transcription.done", "model": "voxtral-mini-2602", "text": "a", "usage": HEARD, "language": "en"}
    events = [event_of({"type": "transcription.text.delta", "text": "Forty"}), event_of(done)]
    maker.say(None, "text/event-stream", b"".join(events))
    seen = list(client(maker).audio.transcriptions.stream(model="voxtral-mini-latest", file_url="https://a/b.mp3"))

    assert len(seen) == 2
    event = metered.event()
    assert (event.stream, event.duration_seconds, event.cost_usd) == (True, 60, Decimal("0.003"))


def test_speech_is_counted_by_its_letters(maker: Maker, metered: Metered) -> None:
    maker.say({"audio_data": "AAAA"})
    client(maker).audio.speech.complete(model="voxtral-mini-tts-2603", input="Forty-two")

    event = metered.event()
    assert (event.endpoint, event.character_count, event.input_tokens) == ("audio.speech", 9, 0)


TOOLS = {**USAGE, "total_tokens": 7120, "connector_tokens": 7000, "connectors": {"web_search": 2}}


def test_a_conversation_pays_for_what_its_tools_read(maker: Maker, metered: Metered) -> None:
    entry = {"type": "message.output", "role": "assistant", "content": "42", "model": "mistral-medium-2508"}
    maker.say({"object": "conversation.response", "conversation_id": "conv_1", "outputs": [entry], "usage": TOOLS})
    client(maker).beta.conversations.start(agent_id="ag_1", inputs="?")

    event = metered.event()
    assert (event.endpoint, event.model, event.request_id) == ("conversations", "mistral-medium-2508", "conv_1")
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (7100, 20, 7120)
    assert (event.web_searches, event.tags["unpriced"]) == (2, ["web_searches"])
    tokens = price("mistral-medium-2508", "mistral", input_tokens=7100, output_tokens=20)
    assert event.cost_usd == tokens + Decimal("0.02")  # the list has no price of its searches, so one is assumed


def test_a_conversation_that_is_streamed(maker: Maker, metered: Metered) -> None:
    started = {"type": "conversation.response.started", "conversation_id": "conv_1"}
    piece = {
        "type": "message.output.delta", "id": "m", "content": "42", "role": "assistant", "model": "mistral-medium-2508",
    }  # fmt: skip
    done = {"type": "conversation.response.done", "usage": USAGE}
    maker.say(None, "text/event-stream", b"".join(map(event_of, (started, piece, done))))
    list(client(maker).beta.conversations.append_stream(conversation_id="conv_1", inputs="?"))

    event = metered.event()
    assert (event.model, event.input_tokens, event.output_tokens) == ("mistral-medium-2508", 100, 20)
    assert event.request_id == "conv_1"


# -- other clouds -----------------------------------------------------------------------------------


def test_the_azure_client(maker: Maker, metered: Metered) -> None:
    maker.say(CHAT)
    azure = MistralAzure(api_key="secret", server_url=maker.url, api_version="2024-05-01-preview")
    azure.chat.complete(model="codestral-2508", messages=MESSAGES)

    assert (metered.event().endpoint, metered.event().input_tokens) == ("chat.completions", 100)


def test_the_google_cloud_client(maker: Maker, metered: Metered) -> None:
    maker.say(CHAT)
    google = MistralGCP(project_id="p", access_token="secret", server_url=maker.url)
    google.chat.complete(model="codestral-2508", messages=MESSAGES)
    google.fim.complete(model="codestral-2508", prompt="a", suffix="b")

    assert [event.endpoint for event in metered.settled(2)] == ["chat.completions", "fim.completions"]


# -- what is not metered ----------------------------------------------------------------------------

SPENDING = [
    ("classifiers", "moderate", {"model": "m", "inputs": ["?"]}),
]
FREE = [
    ("files", "upload", {"file": {"content": b"abc", "file_name": "a.txt"}}),
    ("models", "list", {}),
    ("beta.agents", "create", {"model": "m", "name": "a"}),
]


def called(maker: Maker, where: str, method: str, arguments: dict[str, Any]) -> None:
    resource: Any = client(maker)
    for step in where.split("."):
        resource = getattr(resource, step)
    getattr(resource, method)(**arguments)


@pytest.mark.parametrize(("where", "method", "arguments"), SPENDING, ids=[row[0] for row in SPENDING])
def test_what_spends_out_of_sight_falls_under_the_policy(
    where: str, method: str, arguments: dict[str, Any], maker: Maker
) -> None:
    meter = Meter(MeterConfig(store="memory://", on_unguarded="refuse", patches=["mistral"]))
    with meter.patch_all(), pytest.raises(UnguardedCall, match="of the mistral SDK"):
        called(maker, where, method, arguments)
    assert maker.requests == []


@pytest.mark.parametrize(("where", "method", "arguments"), FREE, ids=[row[0] for row in FREE])
def test_what_is_free_passes(where: str, method: str, arguments: dict[str, Any], maker: Maker) -> None:
    events: list[Any] = []
    maker.say({"data": [], "object": "list"})
    config = MeterConfig(store="memory://", on_unguarded="refuse", patches=["mistral"], on_event=events.append)
    with Meter(config).patch_all() as meter:
        with contextlib.suppress(ResponseValidationError):  # the SDK makes nothing of that answer
            called(maker, where, method, arguments)
        assert meter.status()["counts"] == {}
    assert (len(maker.requests), events) == (1, [])
