"""SDKs that cost money and have no patch: list the installed ones, and warn when one is imported."""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import wrapt

if TYPE_CHECKING:
    from ..calls.engine import Engine

logger: logging.Logger = logging.getLogger("token_limit")


class Sdk(NamedTuple):
    """An SDK: its distribution, a `module` that shows it is installed, and the module that code imports for calls."""

    distribution: str
    module: str
    used: str


SDKS = tuple(
    Sdk(distribution, module, used or module)
    for distribution, module, used in (
        ("ai21", "ai21", None),
        ("assemblyai", "assemblyai", None),
        ("azure-ai-inference", "azure.ai.inference", None),
        ("cerebras-cloud-sdk", "cerebras.cloud.sdk", None),
        ("dashscope", "dashscope", None),
        ("deepgram-sdk", "deepgram", None),
        ("deepseek", "deepseek", None),
        ("elevenlabs", "elevenlabs", None),
        ("fal-client", "fal_client", None),
        ("fireworks-ai", "fireworks", None),
        ("google-cloud-aiplatform", "vertexai", None),
        ("google-generativeai", "google.generativeai", None),
        ("huggingface_hub", "huggingface_hub", "huggingface_hub.inference._client"),
        ("ibm-watsonx-ai", "ibm_watsonx_ai", None),
        ("llama-api-client", "llama_api_client", None),
        ("ollama", "ollama", None),
        ("openrouter", "openrouter", None),
        ("perplexityai", "perplexity", None),
        ("qianfan", "qianfan", None),
        ("reka-api", "reka", None),
        ("replicate", "replicate", None),
        ("sambanova", "sambanova", None),
        ("voyageai", "voyageai", None),
        ("writer-sdk", "writerai", None),
        ("xai-sdk", "xai_sdk", None),
        ("zai-sdk", "zai", None),
        ("zhipuai", "zhipuai", None),
    )
)


def installed(metered: Iterable[str | None]) -> list[str]:
    """List the distributions that are installed, without importing any; `metered` are modules and names of patches."""
    known = set(metered)
    return [sdk.distribution for sdk in SDKS if not known & {sdk.distribution, sdk.module} and _is_there(sdk.module)]


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing, or the module was put there by hand
        return False


_awaited: set[str] = set()


def watch(engine: Engine, engines: Sequence[Engine], metered: Callable[[], Iterable[str | None]]) -> None:
    """Warn of each SDK that is or will be imported, once per Meter, by `on_unguarded`.

    `engines` are the Meters that patch, of which the last one warns; the list changes as they come and go. An import
    never fails for this, and takes no lock: the importing thread holds the import's.
    """

    def imported(sdk: Sdk, module: object) -> None:
        _awaited.discard(sdk.used)
        for last in engines[-1:]:
            _warn(last, sdk, metered())

    for sdk in SDKS:
        if sdk.used in sys.modules:
            _warn(engine, sdk, metered())
        elif sdk.used not in _awaited:
            _awaited.add(sdk.used)
            wrapt.register_post_import_hook(functools.partial(imported, sdk), sdk.used)


def _warn(engine: Engine, sdk: Sdk, metered: Iterable[str | None]) -> None:
    if engine.config.on_unguarded == "ignore" or {sdk.distribution, sdk.module} & set(metered):
        return
    if engine.first_time(f"the {sdk.distribution} SDK"):
        logger.warning(
            "%s is imported, and no patch meters it: its calls count against no limit; record them with "
            "meter.track_manually(...), or set on_unguarded to 'ignore'",
            sdk.distribution,
        )
