"""Groq's and Together's own SDKs, which are of the same make as OpenAI's and share its funnel."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.sdk import media, uses, wire
from tests.contract.sdk.metered import Metered, run
from tests.contract.sdk.uses import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, Use
from tests.contract.sdk.wire import Wire

SDKS = {
    "groq": ("Groq", "AsyncGroq", "llama-3.3-70b-versatile"),
    "together": ("Together", "AsyncTogether", "some/model"),
}

ENDPOINTS = {"groq": (CHAT, EMBEDDINGS), "together": (CHAT, COMPLETIONS, EMBEDDINGS)}

WHOLE = (uses.plain, uses.raw, uses.streaming_parsed, uses.streaming_read, uses.streaming_bytes)
STREAMED = (
    uses.stream, uses.stream_by_next, uses.stream_block, uses.stream_raw, uses.stream_streaming, uses.stream_bytes,
)  # fmt: skip
BROKEN = (
    uses.broken_off, uses.block_broken_off, uses.closed, uses.closed_unread, uses.never_iterated, uses.raw_broken_off,
    uses.raw_never_read, uses.bytes_broken_off,
)  # fmt: skip


class SiblingWire(Wire):
    """A provider for the client of one of the SDKs."""

    def __init__(self, name: str, *scripts: wire.Script) -> None:
        super().__init__(*scripts)
        self.sdk = pytest.importorskip(name)  # type: ignore[misc]
        self.http = importlib.import_module("httpx")  # type: ignore[misc]
        self.clients = SDKS[name][:2]  # type: ignore[misc]


@pytest.fixture(params=SDKS)
def name(request: pytest.FixtureRequest) -> str:
    told: str = request.param
    return told


@pytest.fixture
def sibling(name: str) -> Iterator[Metered]:
    metered = Metered(name)
    yield metered
    metered.meter.close()


@pytest.fixture(params=["client", "async_client"], ids=["sync", "async"])
def dial(name: str, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a client of the SDK on a wire with scripts."""
    return lambda *scripts, **options: getattr(SiblingWire(name, *scripts), request.param)(**options)


def arguments(endpoint: Endpoint, name: str) -> Endpoint:
    """Ask for a model that the provider has."""
    given = {**endpoint.arguments, "model": SDKS[name][2]}
    return Endpoint(endpoint.name, endpoint.script, given, output=endpoint.output, at=endpoint.at)


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [pytest.param(name, endpoint, id=f"{name}-{endpoint.name}") for name in SDKS for endpoint in ENDPOINTS[name]],
)
@pytest.mark.parametrize("use", WHOLE)
def test_a_whole_answer(dial: Callable[..., Any], name: str, use: Use, endpoint: Endpoint, sibling: Metered) -> None:
    asked = arguments(endpoint, name)
    untouched = run(use, dial(asked.script), asked)
    result = sibling.run(use, dial(asked.script), asked)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    event = sibling.event()
    assert (event.provider, event.endpoint, event.stream) == (name, endpoint.name, False)
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, endpoint.output)
    assert event.request_id == wire.REQUEST_ID


@pytest.mark.parametrize("use", STREAMED)
def test_a_stream(dial: Callable[..., Any], name: str, use: Use, sibling: Metered) -> None:
    asked = arguments(CHAT, name)
    untouched = run(use, dial(asked.script), asked)
    result = sibling.run(use, dial(asked.script), asked)

    assert result.error is None
    assert result.comparable() == untouched.comparable()
    event = sibling.event()
    assert (event.provider, event.input_tokens, event.output_tokens) == (name, wire.INPUT, wire.OUTPUT)
    assert "estimated" not in event.tags


@pytest.mark.parametrize("use", BROKEN)
def test_a_stream_that_is_left(dial: Callable[..., Any], name: str, use: Use, sibling: Metered) -> None:
    asked = arguments(CHAT, name)
    untouched = run(use, dial(asked.script), asked)
    result = sibling.run(use, dial(asked.script), asked)

    assert result.comparable() == untouched.comparable()
    event = sibling.event()
    assert (event.provider, event.stream, event.tags["estimated"]) == (name, True, True)


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("use", [uses.plain, uses.stream])
def test_an_error(dial: Callable[..., Any], name: str, use: Use, status: int, sibling: Metered) -> None:
    asked = arguments(CHAT, name)
    untouched = run(use, dial(wire.error(status)), asked)
    result = sibling.run(use, dial(wire.error(status)), asked)

    assert result.comparable() == untouched.comparable()
    event = sibling.event()
    assert event.error is not None
    assert str(status) in event.error
    assert event.cost_usd == 0


def test_a_retry_is_one_call(dial: Callable[..., Any], name: str, sibling: Metered) -> None:
    asked = arguments(CHAT, name)
    sibling.run(uses.plain, dial(wire.error(500), asked.script, max_retries=2), asked)

    assert sibling.event().input_tokens == wire.INPUT


def test_a_client_on_an_unknown_host_is_still_its_makers(dial: Callable[..., Any], name: str, sibling: Metered) -> None:
    asked = arguments(CHAT, name)
    sibling.run(uses.plain, dial(asked.script, base_url="http://gateway.internal"), asked)

    assert sibling.event().provider == name


@pytest.mark.parametrize("name", ["groq"])
def test_groqs_transcripts_are_billed_by_the_second(sibling: Metered) -> None:
    endpoint = media.heard("transcriptions", "whisper-large-v3", media.timed, response_format="verbose_json")
    sibling.run(uses.plain, SiblingWire("groq", media.timed).client(), endpoint)

    event = sibling.event()
    assert (event.provider, event.endpoint, event.duration_seconds) == ("groq", "audio.transcriptions", 12.5)
    assert event.cost_usd == (Decimal("0.111") * Decimal("12.5") / 3600).quantize(Decimal("1e-9"))


@pytest.mark.parametrize("name", ["together"])
def test_together_reranks_unmetered(sibling: Metered) -> None:
    sibling.meter.patch("together")
    client = SiblingWire("together", lambda sent: wire.as_json({})).client()
    client.post("/rerank", body={}, cast_to=object)
    client.post("/fine-tunes/estimate-price", body={}, cast_to=object)

    assert sibling.meter.status()["unguarded"] == ["POST /rerank of the together SDK"]
