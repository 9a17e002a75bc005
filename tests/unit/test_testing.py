from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.waiting import PATIENCE, threads_started, wait_until
from token_limit_core import LimitExceededException, patches, pytest_plugin
from token_limit_core.testing import Clock, FakeProvider

fake_provider = pytest_plugin.fake_provider
token_limit_clock = pytest_plugin.token_limit_clock
token_limit_meter = pytest_plugin.token_limit_meter

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where does my money go?"}]


@pytest.fixture
def provider(fake_provider: FakeProvider) -> FakeProvider:
    return fake_provider


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
async def aclient(provider: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **options})


def drain(stream: Any, error: type[Exception]) -> list[Any]:
    """Read a stream that is to end in an error; give what came before it."""
    seen: list[Any] = []
    with pytest.raises(error):
        deque(map(seen.append, stream), maxlen=0)
    return seen


# --- what it answers ----------------------------------------------------------------------------------------


def test_chat_answers_with_text_usage_and_a_request_id(client, provider):
    answer = chat(client)
    (choice,) = answer.choices
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.model == MODEL
    assert answer._request_id.startswith("req_")
    usage = answer.usage
    assert usage.prompt_tokens > 10
    assert usage.completion_tokens > 5
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert usage.completion_tokens_details.reasoning_tokens == 0


def test_the_same_request_gets_the_same_answer_and_a_longer_one_costs_more(client):
    first, second = chat(client), chat(client)
    assert first.choices == second.choices
    assert first.usage == second.usage
    assert first.id != second.id
    longer = chat(client, messages=[{"role": "user", "content": "word " * 1000}])
    assert 900 < longer.usage.prompt_tokens < 1600


def test_requests_are_kept_for_assertions(client, provider):
    chat(client, user="u1")
    client.models.list()
    first, second = provider.requests
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert first.body == {"model": MODEL, "messages": MESSAGES, "user": "u1"}
    assert first.headers["authorization"] == "Bearer sk-test"
    assert (second.method, second.path, second.body) == ("GET", "/v1/models", None)


def test_a_stream_gives_the_text_of_the_plain_answer_in_tokens_and_no_usage_unasked(client):
    plain = chat(client)
    chunks = list(chat(client, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    contents = [chunk.choices[0].delta.content for chunk in chunks[1:-1]]
    assert "".join(contents) == plain.choices[0].message.content
    assert len(contents) == plain.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_a_stream_asked_for_usage_ends_with_it_and_has_null_before(client):
    plain = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    for chunk in chunks[:-1]:
        assert "usage" in chunk.model_fields_set
        assert chunk.usage is None


def test_the_stream_helper_and_structured_outputs_work(client):
    class Line(BaseModel):
        label: str
        amount: float
        kind: Literal["income", "expense"]

    class Report(BaseModel):
        lines: list[Line]
        total: int
        note: str | None
        final: bool

    parsed = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Report)
    assert isinstance(parsed.choices[0].message.parsed, Report)
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, response_format=Report) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.parsed == parsed.choices[0].message.parsed
    answer = client.responses.parse(model=MODEL, input="Report!", text_format=Report)
    assert answer.output_parsed == parsed.choices[0].message.parsed


def test_json_mode_answers_json(client):
    answer = chat(client, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_chat_is_cut_at_the_maximum(client, name, stream):
    options: Any = {name: 3, "stream": stream}
    if stream:
        *_, finish, last = chat(client, stream_options={"include_usage": True}, **options)
        usage = last.usage
    else:
        finish = chat(client, **options)
        usage = finish.usage
    assert finish.choices[0].finish_reason == "length"
    assert usage.completion_tokens == 3


def test_every_choice_is_counted(client):
    one = chat(client)
    three = chat(client, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    streamed = list(chat(client, n=3, stream=True))
    assert {choice.index for chunk in streamed for choice in chunk.choices} == {0, 1, 2}


def test_responses_answer_with_text_and_usage(client):
    answer = client.responses.create(model=MODEL, input="Where does my money go?", instructions="Be brief.")
    assert answer.output_text
    assert answer.status == "completed"
    assert answer.instructions == "Be brief."
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens == 0
    assert usage.output_tokens_details.reasoning_tokens == 0


def test_responses_stream_the_events_of_the_real_one_in_order(client):
    plain = client.responses.create(model=MODEL, input="Hello")
    events = list(client.responses.create(model=MODEL, input="Hello", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(deltas) == plain.output_text == events[-1].response.output_text
    assert events[0].response.usage is None
    assert events[-1].response.usage == plain.usage


def test_the_responses_stream_helper_works(client):
    with client.responses.stream(model=MODEL, input="Hello") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text
    assert final.usage.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_responses_cut_at_the_maximum_are_incomplete(client, stream):
    options: Any = {"model": MODEL, "input": "Hello", "max_output_tokens": 2}
    if stream:
        last = list(client.responses.create(**options, stream=True))[-1]
        assert last.type == "response.incomplete"
        answer = last.response
    else:
        answer = client.responses.create(**options)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.usage.output_tokens == 2


def test_legacy_completions_answer_each_prompt(client):
    one = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once upon")
    assert one.choices[0].text
    two = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=["Once upon", "Once upon"])
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.usage.prompt_tokens == 2 * one.usage.prompt_tokens
    ids = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=[1, 2, 3])
    assert (len(ids.choices), ids.usage.prompt_tokens) == (1, 3)


def test_legacy_completions_stream_with_usage(client):
    options: Any = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon"}
    plain = client.completions.create(**options)
    *chunks, last = client.completions.create(**options, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == plain.choices[0].text
    assert all(chunk.usage is None for chunk in chunks)
    assert (last.choices, last.usage) == ([], plain.usage)


def test_embeddings_are_deterministic_in_both_encodings(client):
    answer = client.embeddings.create(model="text-embedding-3-small", input=["red", "green", "red"])
    red, green, again = (row.embedding for row in answer.data)
    assert red == again != green
    assert len(red) == 1536
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    floats = client.embeddings.create(
        model="text-embedding-3-small", input="red", encoding_format="float", dimensions=8
    )
    assert len(floats.data[0].embedding) == 8
    tokens = client.embeddings.create(model="text-embedding-3-small", input=[1, 2, 3, 4])
    assert (len(tokens.data), tokens.usage.prompt_tokens) == (1, 4)


def test_azure_addresses_are_understood(provider):
    azure = openai.AzureOpenAI(
        azure_endpoint=f"http://{provider.host}", api_key="k", api_version="2024-10-21", max_retries=0
    )
    with azure:
        answer = azure.chat.completions.create(model="my-deployment", messages=MESSAGES)
        assert azure.embeddings.create(model="other", input="x").usage.prompt_tokens == 1
    assert answer.usage.total_tokens > 0
    assert provider.requests[0].path == "/openai/deployments/my-deployment/chat/completions"


def test_unknown_addresses_and_incomplete_requests_get_the_providers_errors(client, provider):
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a cat")
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body={"model": MODEL}, cast_to=object)
    assert caught.value.param == "messages"
    assert [row.id for row in client.models.list()]


async def test_async_clients_are_served_alike(aclient):
    answer = await aclient.chat.completions.create(model=MODEL, messages=MESSAGES)
    stream = await aclient.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage == answer.usage
    async with aclient.responses.stream(model=MODEL, input="Hello") as helper:
        assert (await helper.get_final_response()).usage.output_tokens > 0
    assert (await aclient.embeddings.create(model="e", input="x")).usage.prompt_tokens == 1
    assert (await aclient.completions.create(model="c", prompt="x")).usage.prompt_tokens == 1


# --- what a test can change ---------------------------------------------------------------------------------


def test_reply_with_sets_the_text_and_times_bounds_it(client, provider):
    usual = chat(client).choices[0].message.content
    provider.reply_with("First.", times=1)
    provider.reply_with("Second, and from then on.")
    texts = [chat(client).choices[0].message.content for _ in range(3)]
    assert texts == ["First.", "Second, and from then on.", "Second, and from then on."]
    provider.reset()
    assert chat(client).choices[0].message.content == usual


def test_usage_sets_what_is_reported_on_every_surface(client, provider):
    provider.usage(prompt_tokens=1000, completion_tokens=500, cached=400, reasoning=64)
    usage = chat(client).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1000, 500, 1500)
    assert usage.prompt_tokens_details.cached_tokens == 400
    assert usage.completion_tokens_details.reasoning_tokens == 64
    assert [*chat(client, stream=True, stream_options={"include_usage": True})][-1].usage == usage
    response = client.responses.create(model=MODEL, input="x").usage
    assert (response.input_tokens, response.output_tokens, response.total_tokens) == (1000, 500, 1500)
    assert response.input_tokens_details.cached_tokens == 400
    assert response.output_tokens_details.reasoning_tokens == 64
    assert client.completions.create(model="c", prompt="x").usage.total_tokens == 1500
    assert client.embeddings.create(model="e", input="x").usage.total_tokens == 1000


def test_zero_usage_is_reported_as_zero_and_the_rest_is_left_alone(client, provider):
    usual = chat(client).usage
    provider.usage(completion_tokens=0, times=1)
    usage = chat(client).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (usual.prompt_tokens, 0)
    assert chat(client).usage == usual


def test_no_usage_reports_nothing_anywhere(client, provider):
    provider.no_usage()
    assert chat(client).usage is None
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert client.responses.create(model=MODEL, input="x").usage is None
    assert client.completions.create(model="c", prompt="x").usage is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, openai.BadRequestError, "invalid_value"),
        (401, openai.AuthenticationError, "invalid_api_key"),
        (404, openai.NotFoundError, "model_not_found"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "server_error"),
        (503, openai.InternalServerError, "service_unavailable"),
    ],
)
def test_fail_raises_the_sdks_own_error(client, provider, status, error, code, stream):
    provider.fail(status, times=1)
    with pytest.raises(error) as caught:
        chat(client, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id.startswith("req_")
    assert chat(client).choices


def test_fail_takes_a_code_and_says_when_to_come_back(client, provider):
    provider.fail(429, code="insufficient_quota", message="You exceeded your quota.", retry_after_ms=7)
    with pytest.raises(openai.RateLimitError, match="You exceeded your quota") as caught:
        chat(client)
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["retry-after-ms"] == "7"
    provider.fail(429, retry_after_ms=None)
    with pytest.raises(openai.RateLimitError) as caught:
        chat(client)
    assert "retry-after-ms" not in caught.value.response.headers


def test_an_sdk_that_retries_gets_through_after_the_counted_failures(client, provider):
    provider.fail(429, times=1)
    provider.fail(500, times=1)
    assert chat(client.with_options(max_retries=2)).choices
    assert len(provider.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_malformed_json_reaches_the_caller_as_a_decoding_error(client, provider, stream):
    provider.malformed_json(times=1)
    with pytest.raises(json.JSONDecodeError):
        list(chat(client, stream=stream))
    assert chat(client).choices


@pytest.mark.parametrize("stream", [False, True])
def test_a_dropped_connection_is_a_connection_error(client, provider, stream):
    provider.drop_connection(times=1)
    with pytest.raises(openai.APIConnectionError):
        chat(client, stream=stream)
    assert len(provider.requests) == 1
    assert chat(client).choices


@pytest.mark.parametrize("after", [0, 1, 3])
def test_drop_mid_stream_breaks_off_after_the_chunks(client, provider, after):
    provider.drop_mid_stream(after_chunks=after, times=1)
    assert len(drain(chat(client, stream=True), openai.APIConnectionError)) == after
    assert len(list(chat(client, stream=True))) > after


def test_drop_mid_stream_breaks_off_responses_too(client, provider):
    provider.drop_mid_stream(after_chunks=5)
    seen = drain(client.responses.create(model=MODEL, input="x", stream=True), openai.APIConnectionError)
    assert [event.type for event in seen[3:]] == ["response.content_part.added", "response.output_text.delta"]


@pytest.mark.parametrize("surface", ["chat", "responses", "completions"])
def test_error_mid_stream_is_an_api_error_after_the_chunks(client, provider, surface):
    provider.error_mid_stream(after_chunks=2, times=1)
    calls = {
        "chat": lambda: chat(client, stream=True),
        "responses": lambda: client.responses.create(model=MODEL, input="x", stream=True),
        "completions": lambda: client.completions.create(model="c", prompt="x", stream=True),
    }
    assert len(drain(calls[surface](), openai.APIError)) == 2


def test_a_break_in_the_middle_of_a_stream_leaves_plain_requests_alone(client, provider):
    provider.drop_mid_stream(after_chunks=0, times=1)
    assert chat(client).choices
    with pytest.raises(openai.APIConnectionError):
        list(chat(client, stream=True))


def test_reject_stream_options_names_the_parameter_and_spares_other_requests(client, provider):
    provider.reject_stream_options(times=1)
    assert list(chat(client, stream=True))
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, stream=True, stream_options={"include_usage": True})
    assert (caught.value.param, caught.value.code) == ("stream_options", "unknown_parameter")
    assert list(chat(client, stream=True, stream_options={"include_usage": True}))


def test_pause_holds_a_stream_after_its_chunks_until_it_is_set(client, provider):
    pause = provider.pause_after(chunks=2)
    stream = iter(chat(client, stream=True))
    first = [next(stream), next(stream)]
    assert pause.reached.wait(PATIENCE)
    rest: list[Any] = []
    reader = threading.Thread(target=lambda: rest.extend(stream))
    reader.start()
    assert rest == []
    pause.set()
    reader.join(PATIENCE)
    assert [*first, *rest][-1].choices[0].finish_reason == "stop"


def test_pause_holds_a_plain_answer_while_the_call_is_in_flight(client, provider):
    pause = provider.pause_after(chunks=0, times=1)
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(chat(client)))
    caller.start()
    assert pause.reached.wait(PATIENCE)
    assert answers == []
    assert len(provider.requests) == 1
    assert chat(client).choices, "others are not held up"
    pause.set()
    caller.join(PATIENCE)
    assert answers[0].choices


def test_reset_lets_paused_answers_go(client, provider):
    pause = provider.pause_after(chunks=1)
    stream = chat(client, stream=True)
    assert pause.reached.wait(PATIENCE)
    provider.reset()
    assert list(stream)[-1].choices[0].finish_reason == "stop"


def test_slow_spaces_the_chunks(client, provider):
    provider.slow(60.0)
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.05))
    with pytest.raises(openai.APITimeoutError):
        list(chat(client.with_options(timeout=0.05), stream=True))
    provider.reset()
    provider.slow(0.001)
    assert list(chat(client, stream=True))[-1].choices[0].finish_reason == "stop"


# --- its life -----------------------------------------------------------------------------------------------


def test_stop_frees_the_port_and_hangs_up_on_kept_alive_and_waiting_clients():
    with threads_started() as started, FakeProvider() as provider:
        port = int(provider.host.rpartition(":")[2])
        client = openai.OpenAI(base_url=provider.base_url, api_key="k", max_retries=0)
        assert chat(client).choices
        provider.slow(3600.0)
        errors: list[Exception] = []

        def wait() -> None:
            try:
                list(chat(client, stream=True))
            except openai.APIConnectionError as error:
                errors.append(error)

        pause = provider.pause_after(chunks=0)
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert pause.reached.wait(PATIENCE)
    waiting.join(PATIENCE)
    assert len(started) >= 3  # the server's, its connection's and the client's
    assert [thread for thread in started if thread.is_alive()] == []
    client.close()
    provider.stop()
    with FakeProvider(port) as again:
        assert again.base_url == provider.base_url


def test_many_clients_are_served_at_once(provider):
    pause = provider.pause_after(chunks=0)
    clients = [openai.OpenAI(base_url=provider.base_url, api_key="k", max_retries=0) for _ in range(8)]
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda client=client: answers.append(chat(client))) for client in clients]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(provider.requests) == 8)
    assert answers == []
    pause.set()
    for thread, client in zip(threads, clients, strict=True):
        thread.join(PATIENCE)
        client.close()
    assert len(answers) == 8


def test_it_answers_clients_that_are_no_sdk(provider):
    request = urllib.request.Request(f"{provider.base_url}/chat/completions", data=b"not json", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request):
        pass
    with caught.value as answer:
        assert json.load(answer)["error"]["param"] == "messages"


# --- the clock and the fixtures -----------------------------------------------------------------------------


def test_the_clock_stands_still_until_it_is_turned():
    clock = Clock(1000.0)
    assert clock() == clock() == 1000.0
    clock.advance(2.5)
    assert clock() == 1002.5
    clock.set(datetime(2027, 2, 1, tzinfo=timezone(timedelta(hours=1))))
    assert clock() == datetime(2027, 1, 31, 23, tzinfo=UTC).timestamp()
    clock.set(datetime(2027, 2, 1))
    assert clock() == datetime(2027, 2, 1, tzinfo=UTC).timestamp()
    assert Clock(datetime(2027, 1, 1, tzinfo=UTC))() == 1798761600.0


def test_the_clock_loses_no_turn_of_any_thread():
    clock = Clock(0)
    threads = [threading.Thread(target=lambda: [clock.advance(1) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == 2000


def test_the_meter_fixture_prices_refuses_and_follows_the_clock(
    token_limit_meter, token_limit_clock, fake_provider, client
):
    meter = token_limit_meter
    meter.set_limit("acme", "0.01")
    fake_provider.usage(prompt_tokens=100_000, completion_tokens=0)
    with meter.for_tenant("acme"):
        chat(client)
        meter.flush()
        (status,) = meter.usage("acme")
        assert status.spent_usd == Decimal("0.015")
        with pytest.raises(LimitExceededException):
            chat(client)
        assert len(fake_provider.requests) == 1
        token_limit_clock.advance(31 * 86400)
        chat(client)
    assert len(fake_provider.requests) == 2


def test_the_meter_fixture_leaves_nothing_patched(client):
    assert patches.state("openai") == "off"
    assert chat(client).choices


def test_the_plugin_imports_no_provider_sdk():
    code = (
        "import sys, token_limit_core.pytest_plugin;"
        "sys.exit(bool({'openai', 'anthropic', 'google.genai', 'http.server'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
