"""The tests of a project that meters its calls, as pytest and Django's runner find them; the LLM is mocked."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any
from unittest import mock

import openai
import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import RequestFactory, SimpleTestCase, TestCase

from token_limit_django.meter import get_meter
from token_limit_django.middleware import TokenLimitMiddleware

httpx: Any = importlib.import_module("httpx2" if int(openai.VERSION.split(".")[0]) >= 3 else "httpx")
CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
MESSAGE = {"role": "assistant", "content": "yes"}
USAGE = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "usage": USAGE,
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
}  # fmt: skip
REQUEST: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Why?"}]}


def answer(request: Any) -> Any:
    if json.loads(request.content).get("stream"):
        chunk = {**CHUNK, "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": None}]}
        body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    return httpx.Response(200, json=ANSWER)


transport = httpx.MockTransport(answer)
client = openai.OpenAI(api_key="test", http_client=openai.DefaultHttpxClient(transport=transport))


def ask(**options: Any) -> str:
    return client.chat.completions.create(**REQUEST, **options).choices[0].message.content


def stream() -> list[Any]:
    return list(client.chat.completions.create(**REQUEST, stream=True))


async def aask() -> str:
    transport = httpx.MockTransport(answer)
    own = openai.AsyncOpenAI(api_key="test", http_client=openai.DefaultAsyncHttpxClient(transport=transport))
    return (await own.chat.completions.create(**REQUEST)).choices[0].message.content or ""


def everything() -> None:
    """Call in every way, often enough to use up what an outage may cost."""
    for tenant in (None, "acme"):
        with get_meter().for_tenant(tenant):
            for _ in range(5):
                assert ask() == "yes"
            assert stream()
            assert asyncio.run(aask()) == "yes"
            get_meter().check_limit()
    request = RequestFactory().get("/")
    request.user = mock.Mock(pk=7, is_authenticated=True)
    TokenLimitMiddleware(lambda request: mock.Mock(status_code=200, streaming=False, text=ask()))(request)
    assert get_meter().flush(10)
    assert get_meter().status()["settles_waiting"] == 0


def test_without_a_mark() -> None:
    everything()


async def test_without_a_mark_on_a_loop() -> None:
    for _ in range(3):
        assert await aask() == "yes"
    assert ask() == "yes"


class Simple(SimpleTestCase):
    def test_in_a_test_case_without_databases(self) -> None:
        everything()

    async def test_in_it_on_a_loop(self) -> None:
        assert await aask() == "yes"


class Transactional(TestCase):
    def test_in_a_test_case_with_the_default_database_only(self) -> None:
        everything()


@pytest.mark.parametrize("method", ["connect", "ensure_connection", "cursor", "get_new_connection"])
def test_with_a_mocked_database(method: str) -> None:
    with mock.patch.object(BaseDatabaseWrapper, method) as mocked:
        everything()
    mocked.assert_not_called()


def test_with_mocked_connections() -> None:
    with mock.patch("django.db.connections"), mock.patch("django.db.connection"):
        everything()
