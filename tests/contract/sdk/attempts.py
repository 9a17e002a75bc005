"""SDKs that repeat attempts of a call, each over a wire that loses some: how they are made, called and answered."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from types import SimpleNamespace
from typing import Any, ClassVar

import botocore.exceptions as aws
import cohere
import pytest
import urllib3
from botocore.awsrequest import AWSResponse
from cohere.core.request_options import RequestOptions
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig

from tests.contract.sdk import anthropic_wire, gemini, makers, uses, wire
from tests.contract.sdk.metered import Metered
from tests.contract.sdk.uses import CHAT, Use, each, value
from tests.contract.sdk.wire import Answer, Script, Wire
from token_limit_core import LLMEvent

RETRIES = 2

FAULTS = ("ReadTimeout", "RemoteProtocolError", "ConnectError", "PoolTimeout")
"""How an attempt fails, as httpx names it."""


@dataclass
class Sdk:
    """An SDK: its wire, how it makes a client and is called, what it is answered, and the cost of an attempt's input.

    `repeats` are the faults after which it makes another attempt; `lost` is one that the provider may bill.
    """

    patch: str
    wired: type[Wire]
    call: Use
    answer: Script
    input_cost: int
    """nano-dollars"""
    refuse: Callable[[int], Script]
    streamed: Use | None = None
    stream: Script = wire.chat
    options: dict[str, Any] = field(default_factory=lambda: {"max_retries": RETRIES})
    endpoint: Any = None
    repeats: tuple[str, ...] = FAULTS
    lost: str = "ReadTimeout"
    counts: bool = True
    """Whether it stops after a number of attempts; else it does after some time."""
    asynchronous: bool = True

    def fault(self, name: str) -> Script:
        return wire.drop(getattr(self.wired.http, name)("secret"))

    def client(self, asynchronous: bool, *scripts: Script) -> Any:
        wired = self.wired(*scripts)
        return (wired.async_client if asynchronous else wired.client)(**self.options)

    def event(self, asynchronous: bool, way: str, *scripts: Script) -> LLMEvent:
        """Call it whole or streamed, and return the event."""
        metered = Metered(self.patch)
        use = self.call if way == "whole" else self.streamed
        assert use is not None
        metered.run(use, self.client(asynchronous, *scripts), self.endpoint)
        metered.meter.close()
        return metered.event()

    def answered(self, way: str) -> Script:
        return self.answer if way == "whole" else self.stream


# -- SDKs with funnels of their own -----------------------------------------------------------------


async def call(client: Any, endpoint: Any, seen: list[Any]) -> None:
    seen.append(await value(client.call()))


async def stream(client: Any, endpoint: Any, seen: list[Any]) -> None:
    opened = await value(client.stream())
    seen += [event async for event in each(opened)]


def served(path: str) -> Script:
    """Answer as the provider of all formats does."""

    def script(sent: dict[str, Any]) -> Answer:
        streams, document, pieces = next(makers.answers(path, sent))
        return Answer(200, list(pieces), document["content-type"]) if streams else wire.as_json(document)

    return script


class BedrockWire(Wire):
    """Answers boto3's clients in place of their HTTP session."""

    http = SimpleNamespace(
        ReadTimeout=lambda text: aws.ReadTimeoutError(endpoint_url=text),
        RemoteProtocolError=lambda text: aws.ConnectionClosedError(endpoint_url=text),
        ConnectError=lambda text: aws.EndpointConnectionError(endpoint_url=text),
        PoolTimeout=lambda text: aws.ConnectTimeoutError(endpoint_url=text),
    )

    def send(self, request: Any) -> AWSResponse:
        """Answer an attempt, as `botocore.httpsession` does."""
        self.sent.append(json.loads(request.body))
        answer = self.scripts[min(len(self.sent), len(self.scripts)) - 1](self.sent[-1])
        if answer.status is None:
            assert answer.fault is not None
            raise answer.fault
        headers = {"content-type": answer.content_type, **answer.headers}
        raw = urllib3.HTTPResponse(io.BytesIO(answer.content), headers, answer.status, preload_content=False)
        return AWSResponse(request.url, answer.status, headers, raw)

    def client(self, cls: Any = None, **options: Any) -> Any:
        """Make a client of Bedrock's runtime, and say how it is called."""
        made = makers.bedrock("http://127.0.0.1:9", retries={"mode": "standard", **options})
        made._endpoint.http_session = self
        return SimpleNamespace(
            call=lambda: made.converse(**makers.ASKED),
            stream=lambda: made.converse_stream(**makers.ASKED)["stream"],
        )


def throttled(status: int) -> Script:
    headers = {"x-amzn-errortype": "ThrottlingException" if status == 429 else "ValidationException"}
    return lambda sent: Answer(status, [b'{"message": "secret"}'], headers=headers)


class MistralWire(Wire):
    """Answers Mistral's clients."""

    http: ClassVar[Any] = import_module(type(Mistral("x").sdk_configuration.client).__mro__[1].__module__.split(".")[0])

    def client(self, cls: Any = None, **options: Any) -> Any:
        """Make a client, and say how it is called."""
        chat = self._chat(client=self.http.Client(transport=self))
        return SimpleNamespace(call=lambda: chat.complete(**ASKED), stream=lambda: chat.stream(**ASKED))

    def async_client(self, cls: Any = None, **options: Any) -> Any:
        """Do what `client` does for an asynchronous one."""
        chat = self._chat(async_client=self.http.AsyncClient(transport=self))
        return SimpleNamespace(call=lambda: chat.complete_async(**ASKED), stream=lambda: chat.stream_async(**ASKED))

    def _chat(self, **options: Any) -> Any:
        retries = RetryConfig("backoff", BackoffStrategy(1, 1, 1.0, 3_600_000), True)
        return Mistral("secret", retry_config=retries, **options).chat


class CohereWire(Wire):
    """Answers Cohere's clients."""

    http: ClassVar[Any] = import_module("httpx")

    def client(self, cls: Any = None, **options: Any) -> Any:
        """Make a client, and say how it is called."""
        return self._called(cohere.ClientV2("secret", httpx_client=self.http.Client(transport=self)), options)

    def async_client(self, cls: Any = None, **options: Any) -> Any:
        """Do what `client` does for an asynchronous one."""
        return self._called(cohere.AsyncClientV2("secret", httpx_client=self.http.AsyncClient(transport=self)), options)

    def _called(self, client: Any, options: Mapping[str, Any]) -> Any:
        asked = {"model": "command-a-03-2025", "messages": makers.MESSAGES}
        return SimpleNamespace(call=lambda: client.chat(**asked, request_options=options))


ASKED = {"model": "mistral-small-2506", "messages": makers.MESSAGES}

# -- the table ----------------------------------------------------------------------------------------


def _anthropic_error(status: int) -> Script:
    return anthropic_wire.error(status, "api_error")


def _google_error(status: int) -> Script:
    return gemini.error(status, "UNAVAILABLE")


GOOGLE = {"retry_options": {"attempts": RETRIES + 1, "initial_delay": 0.001, "max_delay": 0.001}}
SDKS = {
    "openai": Sdk(
        "openai", Wire, uses.plain, wire.chat, 150 * wire.INPUT, wire.error, uses.stream, endpoint=CHAT
    ),
    "anthropic": Sdk(
        "anthropic", anthropic_wire.AnthropicWire, uses.plain, anthropic_wire.messages, 3000 * (117 + 64 + 48),
        _anthropic_error, uses.stream, anthropic_wire.messages, endpoint=anthropic_wire.MESSAGES,
    ),
    "google": Sdk(
        "google", gemini.Wire, gemini.plain, gemini.content, 300 * 117, _google_error, gemini.stream, gemini.chunks,
        GOOGLE, repeats=("ReadTimeout", "ConnectError", "PoolTimeout"),
    ),
    "bedrock": Sdk(
        "bedrock", BedrockWire, call, served("/converse"), 3300 * (120 + 64 + 16), throttled, stream,
        served("/converse-stream"), {"total_max_attempts": RETRIES + 1}, asynchronous=False,
    ),
    "mistral": Sdk(
        "mistral", MistralWire, call, served("/v1/chat/completions"), 100 * 120, wire.error, stream,
        served("/v1/chat/completions"), repeats=("ReadTimeout", "ConnectError", "PoolTimeout"), counts=False,
    ),
    "cohere": Sdk(
        "cohere", CohereWire, call, served("/v2/chat"), 2500 * 20, wire.error,
        options={"max_retries": RETRIES, "retry_remote_protocol_errors": True},
        repeats=("RemoteProtocolError", "ConnectError"), lost="RemoteProtocolError",
    ),
}  # fmt: skip
"""Prices of the input in nano-dollars a token: gpt-4o-mini, claude-sonnet-4-6, gemini-2.5-flash, Claude on Bedrock,
mistral-small-2506 and command-a-03-2025."""

if int(metadata.version("google-genai").partition(".")[0]) < 3:
    del SDKS["google"]  # releases before it do not repeat an attempt that was lost
if "retry_remote_protocol_errors" not in RequestOptions.__annotations__:
    del SDKS["cohere"]  # nor do releases of Cohere's before 7


def repeat_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDKs repeat without a pause."""
    for sdk in ("openai", "anthropic"):
        monkeypatch.setattr(f"{sdk}._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.001)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
