"""How refusals get out of LiteLLM, and streams that it opens late to the tenant that asked for them.

Its retries and fallbacks would send the call again, its mapping of errors would raise another exception, and its
routers would take the deployment out of service, for all tenants. So a refusal passes whatever an application calls:
functions, those that they dispatch to (which names imported before the patch lead to), methods of routers, streams.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from .. import scope as scopes
from ..calls.refusals import passing
from .base import BasePatch
from .surfaces import unguarded

FUNCTIONS = (
    "completion", "text_completion", "embedding", "responses", "image_generation", "image_edit", "image_variation",
    "transcription", "speech", "rerank", "anthropic_messages", "generate_content", "generate_content_stream",
)  # fmt: skip
"""Names of functions; the asynchronous ones have an `a` before."""

ELSEWHERE = (
    ("litellm.chat_completions.dispatch", ("_PYTHON_COMPLETION", "_PYTHON_ACOMPLETION")),
    ("litellm.embeddings.dispatch", ("_PYTHON_EMBEDDING", "_PYTHON_AEMBEDDING")),
    ("litellm.responses.dispatch", ("_PYTHON_RESPONSES", "_PYTHON_ARESPONSES")),
    ("litellm.messages.dispatch", ("_PYTHON_MESSAGES", "_PYTHON_AMESSAGES")),
    ("litellm.anthropic_interface.messages", ("create", "acreate")),
    ("litellm.google_genai.main", ("generate_content", "agenerate_content")),
    ("litellm.google_genai.main", ("generate_content_stream", "agenerate_content_stream")),
)
"""Modules with such functions of their own, and those where newer releases keep what their functions call."""

NATIVE = ("ocr", "aocr")
"""Functions that newer releases run in compiled code, which sends by itself."""

SCOPE = "_token_limit_scope"


class Entries(BasePatch):
    """The part of `LiteLLMPatch` that hooks what an application calls."""

    def _install_entries(self) -> None:
        litellm: Any = importlib.import_module("litellm")
        streams: Any = importlib.import_module("litellm.litellm_core_utils.streaming_handler")
        self._let_pass(litellm, _with_async(FUNCTIONS))
        for module, names in ELSEWHERE:
            self._when_imported(module, functools.partial(self._let_pass, names=names))
        self._when_imported("litellm.rust_bridge.catalog", lambda module: self._watch_native(litellm))
        self._when_imported("litellm.router_rust.core", lambda module: self._let_router_pass(module.RustCore))
        if type(litellm.Router) is type:  # else it only stands for that core
            self._let_router_pass(litellm.Router)
        self._hook_streams(streams.CustomStreamWrapper)

    def _let_pass(self, holder: Any, names: tuple[str, ...]) -> None:
        for name in names:
            function = vars(holder).get(name)
            if callable(function):
                self._swap(holder, name, self._entry(function))

    def _let_router_pass(self, router: Any) -> None:
        for name in _with_async(FUNCTIONS):
            method = getattr(router, name, None)
            if inspect.isfunction(method):
                self._swap(router, name, self._entry(method))

    def _entry(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what an application calls, so that a refusal reaches it as itself."""
        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def aentry(*args: Any, **kwargs: Any) -> Any:
                if not self.active:
                    return await original(*args, **kwargs)
                with passing():
                    return await original(*args, **kwargs)

            return aentry

        @functools.wraps(original)
        def entry(*args: Any, **kwargs: Any) -> Any:
            if not self.active:
                return original(*args, **kwargs)
            with passing():
                return original(*args, **kwargs)

        return entry

    def _watch_native(self, litellm: Any) -> None:
        """Let `on_unguarded` decide on what compiled code sends."""
        for name in NATIVE:
            function = vars(litellm).get(name)
            if callable(function):
                self._swap(litellm, name, self._watched(name, function))

    def _watched(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self.active:
                unguarded(self.engine(), f"{name} of the litellm SDK")
            return original(*args, **kwargs)

        return watched

    def _hook_streams(self, stream: Any) -> None:
        """Let a stream that sends its request when it is first read be paid by the tenant that asked for it."""
        begin, step, astep = stream.__init__, stream.__next__, stream.__anext__

        @functools.wraps(begin)
        def __init__(wrapper: Any, *args: Any, **kwargs: Any) -> None:
            begin(wrapper, *args, **kwargs)
            if self.active and wrapper.completion_stream is None:
                vars(wrapper)[SCOPE] = scopes.current()

        @functools.wraps(step)
        def __next__(wrapper: Any) -> Any:
            if not self.active or wrapper.completion_stream is not None:
                return step(wrapper)
            with scopes.use(vars(wrapper).get(SCOPE)), passing():
                return step(wrapper)

        @functools.wraps(astep)
        async def __anext__(wrapper: Any) -> Any:
            if not self.active or wrapper.completion_stream is not None:
                return await astep(wrapper)
            with scopes.use(vars(wrapper).get(SCOPE)), passing():
                return await astep(wrapper)

        for name, hook in (("__init__", __init__), ("__next__", __next__), ("__anext__", __anext__)):
            self._swap(stream, name, hook)


def _with_async(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for plain in names for name in (plain, f"a{plain}"))
