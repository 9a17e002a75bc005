"""Helpers for the funnel of a Stainless SDK: wrap methods, change arguments, find raw response classes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from typing import Any

from .surfaces import Plan


def hook(original: Any, around: Any) -> Any:
    """Wrap a method in a function with the same signature."""
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


def refuses_stream_options(plan: Plan, error: Exception) -> bool:
    """Return whether an error is a 400 or 422, perhaps because of a field that we added.

    Providers name it, in the text or as Azure's model hosts in the body alone. A gateway of the application may not.
    """
    if not plan.injected or getattr(error, "status_code", None) not in (400, 422):
        return False
    if plan.gateway:
        return True
    named = f"{error} {getattr(error, 'body', None)}"
    return "stream_options" in named or "include_usage" in named
