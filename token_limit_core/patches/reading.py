"""Reading what an SDK answers, parsed or as JSON; nothing in it is trusted to be of its declared type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fields_of(value: Any) -> Mapping[str, Any]:
    """Give the fields of a JSON object or a pydantic model without touching attributes it may lack (4 us each)."""
    if type(value) is dict:
        return value
    if value is None:
        return {}
    try:
        extra = value.__pydantic_extra__
    except AttributeError:
        return value if isinstance(value, Mapping) else {}
    return {**vars(value), **extra} if extra else vars(value)


def count(value: Any) -> int | None:
    """Return a count; what is none was not reported."""
    return value if type(value) is int and value >= 0 else None


def text(value: Any) -> str | None:
    """Return a text that says something."""
    return value if isinstance(value, str) and value else None
