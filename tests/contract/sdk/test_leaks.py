"""Thousands of streams, half of them dropped: nothing of them stays, and nothing is said on stderr."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.sdk import uses
from tests.contract.sdk.anthropic_wire import MESSAGES, AnthropicWire
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import CHAT, Endpoint, Use
from tests.contract.sdk.wire import Wire

OURS = (
    "Flight",
    "_Watch",
    "ChoicesReader",
    "MessageReader",
    "EventTee",
    "DocumentTee",
    "Request",
    "Outcome",
    "Estimate",
)
THEIRS = ("Stream", "AsyncStream", "Response", "APIResponse", "LegacyAPIResponse", "generator", "async_generator")

WAYS: list[Use] = [
    uses.stream,
    uses.broken_off,
    uses.never_iterated,
    uses.block_broken_off,
    uses.raw_broken_off,
    uses.raw_never_read,
    uses.stream_bytes,
    uses.closed_unread,
]


def alive() -> Counter[str]:
    gc.collect()
    kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
    registered = len(weakref.finalize._registry)  # type: ignore[attr-defined]
    return Counter({**{name: kinds[name] for name in OURS + THEIRS}, "finalize": registered})


@pytest.mark.parametrize(
    ("patch", "protocol", "endpoint"),
    [("openai", Wire, CHAT), ("anthropic", AnthropicWire, MESSAGES)],
    ids=["openai", "anthropic"],
)
def test_streams_leave_nothing_behind(
    make: Callable[..., Any], patch: str, protocol: type[Wire], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    metered = Metered(patch)
    metered.meter.patch(patch)
    wired = protocol(endpoint.script)
    wired.forgetful = True
    client = make(wired)

    async def many(rounds: int) -> None:
        for _ in range(rounds):
            for use in WAYS:
                await use(client, endpoint, [])
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)

    with metered.meter.for_tenant(TENANT):
        asyncio.run(many(5))
        before = alive()
        asyncio.run(many(125))
    assert metered.meter.flush(10)

    grown = alive() - before
    assert sum(grown.values()) <= 3, grown
    assert unraisable == []
    metered.meter.close()
    assert metered.meter.store.holds() == []
    assert len({event.event_id for event in metered.events}) == len(metered.events) == 130 * len(WAYS)
