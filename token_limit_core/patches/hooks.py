"""How the funnel of a Stainless SDK is got at: wrapping its methods, and telling its raw answers from parsed ones."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from typing import Any


def hook(original: Any, around: Any) -> Any:
    """Wrap a method in a function with the same signature: a third of a `wrapt.FunctionWrapper`'s time."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def ahook(instance: Any, *args: Any, **kwargs: Any) -> Any:
            return await around(original.__get__(instance), instance, args, kwargs)

        return ahook

    @functools.wraps(original)
    def hook(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original.__get__(instance), instance, args, kwargs)

    return hook


def raw_types(package: str) -> list[type]:
    """List the SDK's raw response classes; not every version has every module."""
    found: list[type] = []
    for module, names in (
        ("_response", ("BaseAPIResponse", "APIResponse", "AsyncAPIResponse")),
        ("_legacy_response", ("LegacyAPIResponse",)),
    ):
        with contextlib.suppress(ImportError):
            loaded = importlib.import_module(f"{package}.{module}")
            found += [getattr(loaded, name) for name in names if hasattr(loaded, name)]
    return found
