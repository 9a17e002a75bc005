"""What an application tells of a call itself, by hand or by a custom extractor: read with suspicion, field by field."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..events import EVENT_FIELDS, LONGEST_ID, PARSERS, as_length, fields_of_kind, is_event_id, safe_error
from ..runtime.faults import ConfigurationError
from ..usage import CACHE_OUTSIDE_INPUT, USAGE_FIELDS, Usage
from .failures import describe_error
from .request import Outcome

logger: logging.Logger = logging.getLogger("token_limit")

CONTENT_FIELDS = fields_of_kind("content")


def outcome_of(
    fields: Mapping[str, Any], provider: str, error: BaseException | None = None, *, capture: bool = False
) -> Outcome:
    """Sort event fields into an Outcome; None is not told, and what only we may set is dropped with a debug log.

    The counts mean what they mean at their provider: `provider`, unless the fields name another. Texts from before and
    after a gap become their lengths unless `capture`.
    Raises `ConfigurationError` naming a field that cannot be used.
    """
    outcome, told = Outcome(error=error, answered=error is None), {}
    for name, value in fields.items():
        if name not in _READERS:
            logger.debug("dropped the unknown event field %r", name)
        elif value is not None:
            told[name] = _READERS[name](value, name)
    for name in () if capture else CONTENT_FIELDS:
        if name in told:
            told[name] = as_length(told[name])
    if not USAGE_FIELDS.isdisjoint(fields):
        outcome.usage = Usage(**{name: told.pop(name) for name in USAGE_FIELDS & told.keys()})
        _complete(outcome.usage, told.get("provider", provider))
    outcome.model = told.pop("model", None)
    outcome.request_id = told.pop("request_id", None)
    outcome.service_tier = told.pop("service_tier", None)
    outcome.tags = told.pop("tags", {})
    outcome.extracted = bool(told)
    outcome.cost_usd = told.pop("cost_usd", None)
    outcome.fields = told
    return outcome


def _complete(usage: Usage, provider: str) -> None:
    """Fill in what follows from the counts that were told of the cache."""
    written = [count for count in (usage.cache_creation_5m_tokens, usage.cache_creation_1h_tokens) if count is not None]
    if usage.cache_creation_tokens is None and written:
        usage.cache_creation_tokens = sum(written)
    if provider in CACHE_OUTSIDE_INPUT:
        usage.cache_outside_input = True
        if usage.total_tokens is None and usage.output_tokens is not None:
            usage.total_tokens = usage.received() + usage.output_tokens


def parse_event_id(value: object) -> str:
    """Return an event id of 1 to 64 printable characters, else raise `ConfigurationError`; a UUID may be an object."""
    event_id = str(value)
    if not is_event_id(event_id):
        raise ConfigurationError(
            f"event_id: invalid value {event_id[: 2 * LONGEST_ID]!r}; expected 1 to {LONGEST_ID} printable characters"
        )
    return event_id


def parse_error(value: object) -> str | None:
    """Name an error that is told as an exception or in words, never with its message; None is none."""
    if value is None:
        return None
    return describe_error(value) if isinstance(value, BaseException) else safe_error(str(value))


def _name(value: object, name: str) -> str:
    return str(value)


_PARSERS = {**PARSERS, "name": _name}
_READERS = {name: _PARSERS[rule.kind] for name, rule in EVENT_FIELDS.items() if rule.given}
"""What an application may set of an event, and what parses it."""
