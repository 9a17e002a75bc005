"""Google's SDK, `google.genai`: its two funnels, billable and free paths, and providers.

Models, chats, batches and files send everything through `BaseApiClient.request` and its three siblings; interactions
have a generated client of their own, imported at their first use. Tested on
1.50 to 3.6.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from .. import bodies
from .. import scope as scopes
from ..calls.estimates import measure
from ..calls.failures import was_stopped_unsent
from ..calls.flight import Flight
from ..calls.flow import depart
from ..calls.request import Outcome, Request
from ..errors import UnguardedCall
from ..hosts import is_known, provider_of
from ..runtime.faults import report
from .base import Arguments, BasePatch
from .costs import cost_in_headers
from .gemini import ChunkReader, Row, document_of, max_output_of, model_name, read_content, read_prediction, row_of
from .google_batches import BATCHES, is_about_batch, read_batch, refine
from .in_flight import acounting_attempts, counting_attempts, noting_reconnections, within
from .interactions import read_response
from .scoped import keep_scope
from .streams import follow_async, follow_async_chunks, follow_chunks, follow_sync
from .surfaces import mask, unguarded
from .whole import read_whole

BOUND = "maxOutputTokens"
NAMED = frozenset({"http_method", "path", "request_dict", "http_options"})
CONTENT, EMBEDDINGS, IMAGES, INTERACTIONS = "generate_content", "embed_content", "generate_images", "interactions"

VERBS = {
    "generateContent": CONTENT,
    "streamGenerateContent": CONTENT,
    "embedContent": EMBEDDINGS,
    "batchEmbedContents": EMBEDDINGS,
    "predict": IMAGES,
}
"""The method after the colon of a path, and the endpoint on its events."""

FREE = re.compile(
    r":(countTokens|computeTokens|cancel|fetchPredictOperation|register)$"
    r"|(^|/)(files|fileSearchStores|auth_tokens|webhooks|credentials|agents|interactions/[^/]+/cancel)$"
)
"""POSTs that cost nothing."""

ASKED_FOR = re.compile(r"/interactions/[^/]+$")
"""GETs that may report the usage of background work."""


class GooglePatch(BasePatch):
    """Meters content, embeddings, images and interactions, on the Gemini API and on Vertex."""

    name = "google"
    module: ClassVar[str] = "google.genai"
    guards: ClassVar[tuple[str, ...]] = (CONTENT, EMBEDDINGS, IMAGES, INTERACTIONS, BATCHES)
    websockets: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("google.genai.live", "Live", "live"),
        ("google.genai.live_music", "LiveMusic", "live.music"),
        ("google.genai._gaos.google_genai", "GeminiNextGenInteractions", "interactions"),
    )
    not_guarded: ClassVar[tuple[str, ...]] = ("tunings", "videos", "caches.create", "file_search_stores")

    def _install(self) -> None:
        from google.genai import _api_client, chats, models

        classes = vars(_api_client)
        client = classes.get("BaseApiClient") or classes["ApiClient"]
        self._wrap(client, "request", lambda call: self._guard(call, self._recognise, _read))
        self._wrap(client, "async_request", lambda call: self._aguard(call, self._recognise, _read))
        self._wrap(client, "request_streamed", self._guard_generator)
        self._wrap(client, "async_request_streamed", lambda call: self._aguard(call, self._recognise, _follow))
        for attr, counting in (
            ("_request_once", counting_attempts),
            ("_async_request_once", acounting_attempts),
            ("_get_aiohttp_session", noting_reconnections),
        ):
            if hasattr(client, attr):
                self._wrap(client, attr, counting)
        self._wrap(models.Models, "generate_content_stream", functools.partial(keep_scope, self))
        self._wrap(chats.Chat, "send_message_stream", functools.partial(keep_scope, self))
        self._wrap(models.AsyncModels, "generate_content_stream", self._akeep_scope)
        self._wrap(chats.AsyncChat, "send_message_stream", self._akeep_scope)
        self._when_imported("google.genai._gaos.basesdk", self._install_generated)
        self._watch_websockets()

    def _install_generated(self, module: Any) -> None:
        self._wrap(
            module.BaseSDK,
            "do_request",
            lambda call: self._guard(call, self._recognise_sent, functools.partial(read_response, follow_sync)),
        )
        self._wrap(
            getattr(module, "AsyncBaseSDK", module.BaseSDK),
            "do_request_async",
            lambda call: self._aguard(call, self._recognise_sent, functools.partial(read_response, follow_async)),
        )

    def _wrap(self, cls: Any, attr: str, guard: Callable[[Any], Any]) -> None:
        self._swap(cls, attr, guard(getattr(cls, attr)))

    def _guard_generator(self, original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Wrap a generator function. The call is admitted and sent when the first chunk is read."""

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Iterator[Any]:
            request = self._recognise(args, kwargs) if self.active else None
            flight = None if request is None else depart(self.engine(), request)
            if request is not None and request.clamped is not None:
                args, kwargs = self._clamp(request, args, kwargs)
            chunks = original(*args, **kwargs)
            if flight is None:
                yield from chunks
            else:
                yield from follow_chunks(within(chunks, (args[0], flight)), flight, ChunkReader())

        return wrapper

    def _akeep_scope(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Do what `_keep_scope` does for an asynchronous stream."""

        @functools.wraps(original)
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            stream, scope = await original(*args, **kwargs), scopes.current()
            return stream if scope is None or not self.active else bodies.astream(stream, scope)

        return wrapper

    def _recognise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
        """Return the request of a billable call of `BaseApiClient`; None after our own fault.

        Raises `UnguardedCall` for a path that is not classified, if `on_unguarded` is to refuse it.
        """
        try:
            client, method, path, body, options = _arguments(*args, **kwargs)
            path, _, query = path.partition("?")
            url = _option(options, "base_url") or _option(client._http_options, "base_url")
            if is_about_batch(method, path):
                request = self._request_to(str(url), "", BATCHES, False, _merged(body, _option(options, "extra_body")))
                refine(request, method, path)
                return request
            if method.lower() != "post":
                return None
            model, colon, verb = path.rpartition(":")
            if verb not in VERBS:
                self._judge(f"POST *:{verb}" if colon else f"POST {mask(path)}", path)
                return None
            sent = _merged(body, _option(options, "extra_body"))
            request = self._request_to(str(url), model, VERBS[verb], verb.startswith("stream"), sent)
            request.bounds = (BOUND,) if request.endpoint == CONTENT else ()
            return request
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
            return None

    def _clamp(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        client, method, path, body, options = _arguments(*args, **kwargs)
        config = {**row_of(body.get("generationConfig")), BOUND: request.clamped}
        return (client, method, path, {**body, "generationConfig": config}, options, *args[5:]), {
            name: value for name, value in kwargs.items() if name not in NAMED
        }

    def _recognise_sent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request | None:
        """Do what `_recognise` does for a call of the generated client, from its HTTP request."""
        try:
            request = kwargs["request"] if "request" in kwargs else args[2]
            path = request.url.path.rstrip("/")
            if request.method == "GET" and ASKED_FOR.search(path):
                streams = "text/event-stream" in request.headers.get("accept", "")
                asked = self._request_to(str(request.url), "", INTERACTIONS, streams, {})
                asked.later = True
                return asked

            if request.method != "POST":
                return None
            if not path.endswith("/interactions"):
                self._judge(f"POST {mask(path)}", path)
                return None
            body = document_of(request.content)
            model = body.get("model") or body.get("agent")
            return self._request_to(str(request.url), str(model), INTERACTIONS, body.get("stream") is True, body)
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
            return None

    def _judge(self, what: str, path: str) -> None:
        if not FREE.search(path):
            unguarded(self.engine(), f"{what} of the google SDK")

    def _request_to(self, url: str, model: str, endpoint: str, stream: bool, body: Row) -> Request:
        host, port, path = _place(url)
        request = _request(provider_of(host, port, self.engine().config.hosts, path), model, endpoint, stream, body)
        request.gateway, request.host = not is_known(host), host
        return request


def _arguments(
    client: Any, http_method: str, path: str, request_dict: Row, http_options: Any = None, *rest: Any, **more: Any
) -> tuple[Any, str, str, Row, Any]:
    """Return the arguments of `BaseApiClient.request` by name. Its signature is the same since 1.0."""
    return client, http_method, path, request_dict, http_options


def _option(options: Any, name: str) -> Any:
    """Return one of the HTTP options, which are a model, a dict or None."""
    return options.get(name) if isinstance(options, Mapping) else getattr(options, name, None)


def _merged(body: Row, extra: Any) -> Row:
    """Return the body that will be sent, without keys of the SDK. `extra_body` overrides it, level by level."""
    sent = {name: value for name, value in body.items() if not name.startswith("_")}
    for name, value in extra.items() if isinstance(extra, Mapping) else ():
        ours = sent.get(name)
        sent[name] = _merged(ours, value) if isinstance(ours, Mapping) and isinstance(value, Mapping) else value
    return sent


@functools.lru_cache(maxsize=256)
def _place(url: str) -> tuple[str, int | None, str]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port, parts.path


def _request(provider: str, model: str, endpoint: str, stream: bool, body: Row) -> Request:
    if endpoint == IMAGES and any("content" in instance for instance in body.get("instances", ())):
        endpoint = EMBEDDINGS
    tier = body.get("serviceTier", body.get("service_tier"))
    bound = 0 if endpoint in (EMBEDDINGS, IMAGES) else max_output_of(body)
    size, unseen = measure(body)
    request = Request(provider, model_name(model) or "", endpoint, stream, size, bound, unseen=unseen, body=body)
    if isinstance(tier, str):
        request.service_tier = tier.lower()
    return request


def _read(
    flight: Flight, response: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException | None
) -> Outcome:
    """Read a complete answer, or an error."""
    if error is not None:
        return Outcome(error=error, answered=False, unsent=was_stopped_unsent(error))
    try:
        answer = document_of(response)
        if flight.request.gateway:
            flight.cost_usd = cost_in_headers(getattr(response, "headers", None) or {})
        if flight.request.endpoint == BATCHES:
            return read_whole(answer, functools.partial(read_batch, flight.request))
        predicts = flight.request.endpoint == IMAGES or "predictions" in answer
        return read_whole(answer, read_prediction if predicts else read_content)
    except Exception:
        report("reading an answer")
        return Outcome()


def _follow(
    flight: Flight, stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException | None
) -> Any:
    """Follow an open stream."""
    if error is not None:
        return Outcome(error=error, answered=False, unsent=was_stopped_unsent(error))
    flight.engine.settler.start()
    return follow_async_chunks(stream, flight, ChunkReader())
