"""Which provider answers at a host. Hosts are compared exactly or by dot-suffix, never by substring.

Source: base URLs in the SDKs and in pydantic-ai (research: sdks section 6).
"""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "unknown"

HOSTS: dict[str, str] = {
    "api.openai.com": "openai",
    ".api.openai.com": "openai",
    ".openai.azure.com": "azure",
    ".cognitiveservices.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    "api.deepseek.com": "deepseek",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "api.fireworks.ai": "fireworks",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.anthropic.com": "anthropic",
    ".googleapis.com": "google",
}

TAKES_STREAM_OPTIONS = frozenset({"openai", "azure", "deepseek", "openrouter", "groq", "x-ai"})
"""Providers known to take `stream_options` on chat streams, or to ignore it (research: sdks section 5)."""


def provider_of(host: str, port: int | None, hosts: Mapping[str, str]) -> str:
    """Name the provider at a host; the application's own `hosts` (host or host:port) come first."""
    host = host.lower().rstrip(".")
    for name in (f"{host}:{port}", host):
        if name in hosts:
            return hosts[name]
    if host in HOSTS:
        return HOSTS[host]
    labels = host.split(".")
    for index in range(1, len(labels)):
        suffix = "." + ".".join(labels[index:])
        if suffix in HOSTS:
            return HOSTS[suffix]
    return UNKNOWN
