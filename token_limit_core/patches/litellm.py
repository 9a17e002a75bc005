"""LiteLLM: requests that it sends by itself, to Anthropic, Gemini, Bedrock and hosts with OpenAI's protocol.

It sends through `HTTPHandler.post` and `AsyncHTTPHandler.post`, or through OpenAI's SDK, where such calls are metered;
so each request is metered in one place. What an application calls lets a refusal pass LiteLLM's retries, fallbacks and
routers, all of which catch every `Exception`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import UnguardedCall
from ..runtime.faults import report
from . import gemini, google, openai
from .bedrock import CONVERSE, INVOKE, price_name
from .bedrock import max_output_of as bedrock_bound
from .byte_streams import Tee
from .chat import ChoicesReader, read_answer
from .converse import read_invoked
from .frames import FrameReader, FrameTee
from .http_funnel import HttpPatch
from .lines import LinesTee
from .litellm_entries import Entries
from .litellm_surfaces import BOUNDS, COSTS, FREE, GENERATES, MESSAGES, SURFACES, provider_named
from .reading import fields_of, text
from .stainless import MAX_REFUSALS
from .streams import follow_async, follow_sync
from .surfaces import Plan, Surface, unguarded
from .tees import EventTee

ID_HEADERS = {"aws": "x-amzn-requestid", "azure": "apim-request-id"}
MODEL_IN_PATH = re.compile(r"/models?/(.+?)(/(converse|invoke)[\w-]*|:\w+)$")


class Sent(NamedTuple):
    """A request of LiteLLM. `logging` is an object of its own that has the provider and the kind of call."""

    url: str
    body: Mapping[str, Any]
    stream: bool
    files: Any
    logging: Any


class Plain(NamedTuple):
    """The arguments of a request before we added the question for usage."""

    arguments: dict[str, Any]
    model: str
    gateway: bool


PLAIN = "_token_limit_plain"
"""The keyword that passes it from `_asking` to the funnel."""


class LiteLLMPatch(Entries, HttpPatch):
    """Hooks LiteLLM's own HTTP, and lets refusals pass its functions and routers unchanged."""

    name = "litellm"
    module: ClassVar[str] = "litellm"
    also: ClassVar[tuple[str, ...]] = ("openai",)
    guards: ClassVar[tuple[str, ...]] = (
        "completion", "text_completion", "embedding", "responses", "image_generation", "transcription", "speech",
        "rerank", "anthropic_messages", "generate_content", "Router",
    )  # fmt: skip
    not_guarded: ClassVar[tuple[str, ...]] = (
        "video_generation",
        "create_batch",
        "create_fine_tuning_job",
        "search",
        "realtime",
        "replicate",
    )
    surfaces: ClassVar[tuple[Surface, ...]] = SURFACES
    free: ClassVar[re.Pattern[str]] = FREE

    def __init__(self) -> None:
        super().__init__()
        self._refusing: set[tuple[str | None, str]] = set()

    def _install(self) -> None:
        from litellm.llms.custom_httpx import http_handler

        handler, ahandler = http_handler.HTTPHandler, http_handler.AsyncHTTPHandler
        for cls, asking, guard, follow in (
            (handler, self._asking, self._guard, follow_sync),
            (ahandler, self._aasking, self._aguard, follow_async),
        ):
            self._swap(cls, "post", guard(asking(cls.post), self._recognise, self.arrival(follow)))
        self._install_entries()

    def _recognise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan of a request that costs money; None for requests of LiteLLM's logging and sign-in.

        A stream is made to report its usage, in the arguments themselves: they are a copy.
        """
        try:
            sent = _sent(*args, **kwargs)
            parts = urlsplit(sent.url)
            surface = self._surface(parts.path, sent.logging)
            if surface is None:
                return None
            options = SimpleNamespace(json_data=sent.body, files=sent.files)
            plan = self.make_plan(surface, parts, options, sent.stream, provider_named(sent.logging, surface.endpoint))
            _refine(plan, parts.path, sent.logging)
            if (parts.hostname, plan.model) not in self._refusing:
                _ask_for_usage(plan, kwargs)
            return plan
        except UnguardedCall:
            raise
        except Exception:
            report("recognising a call")
            return None

    def _asking(self, post: Callable[..., Any]) -> Callable[..., Any]:
        """Retry a request without the question for usage, after a provider has refused that."""

        @functools.wraps(post)
        def asking(handler: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            plain: Plain | None = kwargs.pop(PLAIN, None)
            try:
                return post(handler, url, *args, **kwargs)
            except Exception as error:
                if plain is None or not _refuses(error, plain):
                    raise
            response = post(handler, url, *args, **{**kwargs, **plain.arguments})
            self._remember(url, plain)
            return response

        return asking

    def _aasking(self, post: Callable[..., Any]) -> Callable[..., Any]:
        """Do what `_asking` does for the asynchronous handler."""

        @functools.wraps(post)
        async def asking(handler: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            plain: Plain | None = kwargs.pop(PLAIN, None)
            try:
                return await post(handler, url, *args, **kwargs)
            except Exception as error:
                if plain is None or not _refuses(error, plain):
                    raise
            response = await post(handler, url, *args, **{**kwargs, **plain.arguments})
            self._remember(url, plain)
            return response

        return asking

    def _remember(self, url: str, plain: Plain) -> None:
        if len(self._refusing) >= MAX_REFUSALS:
            self._refusing.clear()
        self._refusing.add((urlsplit(url).hostname, plain.model))

    def _surface(self, path: str, logging: Any) -> Surface | None:
        """Classify a POST by its path, else by LiteLLM's kind of call.

        Raises `UnguardedCall` for one that costs money and reports no usage, if the policy is to refuse those.
        """
        found, kind = self._kinds[path], str(getattr(logging, "call_type", ""))
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

    def received(self, plan: Plan, response: Any, error: BaseException | None) -> BaseException | None:
        if plan.endpoint == INVOKE and response is not None:
            plan.read = functools.partial(read_invoked, headers=response.headers)
        if type(error).__name__ == "Timeout" and error is not None:
            return error.__context__ or error  # LiteLLM gives its own a status, which the provider never sent
        return error


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
    """Return arguments of `post` by name. The order of the others differs between the two handlers."""
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


def _refine(plan: Plan, path: str, logging: Any) -> None:
    """Complete a plan by the path of its request, and by its protocol."""
    in_path = MODEL_IN_PATH.search(path)
    if in_path is not None:
        plan.model = unquote(in_path[1])
    elif not plan.model:
        plan.model = str(getattr(logging, "model", ""))
    if plan.endpoint in (CONVERSE, INVOKE):
        plan.max_output = bedrock_bound(plan.model, plan.body)
        plan.service_tier = text(fields_of(plan.body.get("serviceTier")).get("type"))
    elif plan.endpoint == google.CONTENT:
        plan.max_output = gemini.max_output_of(plan.body)
    elif plan.endpoint == MESSAGES:
        plan.service_tier = "fast" if plan.body.get("speed") == "fast" else None  # the answer names the others
        if "anthropic_version" not in plan.body and path.endswith("awPredict"):
            plan.endpoint, plan.read, plan.reader = "chat.completions", read_answer, ChoicesReader
    else:
        openai.refine(plan)
    if plan.provider == "aws":
        plan.priced_as = price_name(plan.model)


def _ask_for_usage(plan: Plan, arguments: dict[str, Any]) -> None:
    """Add `stream_options` to the body of a stream of OpenAI's protocol, in the arguments themselves."""
    if not plan.stream or plan.endpoint not in openai.ASKED:
        return
    wanted = openai.stream_options(plan.body)
    name = next((name for name in ("json", "data") if arguments.get(name) is not None), None)
    if wanted is None or name is None:
        return
    body = {**plan.body, "stream_options": wanted}
    arguments[PLAIN] = Plain({name: arguments[name]}, plan.model, plan.gateway)
    arguments[name] = body if isinstance(arguments[name], Mapping) else json.dumps(body)
    plan.injected = True


def _refuses(error: Exception, plain: Plain) -> bool:
    """Return whether an error may come from our question for usage."""
    if getattr(error, "status_code", None) not in (400, 422):
        return False
    refusal = str(getattr(error, "text", ""))
    return plain.gateway or "stream_options" in refusal or "include_usage" in refusal
