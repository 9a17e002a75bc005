"""Hosts: which provider a client talks to, and never one that only looks like it."""

from __future__ import annotations

import pytest
from genai_prices.data_snapshot import get_snapshot

from token_limit_core import MeterConfig
from token_limit_core.hosts import HOSTS, REGIONAL, provider_of

KNOWN = {
    "api.openai.com": "openai",
    "EU.api.openai.com.": "openai",
    "acme.openai.azure.com": "azure",
    "acme.services.ai.azure.com": "azure",
    "acme.cognitiveservices.azure.com": "azure",
    "gateway.azure-api.net": "azure",
    "api.deepseek.com": "deepseek",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "us-east-1.api.x.ai": "x-ai",
    "api.fireworks.ai": "fireworks",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.cerebras.ai": "cerebras",
    "api.z.ai": "zai",
    "api.moonshot.ai": "moonshotai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "us-central1-aiplatform.googleapis.com": "google",
    "bedrock-runtime.us-east-1.amazonaws.com": "aws",
    "bedrock-mantle.eu-west-1.api.aws": "aws",
    "adb-12.3.azuredatabricks.net": "databricks",
    "acme.cloud.databricks.com": "databricks",
    "org-acct.snowflakecomputing.com": "snowflake",
    "ai-gateway.vercel.sh": "vercel",
}

OTHERS = [
    "api.openai.com.evil.example",
    "notapi.openai.com",
    "evil-openai.azure.com.example",
    "openai.azure.com",
    "my-bedrock-runtime.us-east-1.amazonaws.com",
    "bedrock-runtime.us-east-1.amazonaws.com.evil.example",
    "vllm-123.us-east-1.elb.amazonaws.com",
    "evil.example-aiplatform.googleapis.com.example",
    "notopenrouter.ai",
    "localhost",
    "10.0.0.7",
    "",
]

WITHOUT_PRICES = {
    "alibaba", "crusoe", "github", "heroku", "huggingface", "nebius", "ollama", "portkey", "pydantic-gateway",
    "sambanova", "snowflake", "vercel", "writer",
}  # fmt: skip
"""Providers that the price list does not have."""


@pytest.mark.parametrize(("host", "provider"), KNOWN.items())
def test_a_known_host(host: str, provider: str) -> None:
    assert provider_of(host, None, {}) == provider


@pytest.mark.parametrize("host", OTHERS)
def test_a_host_that_only_looks_like_one(host: str) -> None:
    assert provider_of(host, 443, {}) == "unknown"


def test_the_case_of_the_applications_own_hosts_does_not_matter() -> None:
    config = MeterConfig(store="memory://", hosts={"LLM.example.com": "openai"})
    assert provider_of("llm.Example.com", 443, config.hosts) == "openai"


def test_the_applications_own_hosts_come_first_and_a_port_before_the_host() -> None:
    own = {"api.openai.com": "azure", "localhost": "ollama", "localhost:8000": "openai"}
    assert provider_of("api.openai.com", None, own) == "azure"
    assert provider_of("LOCALHOST", 8000, own) == "openai"
    assert provider_of("localhost", 8001, own) == "ollama"


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        ("/v1/", "huggingface"),
        ("/", "huggingface"),
        ("/together/v1/", "huggingface_together"),
        ("/novita/v3/openai/", "huggingface_novita"),
        ("/fireworks-ai/v1", "huggingface_fireworks-ai"),
    ],
)
def test_hugging_faces_router_has_its_providers_in_the_path(path: str, provider: str) -> None:
    assert provider_of("router.huggingface.co", None, {}, path) == provider


def test_every_provider_is_one_that_the_price_list_has_or_is_known_to_lack() -> None:
    priced = {provider.id for provider in get_snapshot().providers}
    named = {*HOSTS.values(), *(provider for _, provider in REGIONAL)}
    assert named - priced == WITHOUT_PRICES
