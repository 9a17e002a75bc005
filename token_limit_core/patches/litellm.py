"""LiteLLM: what it sends itself, to Anthropic, Gemini, Bedrock and many that speak OpenAI's protocol.

It sends through `HTTPHandler.post` and `AsyncHTTPHandler.post`, or through OpenAI's SDK, where such calls are metered;
so each request is metered in one place. What an application calls lets a refusal pass LiteLLM's retries, fallbacks and
routers, all of which catch every `Exception`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote, urlsplit

from ..calls.flight import Flight
from ..errors import UnguardedCall
from ..hosts import TAKES_STREAM_OPTIONS, UNKNOWN, provider_of
from ..runtime.faults import report
from . import billed_units, google, messages, openai
from .bedrock import CONVERSE, INVOKE, price_name
from .bedrock import max_output_of as bedrock_bound
from .chat import ChoicesReader, read_answer
from .converse import ConverseReader, InvokeReader, read_converse, read_invoked
from .frames import FrameReader, FrameTee
from .gemini import ChunkReader, read_content, read_prediction
from .http_funnel import HttpPatch
from .lines import LinesTee
from .litellm_entries import Entries
from .reading import fields_of, text
from .streams import Follow, Reader, Tee, follow_async, follow_sync
from .surfaces import Plan, Surface, unguarded
from .tees import EventTee

MESSAGES = "messages"
BOUNDS = ("max_tokens", "max_completion_tokens")


def _converse(request_id: str | None, injected: bool) -> Reader:
    return ConverseReader(request_id)


def _invoke(request_id: str | None, injected: bool) -> Reader:
    return InvokeReader(request_id)


def _chunks(request_id: str | None, injected: bool) -> Reader:
    return ChunkReader()


SURFACES = (
    Surface("/model/{}/converse(-stream)?", CONVERSE, (), read_converse, _converse, refined=True),
    Surface("/model/{}/invoke(-with-response-stream)?", INVOKE, (), read_invoked, _invoke, refined=True),
    Surface(":(g|streamG)enerateContent", google.CONTENT, (), read_content, _chunks, refined=True),
    Surface(":(embedContent|batchEmbedContents)", google.EMBEDDINGS, None, read_content, _chunks, refined=True),
    Surface(":predict", google.IMAGES, None, read_prediction, _chunks, refined=True),
    Surface(":(r|streamR)awPredict", MESSAGES, BOUNDS, messages.read, messages.MessageReader, refined=True),
    Surface("/messages", MESSAGES, BOUNDS, messages.read, messages.MessageReader, refined=True),
    Surface("/v[12]/chat", "chat", BOUNDS, billed_units.read, billed_units.UnitsReader),
    Surface("/v[12]/embed", "embed", None, billed_units.read, billed_units.UnitsReader),
    Surface("/v[12]/rerank", "rerank", None, billed_units.read, billed_units.UnitsReader),
    *openai.SURFACES,
)

FREE = re.compile(
    openai.FREE.pattern + r"|/messages/(count_tokens|batches(/[^/]+/cancel)?)$|:(countTokens|computeTokens)$"
    r"|/v1/(tokenize|detokenize)$"
)

GENERATES = re.compile(
    r"a?(text_)?completion|a?embedding|a?responses|a?image_(generation|edit|variation)|a?transcription|a?speech|a?rerank"
    r"|a?anthropic_messages|a?generate_content(_stream)?|a?ocr"
)
"""The kinds of calls (`call_type`) whose requests cost money, wherever they go."""

COSTS = re.compile(r"a?(search|video_\w+|create_(batch|video|fine_tuning_job|interaction)|run_(thread|code)\w*|query)")
"""Those that cost money and tell nothing of it."""

PROVIDERS = {
    "azure_ai": "azure",
    "bedrock": "aws",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "dashscope": "alibaba",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "ollama_chat": "ollama",
    "sagemaker": "aws",
    "sagemaker_chat": "aws",
    "text-completion-codestral": "mistral",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
"""LiteLLM's names of providers, where ours differ. They count on hosts that are not known."""

ANY_SERVER = frozenset(
    {"openai", "custom_openai", "openai_like", "text-completion-openai", "hosted_vllm", "litellm_proxy", "custom"}
)
"""Names that stand for whatever speaks OpenAI's protocol."""

ID_HEADERS = {"aws": "x-amzn-requestid", "azure": "apim-request-id"}
MODEL_IN_PATH = re.compile(r"/models?/(.+?)(/(converse|invoke)[\w-]*|:\w+)$")


class Sent(NamedTuple):
    """What LiteLLM is about to send; `told` is its logging object, which knows the provider and the kind of call."""

    url: str
    body: Mapping[str, Any]
    stream: bool
    files: Any
    told: Any


class LiteLLMPatch(Entries, HttpPatch):
    """Guards LiteLLM's own HTTP, and lets refusals out of its functions and routers."""

    name = "litellm"
    module = "litellm"
    also = ("openai",)
    guards = (
        "completion", "text_completion", "embedding", "responses", "image_generation", "transcription", "speech",
        "rerank", "anthropic_messages", "generate_content", "Router",
    )  # fmt: skip
    not_guarded = ("video_generation", "create_batch", "create_fine_tuning_job", "search", "realtime", "replicate")
    surfaces = SURFACES
    free: ClassVar[re.Pattern[str]] = FREE

    def _install(self) -> None:
        from litellm.llms.custom_httpx import http_handler

        handler, ahandler = http_handler.HTTPHandler, http_handler.AsyncHTTPHandler
        self._swap(handler, "post", self._guard(handler.post, self._recognise, self.arrival(follow_sync)))
        self._swap(ahandler, "post", self._aguard(ahandler.post, self._recognise, self.arrival(follow_async)))
        self._install_entries()

    def _recognise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan of a request that costs money; those of LiteLLM's logging and sign-in pass unseen.

        A stream is made to tell its usage, in the arguments themselves: they are a copy.
        """
        try:
            sent = _sent(*args, **kwargs)
            parts = urlsplit(sent.url)
            surface = self._surface(parts.path, sent.told)
            if surface is None:
                return None
            engine = self.engine()
            provider = provider_of(parts.hostname or "", parts.port, engine.config.hosts, parts.path)
            if provider == UNKNOWN:
                provider = _provider_told(sent.told)
            options = SimpleNamespace(json_data=sent.body, files=sent.files)
            plan = Plan(engine, surface, options, provider, sent.stream)
            _refine(plan, parts.path, sent.told)
            plan.injected = _ask_for_usage(plan, kwargs)
            return plan
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
            return None

    def _surface(self, path: str, told: Any) -> Surface | None:
        """Return what a POST is, by its path, else by the kind of call that LiteLLM makes it for.

        Raises `UnguardedCall` for one that costs money and tells nothing of it, if the policy is to refuse those.
        """
        found, kind = self._kinds[path], str(getattr(told, "call_type", ""))
        if isinstance(found, Surface):
            return found
        if found is None and GENERATES.fullmatch(kind):
            return Surface(path, kind.removeprefix("a"), BOUNDS, read_answer, ChoicesReader)
        if COSTS.fullmatch(kind) or path.endswith("/predictions"):  # Replicate's, which are fetched later
            unguarded(self.engine(), f"{kind.removeprefix('a') or 'a prediction'} of the litellm SDK")
        return None

    def tee(self, plan: Plan, response: Any) -> Tee:
        if not plan.stream or not plan.kept:
            return super().tee(plan, response)
        reader = plan.reader(self.request_id(plan, response), plan.injected)
        if isinstance(reader, FrameReader):
            return FrameTee(reader)
        if "json" in response.headers.get("content-type", ""):
            return LinesTee(reader)
        return EventTee(reader, hiding=plan.injected)

    def request_id(self, plan: Plan, response: Any) -> str | None:
        header = "request-id" if plan.endpoint == MESSAGES else ID_HEADERS.get(plan.provider, "x-request-id")
        found: str | None = response.headers.get(header)
        return found

    def _arrive(
        self,
        follow: Follow,
        flight: Flight,
        response: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        error: BaseException | None,
    ) -> Any:
        plan = flight.request
        assert isinstance(plan, Plan)
        if plan.endpoint == INVOKE and response is not None:
            plan.read = functools.partial(read_invoked, headers=response.headers)
        if type(error).__name__ == "Timeout" and error is not None:
            error = error.__context__ or error  # LiteLLM gives its own a status, which the provider never sent
        return super()._arrive(follow, flight, response, args, kwargs, error)


def _sent(
    handler: Any,
    url: str,
    data: Any = None,
    json: Any = None,
    *rest: Any,
    content: Any = None,
    stream: bool = False,
    files: Any = None,
    logging_obj: Any = None,
    **more: Any,
) -> Sent:
    """Name the arguments of `post`, whose order after these differs between the two handlers."""
    body = next((given for given in (json, data, content) if given is not None), None)
    if isinstance(body, (str, bytes)):
        body = _document(body)
    body = body if isinstance(body, Mapping) else {}
    return Sent(str(url), body, bool(stream), files, logging_obj)


def _document(body: str | bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _provider_told(told: Any) -> str:
    """Name the provider of a host that is not known, by what LiteLLM calls it."""
    named = getattr(told, "model_call_details", {}).get("custom_llm_provider")
    if not isinstance(named, str) or named in ANY_SERVER:
        return UNKNOWN
    return PROVIDERS.get(named, named)


def _refine(plan: Plan, path: str, told: Any) -> None:
    """Put into a plan what its path tells, and its protocol."""
    in_path = MODEL_IN_PATH.search(path)
    if in_path is not None:
        plan.model = unquote(in_path[1])
    elif not plan.model:
        plan.model = str(getattr(told, "model", ""))
    if plan.endpoint in (CONVERSE, INVOKE):
        plan.max_output = bedrock_bound(plan.body)
        plan.service_tier = text(fields_of(plan.body.get("serviceTier")).get("type"))
    elif plan.endpoint == google.CONTENT:
        plan.max_output = google.max_output_of(plan.body)
    elif plan.endpoint == MESSAGES:
        plan.service_tier = "fast" if plan.body.get("speed") == "fast" else None  # the answer tells the others
        if "anthropic_version" not in plan.body and path.endswith("awPredict"):
            plan.endpoint, plan.read, plan.reader = "chat.completions", read_answer, ChoicesReader
    else:
        openai.refine(plan)
    if plan.provider == "aws":
        plan.priced_as = price_name(plan.model)


def _ask_for_usage(plan: Plan, arguments: dict[str, Any]) -> bool:
    """Add `stream_options` to the body of a stream of OpenAI's protocol, where the provider is known to take it."""
    if not plan.stream or plan.endpoint not in openai.ASKED or plan.provider not in TAKES_STREAM_OPTIONS:
        return False
    wanted = openai.stream_options(plan.body)
    name = next((name for name in ("json", "data") if arguments.get(name) is not None), None)
    if wanted is None or name is None:
        return False
    body = {**plan.body, "stream_options": wanted}
    arguments[name] = body if isinstance(arguments[name], Mapping) else json.dumps(body)
    return True
