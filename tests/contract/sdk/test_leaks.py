"""Streams by the hundred, half of them dropped: nothing of them stays, and nothing is said on stderr."""

from __future__ import annotations

import asyncio
import gc
import sys
import uuid
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.contract.sdk import gemini, uses
from tests.contract.sdk.anthropic_wire import MESSAGES, AnthropicWire
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Answer, Script, Wire
from tests.waiting import PATIENCE

OURS = (
    "Flight",
    "_Watch",
    "ChoicesReader",
    "MessageReader",
    "ChunkReader",
    "InteractionReader",
    "EventTee",
    "DocumentTee",
    "Request",
    "Outcome",
    "Estimate",
)
THEIRS = (
    "Stream",
    "AsyncStream",
    "Response",
    "APIResponse",
    "LegacyAPIResponse",
    "HttpResponse",
    "SdkHttpResponse",
    "GenerateContentResponse",
    "generator",
    "async_generator",
)

WAYS = [
    uses.stream,
    uses.broken_off,
    uses.never_iterated,
    uses.block_broken_off,
    uses.raw_broken_off,
    uses.raw_never_read,
    uses.stream_bytes,
    uses.stream_undecoded,
    uses.closed_unread,
]
GOOGLE_WAYS = [
    gemini.stream,
    gemini.broken_off,
    gemini.chat_stream,
    gemini.chat_broken_off,
    gemini.functions_stream,
    gemini.closed,
    gemini.loop_broken_off,
    *([gemini.interact_broken_off] if gemini.HAS_INTERACTIONS else []),
]


class Sdk(NamedTuple):
    """An SDK: its patch, its wire, who answers what, how often and how it is called."""

    patch: str
    protocol: type[Wire]
    script: Script
    streams: int
    ways: list[Any]
    called_with: Any = None


def short(script: Script) -> Script:
    """Leave out the middle of a stream, which takes time and proves nothing here."""

    def shortened(sent: dict[str, Any]) -> Answer:
        answer = script(sent)
        answer.pieces = answer.pieces[:2] + answer.pieces[-2:]
        return answer

    return shortened


def gemini_streams(sent: dict[str, Any]) -> Answer:
    if "input" not in sent:
        return short(gemini.chunks)(sent)
    answer = gemini.interaction(sent)
    its_own = uuid.uuid4().hex.encode()
    answer.pieces = [piece.replace(gemini.RESPONSE_ID.encode(), its_own) for piece in answer.pieces]
    return answer


SDKS = [
    Sdk("openai", Wire, CHAT.script, 1_000, WAYS, CHAT),
    Sdk("anthropic", AnthropicWire, short(MESSAGES.script), 1_000, WAYS, MESSAGES),
    Sdk("google", gemini.Wire, gemini_streams, 500, GOOGLE_WAYS),
]
"""Half of each SDK's streams are synchronous; each way is used 30 times or more: a leak in a tenth shows."""


def alive() -> Counter[str]:
    gc.collect()
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    registered = len(weakref.finalize._registry)  # type: ignore[attr-defined]
    return Counter({**{name: kinds[name] for name in OURS + THEIRS}, "finalize": registered})


@pytest.mark.filterwarnings("ignore:.*experimental")
@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.patch)
def test_streams_leave_nothing_behind(make: Callable[..., Any], sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    metered = Metered(sdk.patch)
    metered.meter.patch(sdk.patch)
    answered: list[None] = []

    def counted(sent: dict[str, Any]) -> Answer:
        answered.append(None)
        return sdk.script(sent)

    wired = sdk.protocol(counted)
    wired.forgetful = True
    client = getattr(wired, make.__name__)()

    async def many(rounds: int) -> None:
        for _ in range(rounds):
            for use in sdk.ways:
                await use(client, sdk.called_with, [])
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)

    with metered.meter.for_tenant(TENANT):
        asyncio.run(many(5))
        before = alive()
        asyncio.run(many(sdk.streams // (2 * len(sdk.ways)) + 1))
    assert metered.meter.flush(PATIENCE)

    grown = alive() - before
    assert sum(grown.values()) <= 3, grown
    assert unraisable == []
    metered.meter.close()
    assert metered.meter.store.holds() == []
    assert len({event.event_id for event in metered.events}) == len(metered.events) == len(answered)
