"""What LiteLLM's requests are: surfaces of every protocol that it speaks, kinds of calls, its names of providers."""

from __future__ import annotations

import re
from typing import Any

from ..hosts import UNKNOWN
from . import billed_units, google, messages, openai
from .bedrock import CONVERSE, INVOKE
from .converse import ConverseReader, InvokeReader, read_converse, read_invoked
from .gemini import ChunkReader, read_content, read_prediction
from .streams import Reader
from .surfaces import Surface

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
    *(surface for surface in openai.SURFACES if surface.endpoint != "batches"),  # as nobody reads the end of one here
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
"""Those that cost money and report no usage."""

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


PROTOCOLS = {
    CONVERSE: "aws",
    INVOKE: "aws",
    google.CONTENT: "google",
    google.EMBEDDINGS: "google",
    google.IMAGES: "google",
    MESSAGES: "anthropic",
    **dict.fromkeys(("chat", "embed", "rerank"), "cohere"),
}
"""The providers of protocols, for releases of LiteLLM that give no name with a request."""


def provider_named(logging: Any, endpoint: str) -> str:
    """Name the provider of a host that is not known, by LiteLLM's name for it."""
    if logging is None:
        return PROTOCOLS.get(endpoint, UNKNOWN)
    named = getattr(logging, "model_call_details", {}).get("custom_llm_provider")
    if not isinstance(named, str) or named in ANY_SERVER:
        return UNKNOWN
    return PROVIDERS.get(named, named)
