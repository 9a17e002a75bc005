"""Mistral's SDK, `mistralai`, with its Azure and Google Cloud clients: what costs money, what is free.

Its generated clients send everything through `BaseSDK.do_request` and `do_request_async`; each of the three has a
module of its own, imported at first use. Releases before 2 have it in another place.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ..calls.estimates import STORED
from ..calls.request import Outcome, Request
from ..runtime.faults import report
from ..usage import Usage
from .base import Arguments
from .batches import count_requests, ended, guess, read_queued, sum_of_answers
from .chat import ChoicesReader, StreamReader, read_answer
from .http_funnel import HttpPatch, document_in, with_body
from .in_flight import begin_attempt, fail_attempt
from .quirks import fill_in_the_middle
from .reading import count, fields_of, seconds, text
from .responses import EventReader, read_response
from .sending import bound_of
from .streams import follow_async, follow_sync
from .surfaces import Plan, Surface, max_output

FUNNELS = (
    "mistralai.client.basesdk", "mistralai.azure.client.basesdk", "mistralai.gcp.client.basesdk", "mistralai.basesdk",
    "mistralai_azure.basesdk", "mistralai_gcp.basesdk",
)  # fmt: skip

FILL_IN = "fim.completions"
OCR = "ocr"
SPEECH = "audio.speech"
BATCHES = "batch.jobs"


def _read(answer: Any) -> Outcome:
    """Read an answer of chat style."""
    row = fields_of(answer)
    outcome = _with_extras(read_answer(answer), fields_of(row.get("usage")))
    if outcome.model is None:  # a conversation names the model of each of its parts
        parts = row.get("outputs")
        named = (text(fields_of(part).get("model")) for part in (parts if isinstance(parts, list) else ()))
        outcome.model = next((name for name in named if name is not None), None)
        outcome.request_id = outcome.request_id or text(row.get("conversation_id"))
    return outcome


def _with_extras(outcome: Outcome, usage: Mapping[str, Any]) -> Outcome:
    """Add what Mistral reports beside the tokens: seconds of sound, its tier, and what a conversation's tools used.

    The tokens that tools have read (`connector_tokens`) are in the total only, and billed as input.
    """
    outcome.service_tier = outcome.service_tier or text(usage.get("service_tier"))
    used = outcome.usage
    if used is None:
        return outcome
    used.duration_seconds = seconds(usage.get("prompt_audio_seconds")) or None
    read = count(usage.get("connector_tokens"))
    if read and used.input_tokens is not None:
        used.input_tokens += read
    tools = fields_of(usage.get("connectors")).items()
    used.web_searches = sum(uses for name, uses in tools if name.startswith("web_search") and count(uses)) or None
    return outcome


def _read_pages(answer: Any) -> Outcome:
    """Read an answer of text recognition, which is billed by the page."""
    row = fields_of(answer)
    pages = count(fields_of(row.get("usage_info")).get("pages_processed"))
    return Outcome(None if pages is None else Usage(document_pages=pages), text(row.get("model")))


def _read_annotated(answer: Any) -> Outcome:
    """Read an answer whose pages were annotated, too."""
    outcome = _read_pages(answer)
    if outcome.usage is not None:
        outcome.usage.annotated_pages = outcome.usage.document_pages
    return outcome


def _read_speech(letters: int, answer: Any) -> Outcome:
    """Read nothing: the letters that are said are in the request."""
    return Outcome(Usage(character_count=letters))


def _read_job(answer: Any) -> Outcome:
    """Read a batch. Only one that contains its answers (`inline=True`) reports what they used."""
    row = fields_of(answer)
    answers = [fields_of(item) for item in row.get("outputs") or ()]
    outcome = sum_of_answers([_read(fields_of(item.get("response")).get("body")) for item in answers])
    outcome.model = outcome.model or text(row.get("model"))
    output = row.get("output_file") or answers
    return ended(outcome, row.get("id"), row.get("status"), count(row.get("succeeded_requests")), output)


class _Choices(ChoicesReader):
    """Follows a stream of chat style."""

    __slots__ = ()

    def outcome(self, error: BaseException | None) -> Outcome:
        return _with_extras(super().outcome(error), fields_of(self.usage))


class _Events(StreamReader):
    """Follows the events of a conversation, a transcript or speech: the last one has the usage."""

    __slots__ = ()

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = fields_of(event)
        self.chunks += 1
        if row.get("usage") is not None:
            self.usage = row["usage"]
        known = fields_of(self.answer)
        named, its_id = text(row.get("model")), text(row.get("conversation_id"))
        self.answer = {"model": named or known.get("model"), "id": its_id or known.get("id")}
        words = row.get("text", row.get("content"))
        if isinstance(words, str):
            self.letters += len(words)
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        return _with_extras(super().outcome(error), fields_of(self.usage))


BOUNDS = ("max_tokens",)

SURFACES = (
    Surface("/fim/completions", FILL_IN, BOUNDS, _read, _Choices, refined=True),
    Surface("/agents/completions", "agents.completions", BOUNDS, _read, _Choices),
    Surface("/chat/completions", "chat.completions", BOUNDS, _read, _Choices),
    Surface("/(rawPredict|streamRawPredict)", "chat.completions", BOUNDS, _read, _Choices, refined=True),
    Surface("/embeddings", "embeddings", None, _read, _Choices),
    Surface("/ocr", OCR, None, _read_pages, _Choices, refined=True),
    Surface("/audio/transcriptions", "audio.transcriptions", (), _read, _Events),
    Surface("/audio/speech", SPEECH, None, functools.partial(_read_speech, 0), _Events, refined=True, kept=False),
    Surface("/conversations", "conversations", (), _read, _Events),
    Surface("/conversations/{}", "conversations", (), _read, _Events, unseen=STORED),
    Surface("/conversations/{}/restart", "conversations", (), _read, _Events, unseen=STORED),
    Surface("/responses", "responses", ("max_output_tokens",), read_response, EventReader),
    Surface("/batch/jobs", BATCHES, None, read_queued, _Choices, refined=True),
)

LATER = (Surface("/batch/jobs/{}", BATCHES, None, _read_job, _Choices, refined=True),)

BOUNDED = {surface.endpoint: surface.bounds for surface in SURFACES if surface.bounds}

FREE = re.compile(
    r"/(files|agents|libraries(/.+)?|responses/input_tokens|batch/jobs/[^/]+/cancel|fine_tuning/models/[^/]+/archive"
    r"|connectors(/[^/]+/[^/]+/(credentials|activate|deactivate))?|audio/(voices|agents)|service-accounts|triggers"
    r"|webhooks|prompts(/.+)?|skills(/.+)?|context/search-indexes(/.+)?|client/sessions)$"
)


class MistralPatch(HttpPatch):
    """Guards chat, agents, conversations, fill-in-the-middle, embeddings, text recognition and sound."""

    name = own_provider = "mistral"
    module: ClassVar[str] = "mistralai"
    lazy = True
    guards: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(surface.endpoint for surface in SURFACES))
    not_guarded: ClassVar[tuple[str, ...]] = (
        "classifiers", "connectors.tools", "workflows", "observability", "rag",
        "audio.realtime.connect",
    )  # fmt: skip
    surfaces: ClassVar[tuple[Surface, ...]] = SURFACES
    later: ClassVar[tuple[Surface, ...]] = LATER
    free = FREE

    def _install(self) -> None:
        for module in FUNNELS:
            self._when_imported(module, self._hook)

    def _hook(self, module: Any) -> None:
        package = module.__name__.rpartition(".")[0]
        self._when_imported(f"{package}._hooks.sdkhooks", self._hook_attempts)
        funnel = module.BaseSDK
        self._swap(funnel, "do_request", self._guard(funnel.do_request, self._recognise, self.arrival(follow_sync)))
        self._swap(
            funnel,
            "do_request_async",
            self._aguard(funnel.do_request_async, self._recognise, self.arrival(follow_async)),
        )

    def _hook_attempts(self, module: Any) -> None:
        """Follow the attempts inside of `do_request`. Each calls the first, and without an answer the second."""
        hooks = module.SDKHooks
        self._swap(hooks, "before_request", _beginning(hooks.before_request))
        self._swap(hooks, "after_error", _failing(hooks.after_error))

    def _recognise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        try:
            request = kwargs["request"] if "request" in kwargs else args[2]
            if request.method == "GET":
                return self.plan_later(str(request.url))
            if request.method != "POST":
                return None
            stream = "text/event-stream" in request.headers.get("accept", "")
            url, body = str(request.url.copy_with(fragment=None)), document_in(request)
        except Exception:
            report("recognising a call")
            return None
        plan = self.plan_of(url, body, stream)
        if plan is not None:
            plan.bounds = BOUNDED.get(plan.endpoint, ())
        return plan

    def _clamp(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        sent = kwargs["request"] if "request" in kwargs else args[2]
        bounded = with_body(sent, {**request.body, bound_of(request): request.clamped})
        if "request" in kwargs:
            return args, {**kwargs, "request": bounded}
        return (*args[:2], bounded, *args[3:]), kwargs

    def refine(self, plan: Plan) -> None:
        if plan.endpoint == OCR and any(plan.body.get(name) for name in ANNOTATIONS):
            plan.read = _read_annotated
        elif plan.endpoint == SPEECH:
            plan.read = functools.partial(_read_speech, len(str(plan.body.get("input", ""))))
        elif plan.endpoint == BATCHES:
            _refine_batch(plan)
        elif "prompt" in plan.body:  # Google Cloud has one path for both
            fill_in_the_middle(plan)


def _refine_batch(plan: Plan) -> None:
    """Count the requests that a batch contains, or guess those of its file."""
    rows = plan.body.get("requests")
    if isinstance(rows, list) and rows:
        asked = [fields_of(fields_of(row).get("body")) for row in rows]
        embeds = "embeddings" in str(plan.body.get("endpoint"))
        count_requests(plan, asked, lambda row: 0 if embeds else max_output(row, BOUNDS))
    else:
        guess(plan)


ANNOTATIONS = ("bbox_annotation_format", "document_annotation_format")


def _sends_for(sdk: Any, hooks: Any) -> bool:
    configuration = getattr(sdk, "sdk_configuration", None)
    return getattr(configuration, "__dict__", {}).get("_hooks") is hooks


def _beginning(original: Any) -> Any:
    """Wrap `before_request`."""

    @functools.wraps(original)
    def before_request(hooks: Any, *args: Any, **kwargs: Any) -> Any:
        begin_attempt(hooks, _sends_for)
        return original(hooks, *args, **kwargs)

    return before_request


def _failing(original: Any) -> Any:
    """Wrap `after_error`, which gets an answer or an error."""

    @functools.wraps(original)
    def after_error(hooks: Any, context: Any, response: Any, error: Any) -> Any:
        if response is None and error is not None:
            fail_attempt(hooks, error, _sends_for)
        return original(hooks, context, response, error)

    return after_error
