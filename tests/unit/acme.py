"""An SDK nobody has heard of, and the 15 lines that meter it."""

from __future__ import annotations

from typing import Any

from token_limit_core.patches import BasePatch


class Client:
    """Answers at once; `fault` is raised instead."""

    def __init__(self, fault: BaseException | None = None, **answer: Any) -> None:
        self.calls = 0
        self.fault = fault
        self.answer = {"model": "gpt-4o-mini", "tokens_in": 100, "tokens_out": 10, **answer}

    def generate(self, prompt: str, *, model: str = "gpt-4o-mini") -> dict[str, Any]:
        """Generate."""
        return self._answer()

    async def agenerate(self, prompt: str, *, model: str = "gpt-4o-mini") -> dict[str, Any]:
        """Generate, asynchronously."""
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return self.answer


def extract(response: Any, args: Any, kwargs: Any, error: BaseException | None) -> dict[str, Any]:
    """Say what a call used."""
    if error is not None:
        return {}
    return {
        "provider": "openai",
        "model": response["model"],
        "input_tokens": response["tokens_in"],
        "output_tokens": response["tokens_out"],
        **response.get("fields", {}),
    }


class AcmePatch(BasePatch):
    """Meters Acme."""

    name = "acme"

    def _install(self) -> None:
        self._swap(Client, "generate", self._make_sync_wrapper(Client.generate, extract))
        self._swap(Client, "agenerate", self._make_async_wrapper(Client.agenerate, extract))
