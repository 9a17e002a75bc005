"""Every recorded exchange of OpenAI's protocol, answered to the real SDK: one event each, with what was reported."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import openai
import pytest

from tests.contract import corpus
from tests.contract.corpus import Exchange, differences, exchanges, needs_corpus, release_work, replay
from tests.contract.sdk.metered import TENANT, Metered
from tests.waiting import PATIENCE
from token_limit_core import LLMEvent
from token_limit_core.patches.openai import LATER, SURFACES
from token_limit_core.patches.surfaces import pattern_of

pytestmark = [
    needs_corpus,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
]

FAMILIES = ("openai", "responses")

NOT_REPLAYED = {
    "/endpoints/*/invocations": "SageMaker's invocations are called with boto3",
    "/v1/chat": "Writer's own path, which is called with its own SDK",
}
"""Paths of the corpus that the OpenAI SDK does not send, and why."""

HOSTS = {
    "localhost:3000": "openai",
    "localhost:5002": "openai",
    "localhost:8000": "openai",
    "localhost:8787": "openai",
    "localhost:11434": "ollama",
}
"""What the application would say of its own gateways."""

OWN_SDKS = {"api.groq.com": ("groq", "Groq"), "api.together.ai": ("together", "Together")}


def replayed(exchange: Exchange) -> bool:
    return exchange["family"] in FAMILIES and exchange["endpoint"] not in NOT_REPLAYED


@pytest.fixture(scope="module")
def recorded() -> list[Exchange]:
    return list(exchanges(replayed))


@pytest.fixture
def metered() -> Iterator[Metered]:
    metered = Metered(hosts=HOSTS)
    metered.meter.patch_all()
    yield metered
    metered.meter.close()


def ending(exchange: Exchange) -> str:
    """Give the part of a path that the SDK adds to its base URL."""
    path = urlsplit(exchange["url"]).path
    surfaces = SURFACES if exchange["method"] == "POST" else LATER
    found = [match[0] for surface in surfaces if (match := pattern_of(surface).search(path))]
    return max([*found, *(["/responses/input_tokens"] if path.endswith("/responses/input_tokens") else [])], key=len)


def client_for(exchange: Exchange, own: bool) -> Any:
    """Make the client whose requests go where the recorded one went, and are answered with what was recorded."""
    parts = urlsplit(exchange["url"])
    options: dict[str, Any] = {"api_key": "sk-secret", "max_retries": 0}
    if own and parts.hostname in OWN_SDKS:
        module, name = OWN_SDKS[parts.hostname]
        sdk = importlib.import_module(module)
        lib = "httpx" if module == "groq" else sdk_lib(sdk)
        http_client = importlib.import_module(lib).Client(transport=replay().transport(exchange, lib=lib))
        return getattr(sdk, name)(http_client=http_client, **options)
    base = exchange["url"].partition("?")[0].removesuffix(ending(exchange))
    lib = sdk_lib(openai)
    transport = replay().transport(exchange, lib=lib)
    http_client = openai.DefaultHttpxClient(transport=transport)
    query = dict(parse_qsl(parts.query)) if exchange["method"] == "POST" else {}
    return openai.OpenAI(base_url=base, http_client=http_client, default_query=query, **options)


def sdk_lib(sdk: Any) -> str:
    """Name the HTTP library that an SDK speaks."""
    return "httpx2" if hasattr(importlib.import_module(f"{sdk.__name__}._base_client"), "httpx2") else "httpx"


def call(client: Any, exchange: Exchange) -> None:
    """Make the call as an application would: the method of its path, what that does not know in `extra_body`."""
    path = ending(exchange)
    body = exchange["request"] or {}
    if exchange["method"] == "GET":
        retrieve(client, exchange)
        return
    method = method_of(client, path, body)
    if method is None:
        client.post(path, body=body, cast_to=object)
        return
    known = inspect.signature(method).parameters
    arguments = {name: value for name, value in body.items() if name in known}
    rest = {name: value for name, value in body.items() if name not in known}
    answer = method(**arguments, **({"extra_body": rest} if rest else {}))
    if body.get("stream"):
        for _ in answer:
            pass


def method_of(client: Any, path: str, body: dict[str, Any]) -> Callable[..., Any] | None:
    """Find the method of a path; None for a body that it would not take, or where an older release has none."""
    if "_multipart" in body:
        given = {**body["_multipart"], "file": ("audio.wav", b"RIFF")}
        return lambda **_: client.audio.transcriptions.create(**given)
    thread, _, rest = path.removeprefix("/threads/").partition("/")
    if path.startswith("/threads/"):
        if rest != "runs":
            return None
        create = client.beta.threads.runs.create
        return with_signature(create, lambda **arguments: create(thread, **arguments))
    methods: dict[str, Callable[[], Callable[..., Any] | None]] = {
        "/chat/completions": lambda: client.chat.completions.create,
        "/completions": lambda: client.completions.create if "prompt" in body else None,
        "/embeddings": lambda: client.embeddings.create,
        "/responses": lambda: client.responses.create,
        "/responses/compact": lambda: getattr(client.responses, "compact", None),
        "/responses/input_tokens": lambda: getattr(getattr(client.responses, "input_tokens", None), "count", None),
        "/images/generations": lambda: client.images.generate,
        "/audio/speech": lambda: client.audio.speech.create,
    }
    return methods[path]()


def with_signature(of: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    function.__signature__ = inspect.signature(of)  # type: ignore[attr-defined]
    return function


def retrieve(client: Any, exchange: Exchange) -> None:
    parts = urlsplit(exchange["url"])
    ids = ending(exchange).split("/")
    query = dict(parse_qsl(parts.query))
    if "/runs/" in parts.path:
        client.beta.threads.runs.retrieve(ids[4], thread_id=ids[2])
    elif query.get("stream") == "true":
        for _ in client.responses.retrieve(ids[2], stream=True, starting_after=int(query["starting_after"])):
            pass
    else:
        client.responses.retrieve(ids[2])


def billed(exchange: Exchange) -> bool:
    """Tell whether an exchange is to leave an event: counting tokens is free, and unfinished work costs nothing yet."""
    if exchange["expected"].get("count_only"):
        return False
    return exchange["method"] == "POST" or bool(exchange["expected"]["has_usage"])


def problems(metered: Metered, exchange: Exchange, own: bool) -> list[str]:
    """Replay an exchange and say what is not as the provider reported it."""
    metered.events.clear()
    client = client_for(exchange, own)
    failed: BaseException | None = None
    with metered.meter.for_tenant(TENANT):
        try:
            call(client, exchange)
        except Exception as error:
            failed = error
    assert metered.meter.flush(PATIENCE)
    found: list[str] = []
    if failed is not None and exchange["status"] < 400 and not in_stream(failed):
        found.append(f"the SDK raised {failed!r:.300}")
    release_work(metered.meter, exchange)
    if metered.meter.store.holds():
        found.append("a hold is left")
    wanted = int(billed(exchange))
    if len(metered.events) != wanted:
        return [*found, f"{len(metered.events)} events for {wanted}"]
    for event in metered.events:
        found += [f"{name}: {pair}" for name, pair in differences(event, exchange).items()]
        found += about(event, exchange)
    return found


def in_stream(error: BaseException) -> bool:
    """Tell an error that a stream of status 200 carried."""
    return type(error).__name__ == "APIError"


def about(event: LLMEvent, exchange: Exchange) -> Iterator[str]:
    told = exchange["expected"]
    if event.provider == "unknown":
        yield f"the provider of {exchange['url']} is not known"
    if exchange["status"] >= 400 and (event.error is None or event.cost_usd != 0):
        yield f"an error has {event.error=} {event.cost_usd=}"
    if exchange["status"] < 400 and told["has_usage"] and event.tags.get("estimated"):
        yield "the usage is an estimate"
    cost = told.get("told_cost_usd")
    if cost is not None and (event.cost_usd is None or abs(float(event.cost_usd) - cost) > cost / 1000):
        yield f"the cost is {event.cost_usd}, and {cost} was reported"


@pytest.mark.parametrize("own", [False, True], ids=["openai", "own sdks"])
def test_every_recorded_exchange(
    recorded: list[Exchange], own: bool, metered: Metered, record_property: Callable[[str, object], None]
) -> None:
    for module, _ in OWN_SDKS.values() if own else ():
        pytest.importorskip(module, reason=f"{module} is not installed")
    tally = corpus.Tally()
    for exchange in recorded:
        if own and urlsplit(exchange["url"]).hostname not in OWN_SDKS:
            continue
        tally.outcomes[exchange["provider"]] += 1
        found = problems(metered, exchange, own)
        for event in metered.events:
            tally.note_price(event)
        if found:
            tally.wrong[f"{exchange['provider']} {exchange['endpoint']} {exchange['id']}"] = found
    tally.finish("OpenAI and what speaks its protocol", record_property)
