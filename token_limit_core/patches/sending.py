"""Changing what is sent: the copy of a call's options that asks for usage, and the bound of one that is clamped."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ..calls.request import Request
from .base import Arguments
from .surfaces import Plan

NEW_NAMES = frozenset({"azure", "openai"})
"""Providers that take the newest name of a bound, and for some models no older one; others take the oldest for all."""


def bound_of(request: Request) -> str:
    """Return the field that bounds the output of a call at its provider."""
    return request.bounds[0 if request.provider in NEW_NAMES else -1]


def to_send(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments of a Stainless SDK's `request` with what is changed; the caller's own are never touched."""
    if plan.clamped is None and not plan.injected:
        return args, kwargs
    options = plan.asking if plan.injected else plan.options
    if plan.clamped is not None:
        options = with_field(options, bound_of(plan), plan.clamped)
    if "options" in kwargs:
        return args, {**kwargs, "options": options}
    return (args[0], options, *args[2:]), kwargs


def with_field(options: Any, name: str, value: Any) -> Any:
    """Copy the options with a field of the body set, in the part of them that wins."""
    changed = copy.copy(options)
    extra = getattr(options, "extra_json", None)
    if isinstance(extra, Mapping) and name in extra:
        changed.extra_json = {**extra, name: value}
    else:
        changed.json_data = {**options.json_data, name: value}
    return changed
