"""OpenAI's SDK and everything that speaks its protocol: what is billable, how it answers, where it goes."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ..hosts import TAKES_STREAM_OPTIONS, UNKNOWN
from ..outcome import Request
from .chat import ChoicesReader, EventReader, read_answer
from .stainless import StainlessPatch
from .surfaces import Surface

AZURE = frozenset({"AzureOpenAI", "AsyncAzureOpenAI"})


class OpenAIPatch(StainlessPatch):
    """Guards chat completions, responses, legacy completions and embeddings on any OpenAI or Azure client."""

    name = "openai"
    module = "openai"
    guards = ("chat.completions", "responses", "completions", "embeddings")
    surfaces = (
        Surface(
            "/chat/completions",
            "chat.completions",
            ("max_completion_tokens", "max_tokens"),
            read_answer,
            ChoicesReader,
        ),
        Surface("/responses", "responses", ("max_output_tokens",), read_answer, EventReader),
        Surface("/completions", "completions", ("max_tokens",), read_answer, ChoicesReader),
        Surface("/embeddings", "embeddings", None, read_answer, ChoicesReader),
    )
    free = re.compile(
        r"/(moderations|responses/input_tokens|responses/[^/]+/cancel|conversations(/[^/]+/items)?|batches(/[^/]+/cancel)?"
        r"|files|uploads(/[^/]+/(parts|complete|cancel))?|(vector_stores|containers|assistants|skills)(/.+)?"
        r"|threads|threads/[^/]+(/messages(/[^/]+)?)?|threads/[^/]+/runs/[^/]+(/cancel)?"
        r"|chat/completions/[^/]+|organization/.+|projects/.+|webhook_endpoints(/.+)?)$"
    )
    request_id_header: ClassVar[str] = "x-request-id"
    other_id_headers: ClassVar[Mapping[str, str]] = {"azure": "apim-request-id"}

    def provider_of_client(self, client: Any) -> str:
        return "azure" if any(cls.__name__ in AZURE for cls in type(client).__mro__) else UNKNOWN

    def inject(self, options: Any, body: Mapping[str, Any], request: Request) -> Any:
        if request.endpoint not in ("chat.completions", "completions") or request.provider not in TAKES_STREAM_OPTIONS:
            return None
        return _asking_for_usage(options, body)


def _asking_for_usage(options: Any, body: Mapping[str, Any]) -> Any:
    """Copy the options with `include_usage` set; None when the caller said yes or no to it already."""
    asked = body.get("stream_options")
    if asked is not None and (not isinstance(asked, Mapping) or "include_usage" in asked):
        return None
    wanted = {"stream_options": {**(asked or {}), "include_usage": True}}
    changed = copy.copy(options)
    extra = getattr(options, "extra_json", None)
    if isinstance(extra, Mapping) and "stream_options" in extra:
        changed.extra_json = {**extra, **wanted}
    else:
        changed.json_data = {**options.json_data, **wanted}
    return changed
