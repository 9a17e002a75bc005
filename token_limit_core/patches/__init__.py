"""The registry of patches, and the installation of each, which all Meters share.

Patches are process-wide and counted: two Meters share one wrapper, and the last to leave takes it out.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import wrapt

from ..runtime.faults import ConfigurationError, report
from . import unmetered
from .aliases import DeepSeekPatch, LangChainPatch, OpenRouterPatch
from .anthropic import AnthropicPatch
from .asyncio_runner import LoopsPatch
from .base import BasePatch
from .bedrock import BedrockPatch
from .cohere import CoherePatch
from .google import GooglePatch
from .litellm import LiteLLMPatch
from .mistral import MistralPatch
from .openai import GroqPatch, OpenAIPatch, TogetherPatch
from .threads import ThreadsPatch

if TYPE_CHECKING:
    from ..calls.engine import Engine

__all__ = ["PATCH_REGISTRY", "BasePatch"]

PATCH_REGISTRY: dict[str, type[BasePatch]] = {
    cls.name: cls
    for cls in (
        OpenAIPatch,
        AnthropicPatch,
        GooglePatch,
        DeepSeekPatch,
        OpenRouterPatch,
        LangChainPatch,
        GroqPatch,
        TogetherPatch,
        BedrockPatch,
        MistralPatch,
        CoherePatch,
        LiteLLMPatch,
    )
}

_installed: dict[str, BasePatch] = {}
_failed: set[str] = set()
_python: tuple[BasePatch, ...] = (LoopsPatch(), ThreadsPatch())
"""Hooks in the standard library, which propagate the Scope."""
_lock = threading.RLock()


def patch_class(name: str) -> type[BasePatch]:
    """Return the patch called `name`, else raise `ConfigurationError` with the known ones."""
    try:
        return PATCH_REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(PATCH_REGISTRY))
        raise ConfigurationError(f"patches: {name!r} is not known; known are: {known}") from None


def install(name: str, engine: Engine) -> bool:
    """Hook an SDK for a Meter; False when the SDK is not installed or cannot be hooked."""
    if not _importable(patch_class(name).module):
        return False
    with _lock:
        hooked = [_claim(key, name, engine) for key in _hooks_of(name) if _importable(PATCH_REGISTRY[key].module)]
        return hooked[0]


def _hooks_of(name: str) -> list[str]:
    """List the patches whose hooks a name uses, the SDK's own first."""
    cls = patch_class(name)
    return [cls.through or name, *cls.also]


def _claim(key: str, name: str, engine: Engine) -> bool:
    patch = _installed.get(key)
    new = patch is None
    if patch is None:
        patch = _installed[key] = PATCH_REGISTRY[key]()
    patch.names.setdefault(engine, set()).add(name)
    if key in PATCH_REGISTRY[name].also:
        patch.whole.add(name)
    patch.claimed()
    if engine not in patch.engines:
        patch.engines.append(engine)
    return _install_now_or_on_import(patch) if new else True


def uninstall(name: str, engine: Engine) -> None:
    """Remove a Meter's claim on a hook; the last claim restores the SDK, the Meter's last one restores asyncio."""
    with _lock:
        for key in _hooks_of(name):
            patch = _installed.get(key)
            names = None if patch is None else patch.names.get(engine)
            if patch is None or names is None or name not in names:
                continue
            names.remove(name)
            if not names:
                del patch.names[engine]
                patch.engines.remove(engine)
            patch.claimed()
            if not patch.engines:
                del _installed[patch.name]
                patch.uninstall()
        if not any(engine in patch.names for patch in _installed.values()):
            leave(engine)


def uninstall_all(engine: Engine) -> None:
    """Remove every claim of a Meter."""
    with _lock:
        for name in {name for patch in _installed.values() for name in patch.names.get(engine, ())}:
            uninstall(name, engine)
        leave(engine)


def attend(engine: Engine) -> None:
    """Let the Scope follow event loops and threads for a Meter, also where there is no SDK to hook.

    From now on the import of an SDK that no patch meters is warned about.
    """
    with _lock:
        for patch in _python:
            if engine not in patch.engines:
                patch.engines.append(engine)
            patch.install()
        unmetered.watch(engine, _python[0].engines, _metered)


def unmetered_sdks() -> list[str]:
    """List the installed SDKs that cost money and that no patch meters, by distribution; none is imported for it."""
    return unmetered.installed(_metered())


def _metered() -> Iterator[str | None]:
    """List the names and the modules of all patches."""
    for name, cls in PATCH_REGISTRY.items():
        yield from (name, cls.module)


def leave(engine: Engine) -> None:
    """Undo `attend`. The last Meter restores the standard library."""
    with _lock:
        for patch in _python:
            if engine in patch.engines:
                patch.engines.remove(engine)
            if not patch.engines:
                patch.uninstall()


def engines() -> list[Engine]:
    """List the Meters that have a hook in any SDK, or would have one if there was an SDK."""
    with _lock:
        return list(dict.fromkeys(engine for patch in (*_installed.values(), *_python) for engine in patch.engines))


def state(name: str) -> str:
    """Return the state of a patch: "installed", "waiting for import", "failed", "not installed" (the SDK) or "off"."""
    key = PATCH_REGISTRY[name].through or name
    patch = _installed.get(key)
    if patch is not None and any(name in names for names in patch.names.values()):
        return "waiting for import" if patch.waiting else "installed"
    if key in _failed:
        return "failed"
    return "off" if _importable(PATCH_REGISTRY[name].module) else "not installed"


def status() -> dict[str, dict[str, Any]]:
    """Return the state of each patch, its SDK (the module) and version, what it meters and what it does not."""
    return {
        name: {
            "state": state(name),
            "sdk": cls.module,
            "version": None if cls.module is None else _version_of(cls.module),
            "guards": list(cls.guards),
            "not_guarded": [*cls.not_guarded, *(f"{what}.connect" for _, _, what in cls.websockets)],
        }
        for name, cls in PATCH_REGISTRY.items()
    }


@functools.cache
def _version_of(module: str) -> str | None:
    """Return the version of an SDK without importing it; distributions of SDKs are named as their modules."""
    from importlib import metadata  # takes longer to import than all of ours

    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return None


def _importable(module: str | None) -> bool:
    if module is None or module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a parent package is missing
        return False


def _install_now_or_on_import(patch: BasePatch) -> bool:
    if patch.module is None or patch.lazy or patch.module in sys.modules:
        return _install(patch)

    def imported(module: object) -> None:
        if _installed.get(patch.name) is patch:  # no lock: the importing thread holds the import's already
            _install(patch)

    wrapt.register_post_import_hook(imported, patch.module)
    return True


def _install(patch: BasePatch) -> bool:
    """Install the hooks. An SDK that is not as expected is left as it is: neither start-up nor import fails."""
    try:
        patch.install()
    except Exception:
        _installed.pop(patch.name, None)
        _failed.add(patch.name)
        report(f"hooking {patch.name}")
        return False
    _failed.discard(patch.name)
    return True
