"""Patches without hooks of their own: providers behind OpenAI's SDK, and the mark on LangChain's calls."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from .. import bodies
from ..exchange import Inner
from ..scope import Scope, current, use
from .base import BasePatch


class DeepSeekPatch(BasePatch):
    """Meters DeepSeek, which is called through OpenAI's SDK."""

    name = "deepseek"
    module: ClassVar[str] = "openai"
    through: ClassVar[str | None] = "openai"
    guards: ClassVar[tuple[str, ...]] = ("chat.completions", "fim.completions", "responses")


class OpenRouterPatch(BasePatch):
    """Meters OpenRouter, which is called through OpenAI's SDK."""

    name = "openrouter"
    module: ClassVar[str] = "openai"
    through: ClassVar[str | None] = "openai"
    guards: ClassVar[tuple[str, ...]] = ("chat.completions", "completions", "responses", "embeddings")


class LangChainPatch(BasePatch):
    """Marks the events of calls that come through LangChain's models with `via="langchain"`.

    The calls themselves run through the official SDKs and are metered there.
    """

    name = "langchain"
    module: ClassVar[str] = "langchain_core"

    def _install(self) -> None:
        for module, cls in (("chat_models", "BaseChatModel"), ("llms", "BaseLLM")):
            self._when_imported(f"langchain_core.language_models.{module}", functools.partial(self._mark, cls))

    def _mark(self, name: str, module: Any) -> None:
        cls = getattr(module, name)
        for method, wrapper in (
            ("generate", _marked), ("agenerate", _amarked), ("stream", _marked_stream), ("astream", _amarked_stream),
        ):  # fmt: skip
            if method in cls.__dict__:
                self._swap(cls, method, wrapper(cls.__dict__[method], self))


def _marking(patch: BasePatch) -> Scope | None:
    """Return a Scope that adds the mark to the one in force; None when the patch is not installed."""
    above = current()
    if not patch.active or (above is not None and (above.attributes or {}).get("via") == "langchain"):
        return above
    if above is None:
        return Scope(attributes={"via": "langchain"})
    return Inner(above, {**(above.attributes or {}), "via": "langchain"})


def _marked(original: Any, patch: BasePatch) -> Any:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with use(_marking(patch)):
            return original(*args, **kwargs)

    return wrapper


def _amarked(original: Any, patch: BasePatch) -> Any:
    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with use(_marking(patch)):
            return await original(*args, **kwargs)

    return wrapper


def _marked_stream(original: Any, patch: BasePatch) -> Any:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return bodies.stream(original(*args, **kwargs), _marking(patch))

    return wrapper


def _amarked_stream(original: Any, patch: BasePatch) -> Any:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return bodies.astream(original(*args, **kwargs), _marking(patch))

    return wrapper
