"""The registry of patches, and the one physical installation of each.

Patches are process-wide and counted: two Meters share one wrapper, and the last to leave takes it out.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .base import BasePatch
from .openai import OpenAIPatch

if TYPE_CHECKING:
    from ..meter import Meter

__all__ = ["PATCH_REGISTRY", "BasePatch"]

PATCH_REGISTRY: dict[str, type[BasePatch]] = {"openai": OpenAIPatch}

_installed: dict[str, BasePatch] = {}
_lock = threading.RLock()


def patch_class(name: str) -> type[BasePatch]:
    """Return the patch called `name`, else raise `ConfigurationError` with the known ones."""
    try:
        return PATCH_REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(PATCH_REGISTRY))
        raise ConfigurationError(f"patches: {name!r} is not known; known are: {known}") from None


def install(name: str, meter: Meter) -> bool:
    """Hook an SDK for a Meter; False when the SDK is not installed."""
    cls = patch_class(name)
    if cls.module is not None and cls.module not in sys.modules and importlib.util.find_spec(cls.module) is None:
        return False
    with _lock:
        patch = _installed.get(name)
        if patch is None:
            patch = _installed[name] = cls()
            patch.meters.append(meter)
            _install_now_or_on_import(patch)
        elif meter not in patch.meters:
            patch.meters.append(meter)
    return True


def uninstall(name: str, meter: Meter) -> None:
    """Take a Meter's claim on a hook back; the last one restores the SDK."""
    with _lock:
        patch = _installed.get(name)
        if patch is None or meter not in patch.meters:
            return
        if len(patch.meters) > 1:
            patch.meters.remove(meter)
            return
        del _installed[name]
        patch.uninstall()


def state(name: str) -> str:
    """Say how a patch stands: "installed", "waiting for import", "not installed" (the SDK) or "off"."""
    cls = PATCH_REGISTRY[name]
    patch = _installed.get(name)
    if patch is not None:
        return "installed" if patch.active else "waiting for import"
    if cls.module is not None and importlib.util.find_spec(cls.module) is None:
        return "not installed"
    return "off"


def _install_now_or_on_import(patch: BasePatch) -> None:
    if patch.module is None or patch.module in sys.modules:
        patch.install()
        return
    import wrapt

    def imported(module: object) -> None:
        with _lock:
            if _installed.get(patch.name) is patch:
                patch.install()

    wrapt.register_post_import_hook(imported, patch.module)
