"""LangChain's calls run through the SDK and are metered there; its own patch marks them and does nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.contract.sdk import wire
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.wire import Wire
from tests.waiting import PATIENCE

langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")


@pytest.fixture
def model() -> Any:
    wired = Wire(wire.chat)
    return langchain.ChatOpenAI(
        model=wire.MODEL,
        api_key="sk-secret",
        http_client=openai.DefaultHttpxClient(transport=wired),
        http_async_client=openai.DefaultAsyncHttpxClient(transport=wired),
    )


@pytest.fixture
def marking(metered: Metered) -> Iterator[Metered]:
    metered.meter.patch("openai").patch("langchain")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        yield metered


def drain(stream: Any) -> None:
    for _ in stream:
        pass


async def adrain(stream: Any) -> None:
    async for _ in stream:
        pass


CALLS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda model: model.invoke("hi"),
    "stream": lambda model: drain(model.stream("hi")),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hi")),
    "astream": lambda model: asyncio.run(adrain(model.astream("hi"))),
    "batch": lambda model: model.batch(["hi"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_is_one_event_of_the_tenant_and_is_marked(
    call: Callable[[Any], Any], model: Any, marking: Metered
) -> None:
    call(model)
    assert marking.meter.flush(PATIENCE)

    event = marking.event()
    assert (event.endpoint, event.input_tokens, event.output_tokens) == ("chat.completions", wire.INPUT, wire.OUTPUT)
    assert event.tags["via"] == "langchain"


def test_the_mark_ends_with_the_call(model: Any, marking: Metered) -> None:
    model.invoke("hi")
    drain(model.stream("hi"))
    Wire(wire.chat).client().chat.completions.create(model=wire.MODEL, messages=[])

    assert [event.tags.get("via") for event in marking.events] == ["langchain", "langchain", None]


def test_without_its_patch_nothing_is_marked(model: Any, metered: Metered) -> None:
    metered.meter.patch("openai").patch("langchain").unpatch("langchain")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        model.invoke("hi")

    assert "via" not in metered.event().tags
