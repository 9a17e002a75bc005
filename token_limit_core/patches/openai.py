"""OpenAI's SDK, and SDKs like it that speak its protocol: surfaces, free paths, and what is special."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ..calls.estimates import STORED
from ..hosts import UNKNOWN
from ..pricing.price_list import CODE_INTERPRETER
from . import audio, batches
from .chat import ChoicesReader, read_answer
from .images import ImageReader, read_images
from .quirks import AMENDS, amend_outcomes, fill_in_the_middle
from .responses import EventReader, RunReader, read_container, read_response, read_run
from .sending import with_field
from .stainless import StainlessPatch
from .surfaces import Plan, Surface, size_of_files

CHAT_BOUNDS = ("max_completion_tokens", "max_tokens")
RESPONSE_BOUNDS = ("max_output_tokens",)
RUN_BOUNDS = ("max_completion_tokens",)
TRANSCRIPTS = "/audio/transcriptions"
TRANSLATIONS = "/audio/translations"
SPEECH = "/audio/speech"
CONTAINERS = "containers.create"

ASKED = ("chat.completions", "completions")
"""Endpoints whose streams report their usage only on request."""

SURFACES = (
    Surface("/chat/completions", "chat.completions", CHAT_BOUNDS, read_answer, ChoicesReader),
    Surface("/responses", "responses", RESPONSE_BOUNDS, read_response, EventReader),
    Surface("/completions", "completions", ("max_tokens",), read_answer, ChoicesReader),
    Surface("/embeddings", "embeddings", None, read_answer, ChoicesReader),
    Surface("/responses/compact", "responses.compact", RESPONSE_BOUNDS, read_answer, EventReader),
    Surface(TRANSCRIPTS, "audio.transcriptions", (), audio.read_transcript, audio.TranscriptReader, refined=True),
    Surface(TRANSLATIONS, "audio.translations", (), audio.read_transcript, audio.TranscriptReader, refined=True),
    Surface(SPEECH, "audio.speech", None, audio.read_speech, audio.TranscriptReader, refined=True, kept=False),
    Surface("/images/generations", "images.generate", (), read_images, ImageReader),
    Surface("/images/edits", "images.edit", (), read_images, ImageReader, refined=True),
    Surface("/images/variations", "images.create_variation", (), read_images, ImageReader, refined=True),
    Surface("/threads/{}/runs", "threads.runs", RUN_BOUNDS, read_run, RunReader, unseen=STORED),
    Surface("/threads/runs", "threads.runs", RUN_BOUNDS, read_run, RunReader, unseen=STORED),
    Surface("/threads/{}/runs/{}/submit_tool_outputs", "threads.runs", RUN_BOUNDS, read_run, RunReader, unseen=STORED),
    Surface("/decisions", "decisions", (), read_answer, ChoicesReader),
    Surface("/batches", "batches", None, batches.read_queued, ChoicesReader, refined=True),
    Surface("/containers", CONTAINERS, None, read_container, ChoicesReader, refined=True),
)
"""The ends of paths; gateways and other SDKs put prefixes before them."""

LATER = (
    Surface("/responses/{}", "responses", None, read_response, EventReader),
    Surface("/threads/{}/runs/{}", "threads.runs", None, read_run, RunReader),
    Surface("/batches/{}", "batches", None, batches.read_batch, ChoicesReader, refined=True),
)

FREE = re.compile(
    r"/(moderations|files|uploads(/.+)?|batches(/[^/]+/cancel)?|responses/(input_tokens|[^/]+/cancel)"
    r"|conversations(/.+)?|chat/completions/[^/]+|containers/.+|(vector_stores|assistants|skills|vaults)(/.+)?"
    r"|threads(/[^/]+(/messages(/[^/]+)?|/runs/[^/]+(/cancel)?)?)?|evals(/[^/]+(/runs/[^/]+)?)?"
    r"|fine_tuning/(jobs/[^/]+/(cancel|pause)|checkpoints/.+)|audio/voice_consents(/.+)?"
    r"|(organization|projects|webhook_endpoints|safety)(/.+)?|(realtime/calls|live/sessions)/[^/]+/(hangup|reject|refer))$"
)
"""Paths that cost nothing, or only storage. A batch and a run are billed when their end is read."""


class ProtocolPatch(StainlessPatch):
    """Hooks one SDK that speaks OpenAI's protocol."""

    surfaces: ClassVar[tuple[Surface, ...]] = SURFACES
    later: ClassVar[tuple[Surface, ...]] = LATER
    free = FREE
    refined: ClassVar[frozenset[str]] = frozenset(AMENDS)
    request_id_header: ClassVar[str] = "x-request-id"
    own_provider: ClassVar[str] = UNKNOWN
    """The provider of a client on an unknown host."""

    def provider_of_client(self, client: Any) -> str:
        return self.own_provider

    def inject(self, plan: Plan) -> Any:
        return _asking_for_usage(plan.options, plan.body) if plan.endpoint in ASKED else None

    def refine(self, plan: Plan) -> None:
        refine(plan)


def refine(plan: Plan) -> None:
    """Complete the plan of a call of OpenAI's protocol by its body and its provider."""
    if plan.endpoint == "audio.speech":
        audio.refine_speech(plan)
    elif plan.endpoint in ("audio.transcriptions", "audio.translations"):
        plan.size += size_of_files(plan.options, audio.CHARACTERS_PER_BYTE)
        audio.refine_transcript(plan)
    elif plan.endpoint.startswith("images."):
        plan.size += size_of_files(plan.options)
    elif plan.endpoint == CONTAINERS:
        plan.model = CODE_INTERPRETER
    elif plan.endpoint == "batches":
        batches.guess(plan)
        plan.model = plan.model or str(plan.body.get("model_id") or "")  # Together's name for it
    elif plan.endpoint == "completions" and plan.provider == "deepseek":
        fill_in_the_middle(plan)
    if plan.provider == "openrouter" and "/" in plan.model:
        plan.fields = {"upstream_provider": plan.model.partition("/")[0]}
    if plan.provider in AMENDS:
        amend_outcomes(plan, AMENDS[plan.provider])


class OpenAIPatch(ProtocolPatch):
    """Hooks every OpenAI and Azure client, also those with the address of another provider."""

    name = "openai"
    module: ClassVar[str] = "openai"
    guards: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(surface.endpoint for surface in (*SURFACES, *LATER)))
    not_guarded: ClassVar[tuple[str, ...]] = (
        "videos", "fine_tuning.jobs", "fine_tuning.alpha.graders", "evals.runs", "realtime.client_secrets",
        "realtime.calls", "live.sessions", "beta.agents", "beta.chatkit.sessions",
    )  # fmt: skip
    other_id_headers: ClassVar[Mapping[str, str]] = {"azure": "apim-request-id"}
    websockets: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("openai.resources.realtime.realtime", "Realtime", "realtime"),
        ("openai.resources.realtime.translations.translations", "Translations", "realtime.translations"),
        ("openai.resources.beta.realtime.realtime", "Realtime", "beta.realtime"),
        ("openai.resources.responses.responses", "Responses", "responses"),
        ("openai.resources.beta.responses.responses", "Responses", "beta.responses"),
        ("openai.resources.live.live", "Live", "live"),
        ("openai.resources.live.sideband", "Sideband", "live.sideband"),
        ("openai.resources.live.forks", "Forks", "live.forks"),
    )

    def provider_of_client(self, client: Any) -> str:
        return "azure" if any(cls.__name__ in AZURE for cls in type(client).__mro__) else UNKNOWN


AZURE = frozenset({"AzureOpenAI", "AsyncAzureOpenAI"})


class GroqPatch(ProtocolPatch):
    """Hooks Groq's own SDK."""

    name = own_provider = "groq"
    module: ClassVar[str] = "groq"
    guards: ClassVar[tuple[str, ...]] = (
        "chat.completions",
        "embeddings",
        "audio.transcriptions",
        "audio.translations",
        "audio.speech",
        "batches",
    )


class TogetherPatch(ProtocolPatch):
    """Hooks Together's own SDK."""

    name = own_provider = "together"
    module: ClassVar[str] = "together"
    guards: ClassVar[tuple[str, ...]] = (
        "chat.completions", "completions", "embeddings", "images.generate", "audio.transcriptions",
        "audio.translations", "audio.speech", "batches",
    )  # fmt: skip
    not_guarded: ClassVar[tuple[str, ...]] = ("rerank", "videos", "fine_tuning", "post_training", "evals")
    free: ClassVar[re.Pattern[str]] = re.compile(
        FREE.pattern + r"|/(fine-tunes/(estimate-price|preview|[^/]+/cancel)|queue/(cancel|clear)|.+/estimate(-cost)?"
        r"|(deployments|projects|compute|rl/model-resources/[^/]+/stop)(/.+)?)$"
    )
    websockets: ClassVar[tuple[tuple[str, str, str], ...]] = (("together.resources.realtime", "Realtime", "realtime"),)


def _asking_for_usage(options: Any, body: Mapping[str, Any]) -> Any:
    """Copy the options with `include_usage` set; None when the caller has set it."""
    wanted = stream_options(body)
    if wanted is None:
        return None
    return with_field(options, "stream_options", wanted)


def stream_options(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the stream options that ask for usage; None when the caller has set them."""
    asked = body.get("stream_options")
    if asked is not None and (not isinstance(asked, Mapping) or "include_usage" in asked):
        return None
    return {**(asked or {}), "include_usage": True}
