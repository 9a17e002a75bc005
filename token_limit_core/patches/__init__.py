"""The registry of patches, and the one physical installation of each.

Patches are process-wide and counted: two Meters share one wrapper, and the last to leave takes it out.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from typing import TYPE_CHECKING, Any

import wrapt

from ..errors import ConfigurationError, report
from .aliases import DeepSeekPatch, LangChainPatch, OpenRouterPatch
from .anthropic import AnthropicPatch
from .asyncio_runner import LoopsPatch
from .base import BasePatch
from .google import GooglePatch
from .openai import GroqPatch, OpenAIPatch, TogetherPatch

if TYPE_CHECKING:
    from ..meter import Meter

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
    )
}

_installed: dict[str, BasePatch] = {}
_failed: set[str] = set()
_loops = LoopsPatch()
_lock = threading.RLock()


def patch_class(name: str) -> type[BasePatch]:
    """Return the patch called `name`, else raise `ConfigurationError` with the known ones."""
    try:
        return PATCH_REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(PATCH_REGISTRY))
        raise ConfigurationError(f"patches: {name!r} is not known; known are: {known}") from None


def install(name: str, meter: Meter) -> bool:
    """Hook an SDK for a Meter; False when the SDK is not installed or cannot be hooked."""
    cls = patch_class(name)
    if not _importable(cls.module):
        return False
    with _lock:
        patch = _installed.get(cls.through or name)
        new = patch is None
        if patch is None:
            patch = _installed[cls.through or name] = PATCH_REGISTRY[cls.through or name]()
        patch.names.setdefault(meter, set()).add(name)
        patch.claimed()
        if meter not in patch.meters:
            patch.meters.append(meter)
        return _install_now_or_on_import(patch) if new else True


def uninstall(name: str, meter: Meter) -> None:
    """Take a Meter's claim on a hook back; the last one restores the SDK."""
    with _lock:
        patch = _installed.get(PATCH_REGISTRY[name].through or name)
        names = None if patch is None else patch.names.get(meter)
        if patch is None or names is None or name not in names:
            return
        names.remove(name)
        if not names:
            del patch.names[meter]
            patch.meters.remove(meter)
        patch.claimed()
        if not patch.meters:
            del _installed[patch.name]
            patch.uninstall()


def attend(meter: Meter) -> None:
    """Tell apart whose runs those of a kept event loop are; without any SDK, too, for what is tracked by hand."""
    with _lock:
        if meter not in _loops.meters:
            _loops.meters.append(meter)
        _loops.install()


def leave(meter: Meter) -> None:
    """Take back what `attend` did; the last Meter to leave restores asyncio."""
    with _lock:
        if meter in _loops.meters:
            _loops.meters.remove(meter)
        if not _loops.meters:
            _loops.uninstall()


def meters() -> list[Meter]:
    """List the Meters that have a hook in any SDK, or would have one if there was an SDK."""
    with _lock:
        return list(dict.fromkeys(meter for patch in (*_installed.values(), _loops) for meter in patch.meters))


def state(name: str) -> str:
    """Say how a patch stands: "installed", "waiting for import", "failed", "not installed" (the SDK) or "off"."""
    key = PATCH_REGISTRY[name].through or name
    patch = _installed.get(key)
    if patch is not None and any(name in names for names in patch.names.values()):
        return "installed" if patch.active else "waiting for import"
    if key in _failed:
        return "failed"
    return "off" if _importable(PATCH_REGISTRY[name].module) else "not installed"


def status() -> dict[str, dict[str, Any]]:
    """Report how each patch stands, its SDK (the module) and the version, what it guards, and what it does not."""
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
    if patch.module is None or patch.module in sys.modules:
        return _install(patch)

    def imported(module: object) -> None:
        if _installed.get(patch.name) is patch:  # no lock: the importing thread holds the import's already
            _install(patch)

    wrapt.register_post_import_hook(imported, patch.module)
    return True


def _install(patch: BasePatch) -> bool:
    """Put the hooks in; an SDK that is not as expected stays as it is, and neither start-up nor import break."""
    try:
        patch.install()
    except Exception:
        _installed.pop(patch.name, None)
        _failed.add(patch.name)
        report(f"hooking {patch.name}")
        return False
    _failed.discard(patch.name)
    return True
