"""Clients for providers that are called through OpenAI's SDK, metered as those providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..runtime.faults import ConfigurationError
from .surfaces import register

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

Client = TypeVar("Client")

OPENROUTER_URL = "https://openrouter.ai/api/v1"
DEEPSEEK_URL = "https://api.deepseek.com"


class ProviderClients:
    """What a Meter makes and registers; keywords are those of `openai.OpenAI`, such as `base_url` for a gateway.

    Raises `ConfigurationError` when the openai package is not installed, and for another package's client.
    """

    def openrouter_client(self, api_key: str, **kw: Any) -> OpenAI:
        """Make a client for OpenRouter."""
        client: OpenAI = _sdk().OpenAI(**{"base_url": OPENROUTER_URL, "api_key": api_key, **kw})
        return self._register(client, "openrouter")

    def async_openrouter_client(self, api_key: str, **kw: Any) -> AsyncOpenAI:
        """Make an asynchronous client for OpenRouter."""
        client: AsyncOpenAI = _sdk().AsyncOpenAI(**{"base_url": OPENROUTER_URL, "api_key": api_key, **kw})
        return self._register(client, "openrouter")

    def register_openrouter_client(self, client: Client) -> Client:
        """Meter a client, and every copy of it, as OpenRouter, whatever its address; return it."""
        return self._register(client, "openrouter")

    def deepseek_client(self, api_key: str, **kw: Any) -> OpenAI:
        """Make a client for DeepSeek; give `base_url="https://api.deepseek.com/beta"` to fill in the middle."""
        client: OpenAI = _sdk().OpenAI(**{"base_url": DEEPSEEK_URL, "api_key": api_key, **kw})
        return self._register(client, "deepseek")

    def async_deepseek_client(self, api_key: str, **kw: Any) -> AsyncOpenAI:
        """Make an asynchronous client for DeepSeek."""
        client: AsyncOpenAI = _sdk().AsyncOpenAI(**{"base_url": DEEPSEEK_URL, "api_key": api_key, **kw})
        return self._register(client, "deepseek")

    def register_deepseek_client(self, client: Client) -> Client:
        """Meter a client, and every copy of it, as DeepSeek, whatever its address; return it."""
        return self._register(client, "deepseek")

    if TYPE_CHECKING:

        def patch(self, name: str) -> Self: ...

    def _register(self, client: Client, provider: str) -> Client:
        sdk = _sdk()
        if not isinstance(client, (sdk.OpenAI, sdk.AsyncOpenAI)):
            raise ConfigurationError(f"client: {client!r} is no client of the openai package")
        register(client, provider)
        self.patch(provider)  # which also makes the patch forget what it took the client for
        return client


def _sdk() -> Any:
    try:
        import openai
    except ImportError as error:
        raise ConfigurationError("the openai package is not installed; install token-limit-suite[openai]") from error
    return openai
