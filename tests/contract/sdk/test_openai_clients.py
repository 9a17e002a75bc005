"""Whatever client makes the call, and wherever it goes, it is metered as what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.contract.sdk import uses, wire
from tests.contract.sdk.metered import TENANT, Metered, run
from tests.contract.sdk.uses import ALL, CHAT, Endpoint, Use, each, value
from tests.contract.sdk.wire import Wire

BOTH = pytest.mark.parametrize("use", [uses.plain, uses.stream])


class OwnClient(openai.OpenAI):
    pass


class OwnAsyncClient(openai.AsyncOpenAI):
    pass


def azure(wired: Wire, sync: bool, endpoint: str = "https://acme.openai.azure.com", **options: Any) -> Any:
    options = {"azure_endpoint": endpoint, "api_version": "2024-10-21", **options}
    if sync:
        return wired.client(openai.AzureOpenAI, **options)
    return wired.async_client(openai.AsyncAzureOpenAI, **options)


@BOTH
def test_a_client_made_before_patching(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    client = make(Wire(wire.chat))
    run(use, client, CHAT)
    metered.run(use, client, CHAT)

    assert metered.event().input_tokens == wire.INPUT


@BOTH
@pytest.mark.parametrize("through", ["", "with_raw_response", "with_streaming_response"])
def test_a_bound_method_captured_before_patching(
    make: Callable[..., Any], use: Use, through: str, metered: Metered
) -> None:
    create = uses.CHAT.resource(make(Wire(wire.chat)), through).create

    async def call(client: Any, endpoint: Endpoint, seen: list[Any]) -> None:
        made = create(**endpoint.arguments, stream=use is uses.stream)
        if through == "with_streaming_response":
            async with uses.entered(made) as response:
                seen.append(await value(response.read()))
        else:
            made = await value(made)
            parsed = made.parse() if through else made
            seen += [chunk async for chunk in each(parsed)] if use is uses.stream else [parsed]

    metered.run(call, None, CHAT)

    assert metered.event().input_tokens == wire.INPUT


@BOTH
def test_a_copy_with_other_options(make: Callable[..., Any], use: Use, metered: Metered) -> None:
    client = make(Wire(wire.chat)).with_options(timeout=5, max_retries=1).copy(default_headers={"x-a": "b"})
    metered.run(use, client, CHAT)

    assert metered.event().input_tokens == wire.INPUT


@BOTH
@pytest.mark.parametrize("sync", [True, False])
def test_a_subclass(use: Use, sync: bool, metered: Metered) -> None:
    wired = Wire(wire.chat)
    metered.run(use, wired.client(OwnClient) if sync else wired.async_client(OwnAsyncClient), CHAT)

    assert metered.event().input_tokens == wire.INPUT


@BOTH
def test_the_client_of_the_module(use: Use, metered: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "api_key", "sk-secret")
    monkeypatch.setattr(openai, "http_client", openai.DefaultHttpxClient(transport=Wire(wire.chat)))
    openai._reset_client()  # type: ignore[attr-defined]
    try:
        metered.run(use, openai, CHAT)
    finally:
        openai._reset_client()  # type: ignore[attr-defined]

    assert metered.event().input_tokens == wire.INPUT


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.name)
@pytest.mark.parametrize("sync", [True, False])
def test_azure(sync: bool, endpoint: Endpoint, metered: Metered) -> None:
    wired = Wire(endpoint.script)
    metered.run(uses.plain, azure(wired, sync), endpoint)

    if endpoint.name != "responses":
        assert wired.paths[0].startswith(f"/openai/deployments/{endpoint.model}/")
    event = metered.event()
    assert (event.provider, event.endpoint, event.input_tokens) == ("azure", endpoint.name, wire.INPUT)
    assert event.cost_usd is not None


@pytest.mark.parametrize("sync", [True, False])
def test_azure_streams_through_a_deployment_on_a_host_of_its_own(sync: bool, metered: Metered) -> None:
    wired = Wire(wire.chat)
    client = azure(wired, sync, "https://gateway.example", azure_deployment="my-deployment")
    result = metered.run(uses.stream, client, CHAT)

    assert result.error is None
    event = metered.event()
    assert (event.provider, event.input_tokens) == ("azure", wire.INPUT)
    assert wired.sent[0]["stream_options"] == {"include_usage": True}


HOSTS = {
    "https://api.openai.com/v1": "openai",
    "https://EU.api.openai.com/v1": "openai",
    "https://api.openai.com:443/v1": "openai",
    "https://acme.openai.azure.com/openai/v1": "azure",
    "https://api.deepseek.com/beta": "deepseek",
    "https://openrouter.ai/api/v1": "openrouter",
    "https://api.openai.com.evil.example/v1": "unknown",
    "https://notapi.openai.com/v1": "unknown",
    "https://evil.example/api.openai.com": "unknown",
    "http://localhost:8000/v1": "unknown",
    "http://127.0.0.1:8010/v1": "groq",
    "http://127.0.0.1:8011/v1": "openai",
    "http://llm.internal/v1": "openai",
}


@BOTH
@pytest.mark.parametrize(("base_url", "provider"), HOSTS.items())
def test_the_provider_is_told_from_the_host(
    make: Callable[..., Any], use: Use, base_url: str, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = {"127.0.0.1": "openai", "127.0.0.1:8010": "groq", "LLM.internal": "openai"}
    metered = Metered(hosts=hosts)
    wired = Wire(wire.chat)
    result = metered.run(use, make(wired, base_url=base_url), CHAT)
    metered.meter.close()

    assert result.error is None
    event = metered.event()
    assert event.provider == provider
    assert ("stream_options" in wired.sent[0]) is (use is uses.stream)
    if use is uses.plain:
        assert event.input_tokens == wire.INPUT
    assert event.cost_usd is not None
    assert ("price_assumed" in event.tags) is (provider not in ("openai", "azure"))


def test_an_unknown_host_is_asked_for_usage_as_well(make: Callable[..., Any], metered: Metered) -> None:
    wired = Wire(wire.chat)
    result = metered.run(uses.stream, make(wired, base_url="http://localhost:8000/v1"), CHAT)

    assert wired.sent[0]["stream_options"] == {"include_usage": True}
    assert all(getattr(chunk, "usage", None) is None for chunk in result.seen)
    event = metered.event()
    assert (event.input_tokens, event.output_tokens) == (wire.INPUT, wire.OUTPUT)
    assert event.tags["price_assumed"] == "openai gpt-4o-mini (the same name)"


def test_a_client_whose_address_changes_is_looked_at_again(make: Callable[..., Any], metered: Metered) -> None:
    client = make(Wire(wire.chat))
    metered.run(uses.plain, client, CHAT)
    client.base_url = "http://localhost:8000/v1"
    metered.run(uses.plain, client, CHAT)

    assert [event.provider for event in metered.events] == ["openai", "unknown"]


def test_calls_without_a_tenant_are_recorded_as_nobodys(make: Callable[..., Any], metered: Metered) -> None:
    metered.meter.patch("openai")
    run(uses.plain, make(Wire(wire.chat)), CHAT)

    (event,) = metered.events
    assert event.tenant_id == ""
    assert metered.meter.store.spend("", 0, event.timestamp + 1).calls == 1
    assert metered.meter.store.spend(TENANT, 0, event.timestamp + 1).calls == 0
    assert metered.meter.status()["counts"]["unattributed"] == 1
