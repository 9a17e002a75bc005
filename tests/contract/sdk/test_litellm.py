"""LiteLLM: refusals that pass its retries, fallbacks and routers, one event a request, streams that it opens late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import litellm
import openai
import pytest

from tests.contract.sdk.makers import CHAT, CHAT_USAGE, INPUT, MESSAGES, OUTPUT, Maker, closing
from tests.contract.sdk.metered import TENANT, Metered
from tests.contract.sdk.uses import value
from token_limit_core import LimitExceededException, Meter, MeterConfig
from token_limit_core.errors import UnguardedCall

EARLY = litellm.completion, litellm.acompletion
"""As an application has them that imports them before the Meter patches."""

CLAUDE = "anthropic/claude-3-haiku-20240307"
SMALL = "mistral/mistral-small-2506"

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM warns of much of its own


@pytest.fixture
def metered(maker: Maker) -> Iterator[Metered]:
    metered = Metered("litellm", hosts={maker.host: "mistral"})
    metered.meter.patch("litellm")
    with metered.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        yield metered
    metered.meter.close()


def arun(calling: Awaitable[Any]) -> Any:
    return asyncio.run(closing(calling))


def asked(maker: Maker, **options: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, "api_base": maker.url, "api_key": "x", "max_retries": 0, **options}


def router(maker: Maker, **options: Any) -> litellm.Router:
    def deployment(name: str, model: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": model, "api_base": maker.url, "api_key": "x"}}

    models = [deployment("first", CLAUDE), deployment("second", f"openai/{SMALL}")]
    return litellm.Router(model_list=models, fallbacks=[{"first": ["second"]}], num_retries=2, **options)


async def _each(stream: Any) -> list[Any]:
    return [chunk async for chunk in await stream]


Way = Callable[[Maker], Any]

WAYS: dict[str, Way] = {
    "call": lambda maker: litellm.completion(CLAUDE, **asked(maker)),
    "async": lambda maker: arun(litellm.acompletion(CLAUDE, **asked(maker))),
    "early": lambda maker: EARLY[0](CLAUDE, **asked(maker)),
    "async early": lambda maker: arun(EARLY[1](CLAUDE, **asked(maker))),
    "openai": lambda maker: litellm.completion("openai/mistral-small-2506", **asked(maker)),
    "text": lambda maker: litellm.text_completion(
        model=SMALL, prompt="?", api_base=maker.url, api_key="x", max_retries=0
    ),
    "stream": lambda maker: list(litellm.completion(CLAUDE, **asked(maker, stream=True))),
    "async stream": lambda maker: arun(_each(litellm.acompletion(CLAUDE, **asked(maker, stream=True)))),
    "retries": lambda maker: litellm.completion(CLAUDE, **asked(maker, num_retries=3)),
    "async retries": lambda maker: arun(litellm.acompletion(CLAUDE, **asked(maker, num_retries=3))),
    "fallbacks": lambda maker: litellm.completion(CLAUDE, **asked(maker, fallbacks=[SMALL])),
    "async fallbacks": lambda maker: arun(litellm.acompletion(CLAUDE, **asked(maker, fallbacks=[SMALL]))),
    "router": lambda maker: router(maker).completion("first", messages=MESSAGES),
    "async router": lambda maker: arun(router(maker).acompletion("first", messages=MESSAGES)),
    "router's stream": lambda maker: arun(_each(router(maker).acompletion("first", messages=MESSAGES, stream=True))),
    "messages": lambda maker: arun(
        litellm.anthropic_messages(model=CLAUDE, max_tokens=9, **asked(maker))  # type: ignore[attr-defined]
    ),
    "embedding": lambda maker: litellm.embedding(
        "openai/mistral-embed", input=["?"], api_base=maker.url, api_key="x", max_retries=0
    ),
    "responses": lambda maker: litellm.responses(
        input="?", model="openai/mistral-small-2506", api_base=maker.url, api_key="x"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_reaches_the_caller_as_itself_and_nothing_is_sent(way: str, maker: Maker, metered: Metered) -> None:
    metered.meter.set_limit(TENANT, 0)
    with pytest.raises(LimitExceededException):
        WAYS[way](maker)

    assert maker.requests == []
    assert metered.events == []
    assert metered.meter.status()["counts"]["refused"] == 1  # it does not even try again


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("embedding", "responses")])
def test_one_request_is_one_event(way: str, maker: Maker, metered: Metered) -> None:
    WAYS[way](maker)

    assert len(maker.requests) == 1
    event = metered.event()
    assert (event.input_tokens, event.output_tokens) == (INPUT, OUTPUT)
    assert "estimated" not in event.tags


ANSWERED = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "mistral-small-2506",
    "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT},
}  # fmt: skip
EMBEDDED = {
    "object": "list", "model": "mistral-embed", "data": [{"object": "embedding", "embedding": [0.5], "index": 0}],
    "usage": {"prompt_tokens": INPUT, "total_tokens": INPUT},
}  # fmt: skip


@pytest.mark.parametrize(
    ("way", "document", "endpoint", "output"),
    [("responses", ANSWERED, "responses", OUTPUT), ("embedding", EMBEDDED, "embeddings", 0)],
)
def test_other_functions(
    way: str, document: dict[str, Any], endpoint: str, output: int, maker: Maker, metered: Metered
) -> None:
    maker.say(document)
    WAYS[way](maker)

    event = metered.event()
    assert (event.endpoint, event.input_tokens, event.output_tokens) == (endpoint, INPUT, output)
    assert "estimated" not in event.tags


def test_an_embedding_on_bedrock(maker: Maker, metered: Metered) -> None:
    maker.say({"embedding": [0.5], "inputTextTokenCount": 7})
    litellm.embedding(
        "bedrock/amazon.titan-embed-text-v2:0", input=["?"], api_base=maker.url, aws_access_key_id="a",
        aws_secret_access_key="b", aws_region_name="us-east-1",
    )  # fmt: skip

    event = metered.event()
    assert (event.endpoint, event.model, event.input_tokens) == ("invoke_model", "amazon.titan-embed-text-v2:0", 7)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_refusal_of_one_tenant_does_not_cool_a_deployment_down_for_another(
    asynchronous: bool, maker: Maker, metered: Metered
) -> None:
    routing = router(maker, allowed_fails=0, cooldown_time=60)

    async def call() -> Any:
        return await routing.acompletion("first", messages=MESSAGES)

    def ask() -> Any:
        return arun(call()) if asynchronous else routing.completion("first", messages=MESSAGES)

    metered.meter.set_limit("broke", 0)
    for _ in range(3):
        with metered.meter.for_tenant("broke"), pytest.raises(LimitExceededException):
            ask()
    ask()

    assert [path for path, _ in maker.requests] == ["/v1/messages"]


def test_a_fallback_after_an_error_of_the_provider_is_a_request_of_its_own(maker: Maker, metered: Metered) -> None:
    answer = maker.answer

    def failing_first(exchange: Any) -> None:
        maker.status = 500 if exchange.route == "/v1/messages" else 200
        answer(exchange)

    maker.server.serve = failing_first
    litellm.completion(CLAUDE, **asked(maker, fallbacks=["openai/mistral-small-2506"]))

    costs = [(event.error is None, bool(event.cost_usd)) for event in metered.settled(len(maker.requests))]
    assert costs[0] == (False, False)
    assert costs[-1] == (True, True)


def test_a_refusal_by_the_policy_for_calls_that_are_not_metered_passes_too(maker: Maker) -> None:
    meter = Meter(MeterConfig(store="memory://", on_unguarded="refuse", patches=["litellm"]))
    with meter.patch_all(), pytest.raises(UnguardedCall, match="ocr of the litellm SDK"):
        litellm.ocr(model="mistral/mistral-ocr-latest", document={"type": "document_url", "document_url": "https://a"})
    assert maker.requests == []


def test_an_answer_out_of_a_cache_or_a_mock_costs_nothing(maker: Maker, metered: Metered) -> None:
    litellm.completion(CLAUDE, **asked(maker, mock_response="42"))

    assert (maker.requests, metered.events) == ([], [])


def test_a_stream_of_openais_protocol_is_asked_for_its_usage_which_the_caller_does_not_see(
    maker: Maker, metered: Metered
) -> None:
    """Groq reports usage only when it is asked to; LiteLLM sends to it by itself."""
    metered.meter.close()
    groq = Metered("litellm", hosts={maker.host: "groq"})
    pieces = [{**CHAT, "choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Forty", "-two")]
    usage = {**CHAT, "choices": [], "usage": CHAT_USAGE}
    body = b"".join(f"data: {json.dumps(row)}\n\n".encode() for row in (*pieces, usage)) + b"data: [DONE]\n\n"
    maker.say(None, "text/event-stream", body)
    groq.meter.patch("litellm")
    with groq.meter.for_tenant(TENANT, session_id="s1", user="ann", plan="gold"):
        seen = list(litellm.completion("groq/gemma2-9b-it", **asked(maker, stream=True)))
    groq.meter.close()

    assert maker.requests[0][1]["stream_options"] == {"include_usage": True}
    assert all(getattr(chunk, "usage", None) is None for chunk in seen)
    event = groq.event()
    assert (event.provider, event.input_tokens, event.output_tokens) == ("groq", INPUT, OUTPUT)
    assert "estimated" not in event.tags


def test_a_protocol_of_a_providers_own_is_metered_all_the_same(maker: Maker, metered: Metered) -> None:
    maker.say({"model": "llama3", "response": "42", "done": True, "prompt_eval_count": 5, "eval_count": 2})
    litellm.completion("ollama/llama3", **asked(maker))

    event = metered.event()
    assert (event.endpoint, event.tags["estimated"]) == ("completion", True)


def test_the_provider_is_named_by_litellm_where_its_host_is_not_known(maker: Maker) -> None:
    events: list[Any] = []
    config = MeterConfig(store="memory://", patches=["litellm"], on_event=events.append)
    with Meter(config).patch_all() as meter, meter.for_tenant(TENANT):
        for model in (CLAUDE, SMALL, "together_ai/some/model", "hosted_vllm/some-model"):
            litellm.completion(model, **asked(maker))
    assert [event.provider for event in events] == ["anthropic", "mistral", "together", "unknown"]


def test_what_it_sends_through_openais_sdk_is_metered_with_its_own_patch_alone(maker: Maker) -> None:
    def patched(*names: str) -> list[str]:
        events: list[Any] = []
        hosts = {maker.host: "mistral"}
        config = MeterConfig(store="memory://", patches=list(names), on_event=events.append, hosts=hosts)
        with Meter(config).patch_all() as meter, meter.for_tenant(TENANT):
            WAYS["openai"](maker)
            for name in names[1:]:
                meter.unpatch(name)
            WAYS["openai"](maker)
        assert openai.OpenAI.request.__qualname__ == "SyncAPIClient.request"
        return [event.endpoint for event in events]

    before = openai._base_client.SyncAPIClient.__dict__["request"]
    assert patched("litellm") == ["chat.completions"] * 2
    assert patched("litellm", "openai") == ["chat.completions"] * 2
    assert patched("openai", "litellm") == ["chat.completions"] * 2
    assert patched("deepseek") == []
    assert openai._base_client.SyncAPIClient.__dict__["request"] is before


def test_its_functions_are_restored(maker: Maker) -> None:
    stream = litellm.CustomStreamWrapper
    before = litellm.completion, litellm.aembedding, stream.__init__, stream.__next__, litellm.Router.acompletion
    with Meter(MeterConfig(store="memory://", patches=["litellm"])).patch_all():
        assert litellm.completion is not before[0]
    after = litellm.completion, litellm.aembedding, stream.__init__, stream.__next__, litellm.Router.acompletion
    assert after == before


def test_a_stream_that_is_sent_when_it_is_first_read_is_refused_as_itself(maker: Maker, metered: Metered) -> None:
    """Gemini's, through asynchronous clients."""

    async def main() -> None:
        opened = await value(litellm.acompletion("gemini/gemini-2.0-flash", **asked(maker, stream=True)))
        metered.meter.set_limit(TENANT, 0)
        with pytest.raises(LimitExceededException):
            await anext(aiter(opened))

    if not _opens_late(maker):
        pytest.skip("this version sends before it returns the stream")
    arun(main())
    assert metered.events == []


def _opens_late(maker: Maker) -> bool:
    async def main() -> bool:
        opened = await value(litellm.acompletion("gemini/gemini-2.0-flash", **asked(maker, stream=True)))
        return opened.completion_stream is None

    late = arun(main())
    maker.requests.clear()
    return late


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_host_that_refuses_to_be_asked_for_usage_is_asked_no_more(
    asynchronous: bool, maker: Maker, metered: Metered
) -> None:
    answer, refused = maker.answer, [0]

    def refusing(exchange: Any) -> None:
        if "stream_options" in exchange.body:
            refused[0] += 1
            exchange.send_json(422, {"detail": [{"loc": ["body", "stream_options"], "type": "extra_forbidden"}]})
        else:
            answer(exchange)

    maker.server.serve = refusing
    for _ in range(2):
        if asynchronous:
            arun(_each(litellm.acompletion(SMALL, **asked(maker, stream=True))))
        else:
            list(litellm.completion(SMALL, **asked(maker, stream=True)))

    assert (refused[0], len(maker.requests)) == (1, 2)
    assert [event.output_tokens for event in metered.settled(2)] == [OUTPUT, OUTPUT]
