"""Frameworks that call the SDKs: each call is metered once, and paid by the tenant that is signed in."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.sdk import gemini, uses, wire
from tests.contract.sdk.anthropic_wire import MESSAGES, AnthropicWire
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.wire import Wire
from tests.waiting import PATIENCE

pytestmark = pytest.mark.filterwarnings("default")  # what other packages warn about is theirs
QUESTION = "What is forty plus two?"
CLAUDE = MESSAGES.arguments["model"]


def module(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed; run the nox session 'integrations'")


def openai_wire() -> Wire:
    return Wire(uses.CHAT.script)


def anthropic_wire() -> AnthropicWire:
    return AnthropicWire(MESSAGES.script)


def google_wire() -> gemini.Wire:
    return gemini.Wire(gemini.content)


def google_stream_wire() -> gemini.Wire:
    return gemini.Wire(gemini.chunks)


# -- LangChain ---------------------------------------------------------------------------------------


def langchain_openai(wired: Wire) -> Any:
    import openai

    clients = {
        "http_client": openai.DefaultHttpxClient(transport=wired),
        "http_async_client": openai.DefaultAsyncHttpxClient(transport=wired),
    }
    return module("langchain_openai").ChatOpenAI(model=wire.MODEL, api_key="secret", max_retries=0, **clients)


def langchain_anthropic(wired: Wire) -> Any:
    chat = module("langchain_anthropic").ChatAnthropic(model=CLAUDE, api_key="secret", max_retries=0, max_tokens=99)
    chat.__dict__.update(_client=wired.client(), _async_client=wired.async_client())  # as it caches them itself
    return chat


def langchain_google(wired: Wire) -> Any:
    chat = module("langchain_google_genai").ChatGoogleGenerativeAI(model=gemini.MODEL, api_key="secret", max_retries=0)
    chat.client = gemini.api_client(wired)
    return chat


async def invoke(chat: Any) -> Any:
    return chat.invoke(QUESTION).content


async def ainvoke(chat: Any) -> Any:
    return (await chat.ainvoke(QUESTION)).content


async def stream(chat: Any) -> Any:
    return "".join(str(chunk.content) for chunk in chat.stream(QUESTION))


async def astream(chat: Any) -> Any:
    return "".join([str(chunk.content) async for chunk in chat.astream(QUESTION)])


# -- pydantic-ai -------------------------------------------------------------------------------------


def _pydantic_ai(name: str, provider: str, model: str, **client: Any) -> Any:
    agent = module("pydantic_ai").Agent
    models = importlib.import_module(f"pydantic_ai.models.{name}")
    providers = importlib.import_module(f"pydantic_ai.providers.{name}")
    kind = getattr(models, "OpenAIChatModel" if name == "openai" else f"{provider}Model")
    return agent(kind(model, provider=getattr(providers, f"{provider}Provider")(**client)))


def pydantic_ai_openai(wired: Wire) -> Any:
    return _pydantic_ai("openai", "OpenAI", wire.MODEL, openai_client=wired.async_client())


def pydantic_ai_anthropic(wired: Wire) -> Any:
    return _pydantic_ai("anthropic", "Anthropic", CLAUDE, anthropic_client=wired.async_client())


def pydantic_ai_google(wired: Wire) -> Any:
    return _pydantic_ai("google", "Google", gemini.MODEL, client=gemini.api_client(wired))


async def run(agent: Any) -> Any:
    return (await agent.run(QUESTION)).output


async def run_stream(agent: Any) -> Any:
    async with agent.run_stream(QUESTION) as result:
        return await result.get_output()


# -- instructor --------------------------------------------------------------------------------------


def instructor_openai(wired: Wire) -> Any:
    instructor = module("instructor")
    return instructor.from_openai(wired.client(), mode=instructor.Mode.JSON)


MESSAGES_GIVEN: list[Any] = [{"role": "user", "content": QUESTION}]


async def create(client: Any) -> Any:
    parsed = client.chat.completions.create(
        model=wire.MODEL, messages=MESSAGES_GIVEN, response_model=uses.Parsed, max_retries=0
    )
    return parsed.model_dump_json()


async def create_partial(client: Any) -> Any:
    parts = client.chat.completions.create_partial(
        model=wire.MODEL, messages=MESSAGES_GIVEN, response_model=uses.Parsed, max_retries=0
    )
    return list(parts)[-1].model_dump_json()


# -- each once ---------------------------------------------------------------------------------------

LANGCHAIN = [
    *(("openai", langchain_openai, openai_wire, use) for use in (invoke, ainvoke, stream, astream)),
    *(("anthropic", langchain_anthropic, anthropic_wire, use) for use in (invoke, ainvoke, stream, astream)),
    *(("google", langchain_google, google_wire, use) for use in (invoke, ainvoke)),
    *(("google", langchain_google, google_stream_wire, use) for use in (stream, astream)),
]
PYDANTIC_AI = [
    *(("openai", pydantic_ai_openai, openai_wire, use) for use in (run, run_stream)),
    *(("anthropic", pydantic_ai_anthropic, anthropic_wire, use) for use in (run, run_stream)),
    ("google", pydantic_ai_google, google_wire, run),
    ("google", pydantic_ai_google, google_stream_wire, run_stream),
]
INSTRUCTOR = [("openai", instructor_openai, openai_wire, use) for use in (create, create_partial)]

STREAMED = (stream, astream, run_stream, create_partial)


@pytest.fixture
def metered(patch: str) -> Iterator[Metered]:
    metered = Metered(patch)
    metered.meter.patch(patch)
    yield metered
    metered.meter.close()


@pytest.mark.parametrize(
    ("patch", "make", "wired", "use"),
    [*LANGCHAIN, *PYDANTIC_AI, *INSTRUCTOR],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_call_is_metered_once_for_its_tenant(
    metered: Metered, patch: str, make: Callable[[Any], Any], wired: Callable[[], Wire], use: Callable[[Any], Any]
) -> None:
    answering = wired()
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        told = asyncio.run(use(make(answering)))
    assert metered.meter.flush(PATIENCE)

    assert "forty-two" in str(told)
    assert len(answering.sent) == 1
    event = metered.event()
    assert (event.provider, event.stream, event.error) == (patch, use in STREAMED, None)
    assert "estimated" not in event.tags
    assert min(event.input_tokens, event.output_tokens) > 0
