"""Reading what an SDK answers, parsed or as JSON; nothing in it is trusted to be of its declared type."""

from __future__ import annotations

import sys
import uuid
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


def with_fields(value: Any, **fields: Any) -> Any:
    """Copy a JSON object or a pydantic model with other fields."""
    return {**value, **fields} if isinstance(value, Mapping) else value.model_copy(update=fields)


def made_like(value: Any, name: str, **fields: Any) -> Any:
    """Make an object of a type that stands beside another's, by its name; a dict where the other is one."""
    if isinstance(value, Mapping):
        return fields
    module = type(value).__module__
    places = (sys.modules[place] for place in (module, module.rpartition(".")[0]))
    cls = next(getattr(place, name) for place in places if hasattr(place, name))
    return cls.construct(**fields)


def count(value: Any) -> int | None:
    """Return a count; what is none was not reported."""
    return value if type(value) is int and value >= 0 else None


def text(value: Any) -> str | None:
    """Return a text that says something."""
    return value if isinstance(value, str) and value else None


def seconds(value: Any) -> float | None:
    """Return a duration; some releases of Whisper answer it as text."""
    try:
        duration = None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return duration if duration is not None and 0 <= duration < float("inf") else None


def event_id_of(what: str, its_id: str) -> str:
    """Make the id of the event of something that is told more than once: the same in every process, for ever."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"token-limit:{what}:{its_id}"))
