"""The LLM calls of the test applications: one client each for synchronous code and for an event loop."""

from __future__ import annotations

import ssl
from typing import Any

import openai

MODEL = "gpt-4o-mini"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used; the clients would load one each, which takes 50 ms."""

client: openai.OpenAI


def connect(base_url: str) -> openai.OpenAI:
    """Point the clients at a provider."""
    global client
    client = openai.OpenAI(api_key="test", base_url=base_url, max_retries=0)
    return client


def async_client() -> openai.AsyncOpenAI:
    """Make a client for this event loop; the tests have many."""
    transport = openai.DefaultAsyncHttpxClient(verify=TLS)
    return openai.AsyncOpenAI(api_key="test", base_url=client.base_url, max_retries=0, http_client=transport)


def request(question: str = "What does a limit do?") -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": question}]}


def ask(**options: Any) -> Any:
    return client.chat.completions.create(**request(), **options)


async def aask() -> Any:
    async with async_client() as own:
        return await own.chat.completions.create(**request())


def text_of(answer: Any) -> str:
    """Return the text of an answer or of one chunk of it."""
    if not answer.choices:
        return ""
    choice = answer.choices[0]
    text: str | None = choice.delta.content if hasattr(choice, "delta") else choice.message.content
    return text or ""
