"""Which provider answers at a host. Hosts are compared exactly or by dot-suffix, never by substring.

Source: base URLs in the SDKs, in pydantic-ai, in genai-prices (whose provider names these are, where it has one) and
of the recorded corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

UNKNOWN = "unknown"

HOSTS: dict[str, str] = {
    "api.openai.com": "openai",
    ".api.openai.com": "openai",
    ".openai.azure.com": "azure",
    ".cognitiveservices.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    ".azure-api.net": "azure",
    ".models.ai.azure.com": "azure",
    "models.inference.ai.azure.com": "azure",
    "api.deepseek.com": "deepseek",
    "openrouter.ai": "openrouter",
    ".openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    ".api.x.ai": "x-ai",
    "api.fireworks.ai": "fireworks",
    "api.mistral.ai": "mistral",
    ".mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.anthropic.com": "anthropic",
    ".googleapis.com": "google",
    "api.cerebras.ai": "cerebras",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.novita.ai": "novita",
    "api.avian.io": "avian",
    "api.arcee.ai": "arcee",
    "inference.baseten.co": "baseten",
    "api.voyageai.com": "voyageai",
    "api.meta.ai": "meta",
    "api.doubleword.ai": "doubleword",
    "api.quicksilverpro.io": "quicksilverpro",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "gateway.ai.cloudflare.com": "cloudflare",
    "api.cloudflare.com": "cloudflare",
    "api.githubcopilot.com": "github-copilot",
    "models.github.ai": "github",
    ".cloud.databricks.com": "databricks",
    ".azuredatabricks.net": "databricks",
    ".gcp.databricks.com": "databricks",
    ".snowflakecomputing.com": "snowflake",
    "ai-gateway.vercel.sh": "vercel",
    "router.huggingface.co": "huggingface",
    "api.sambanova.ai": "sambanova",
    "api.studio.nebius.com": "nebius",
    "api.studio.nebius.ai": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "api.inference.crusoecloud.com": "crusoe",
    ".inference.heroku.com": "heroku",
    "api.writer.com": "writer",
    "api.portkey.ai": "portkey",
    "gateway.pydantic.dev": "pydantic-gateway",
    "ollama.com": "ollama",
}

REGIONAL: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"bedrock-(runtime|mantle)(-fips)?\.[a-z0-9-]+\.(amazonaws\.com|api\.aws)"), "aws"),
)
"""Hosts that contain a region. The whole host must match: amazonaws.com has servers of other customers too."""

REPORT_COSTS = frozenset({"openrouter", "vercel", "avian"})
"""Gateways whose every answer reports its cost, so that 0 is free of charge. Elsewhere 0 may mean an unknown cost."""

FREE = frozenset({"free", "ollama"})
"""Providers whose calls cost nothing: Ollama's models run on a server of one's own, and its cloud has flat plans."""

OLLAMA_PORT = 11434

FAKE_PORT = 8010
"""Where `token-limit fake-provider` listens on loopback. It answers like OpenAI, and is priced so."""


def provider_of(host: str, port: int | None, hosts: Mapping[str, str], path: str = "/") -> str:
    """Name the provider at a host; the application's own `hosts` (in small letters) come first.

    Those are hosts, with a port or without, and may go on with the beginning of a path: the longest one wins. Hugging
    Face's router has its providers in the path, and each has prices of its own.
    """
    host = host.lower().rstrip(".")
    for name in _own_names(host, port, path) if hosts else ():
        if name in hosts:
            return hosts[name]
    provider = HOSTS.get(host) or _by_suffix(host)
    if provider == UNKNOWN and port == OLLAMA_PORT and _is_local(host):
        return "ollama"
    if port == FAKE_PORT and host in ("127.0.0.1", "localhost"):
        return "openai"
    if provider == "huggingface":
        behind = path.strip("/").partition("/")[0]
        return provider if behind in ("", "v1") else f"huggingface_{behind}"
    return provider


def _own_names(host: str, port: int | None, path: str) -> Iterator[str]:
    """Yield the names that the application may have given a URL, the most specific first."""
    steps = [step for step in path.lower().split("/") if step]
    for count in range(len(steps), -1, -1):
        for start in (f"{host}:{port}", host):
            yield "/".join([start, *steps[:count]])


def is_known(host: str) -> bool:
    """Return whether a host is in the table: a provider's own, and not a gateway of the application."""
    host = host.lower().rstrip(".")
    return host in HOSTS or _by_suffix(host) != UNKNOWN


def _is_local(host: str) -> bool:
    """Return whether a host is this machine or on a private network, by its name or address."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
    return address.is_loopback or address.is_private


def _by_suffix(host: str) -> str:
    labels = host.split(".")
    for index in range(1, len(labels)):
        suffix = "." + ".".join(labels[index:])
        if suffix in HOSTS:
            return HOSTS[suffix]
    return next((provider for pattern, provider in REGIONAL if pattern.fullmatch(host)), UNKNOWN)
