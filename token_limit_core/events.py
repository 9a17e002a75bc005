"""LLMEvent: the record of one metered call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar

from .money import MAX_COST_USD, parse_amount, to_usd
from .runtime.clock import system_time
from .runtime.faults import ConfigurationError, shown
from .runtime.ids import new_id
from .usage import USAGE_FIELDS, parse_count, parse_number

T = TypeVar("T")

_new = object.__new__


def made_of(cls: type[T], fields: dict[str, Any]) -> T:
    """Make a record that takes over a dict of what is set, unchecked, in a fraction of its constructor's time.

    For dataclasses with many fields of which few are set: the defaults of the others stay on the class. Fields
    without a plain default must be in it.
    """
    record = _new(cls)
    record.__dict__ = fields
    return record


class _Dollars:
    """The cost of an event that has its `cost_nano`, worked out for those who ask: most events are only stored."""

    def __get__(self, event: object | None, cls: type) -> Decimal | None:
        nano = None if event is None else vars(event).get("cost_nano")
        return None if nano is None else to_usd(nano)


class _Charge:
    """The charge of an event that has no markup: its cost."""

    def __get__(self, event: LLMEvent | None, cls: type) -> Decimal | None:
        return None if event is None else event.cost_usd


@dataclass
class LLMEvent:
    """One call, as it is stored and delivered. Field names are a public contract (SPEC 1.4).

    `timestamp` is when the call was admitted (unix seconds); `duration_ms` milliseconds until its end;
    `cost_usd` US dollars that the provider takes, None when no price is known; `charge_usd` what the tenant is billed,
    which is the cost unless there is a markup. No prompt or completion text is ever in here.
    """

    event_id: str = field(default_factory=new_id)
    tenant_id: str = ""
    session_id: str | None = None
    provider: str = "unknown"
    model: str = ""
    endpoint: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    duration_ms: float | None = None
    timestamp: float = field(default_factory=system_time)
    request_id: str | None = None
    stream: bool = False
    error: str | None = None
    duration_seconds: float | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cached_audio_tokens: int | None = None
    input_video_tokens: int | None = None
    output_video_tokens: int | None = None
    character_count: int | None = None
    input_text_tokens: int | None = None
    cached_input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    cached_input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    image_count: int | None = None
    cache_creation_tokens: int | None = None
    cache_creation_5m_tokens: int | None = None
    cache_creation_1h_tokens: int | None = None
    cache_miss_tokens: int | None = None
    reasoning_tokens: int | None = None
    web_searches: int | None = None
    file_searches: int | None = None
    rerank_searches: int | None = None
    document_pages: int | None = None
    annotated_pages: int | None = None
    containers: int | None = None
    cost_usd: Decimal | None = _Dollars()  # type: ignore[assignment]
    charge_usd: Decimal | None = _Charge()  # type: ignore[assignment]
    upstream_provider: str | None = None
    fim_prefix: str | None = None
    fim_suffix: str | None = None
    price_version: str | None = None
    price_source: str | None = None
    service_tier: str | None = None
    user: str | None = None
    feature: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.charge_usd is None:
            del self.charge_usd  # which leaves the cost

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are not None, amounts as decimal strings; a charge that is the cost is left out."""
        row = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        if row.get("charge_usd") == row.get("cost_usd"):
            row.pop("charge_usd", None)
        for name in AMOUNTS & row.keys():
            row[name] = f"{row[name]:f}"
        return row


def own_copy(event: LLMEvent) -> LLMEvent:
    """Copy an event for the application's code, which may change its copy, tags included, without touching a record."""
    amounts = {name: getattr(event, name) for name in AMOUNTS}
    return made_of(LLMEvent, {**vars(event), **amounts, "tags": dict(event.tags)})


FIELDS: tuple[str, ...] = tuple(f.name for f in fields(LLMEvent))
AMOUNTS = frozenset(("cost_usd", "charge_usd"))
"""The fields in US dollars."""

Kind = Literal["id", "tenant", "time", "text", "name", "content", "error", "count", "number", "cost", "flag", "tags"]


class EventField(NamedTuple):
    """What a field of an event holds, where the ledger keeps it, and who may set it.

    A `name` is a text that an application may have as a number. `content` is text of a call, kept as its length. A
    `column` is one of the ledger's own, for texts of `width` characters; the other fields share `details`. A field that
    is not `given` has an argument of its own where an event is tracked by hand, and no custom extractor may set it.
    """

    kind: Kind
    column: bool = False
    width: int | None = None
    given: bool = True


def _text(width: int, kind: Kind = "text", given: bool = True) -> EventField:
    return EventField(kind, True, width, given)


_COUNT = EventField("count")

EVENT_FIELDS: dict[str, EventField] = {
    **{name: _COUNT for name in FIELDS if name in USAGE_FIELDS},
    "event_id": EventField("id", column=True, given=False),
    "tenant_id": EventField("tenant", column=True, given=False),
    "session_id": _text(255, "name", given=False),
    "provider": _text(64),
    "model": _text(255),
    "endpoint": _text(64),
    "input_tokens": EventField("count", column=True),
    "output_tokens": EventField("count", column=True),
    "total_tokens": EventField("count", column=True),
    "cached_tokens": EventField("count", column=True),
    "cache_creation_tokens": EventField("count", column=True),
    "reasoning_tokens": EventField("count", column=True),
    "cache_miss_tokens": _COUNT,
    "duration_seconds": EventField("number"),
    "duration_ms": EventField("number", column=True),
    "timestamp": EventField("time", column=True, given=False),
    "request_id": _text(255, "name"),
    "stream": EventField("flag", column=True),
    "error": _text(255, "error", given=False),
    "cost_usd": EventField("cost", column=True),
    "charge_usd": EventField("cost", column=True),
    "upstream_provider": EventField("text"),
    "fim_prefix": EventField("content"),
    "fim_suffix": EventField("content"),
    "price_version": _text(64),
    "price_source": EventField("text"),
    "service_tier": _text(64),
    "user": _text(255, "name"),
    "feature": _text(255, "name"),
    "tags": EventField("tags"),
}
"""Every field of an event. Ingest and tracking by hand are two policies over this table."""


def fields_of_kind(*kinds: Kind) -> tuple[str, ...]:
    """List the fields of some kinds."""
    return tuple(name for name, rule in EVENT_FIELDS.items() if rule.kind in kinds)


def parse_text(value: object, name: str) -> str:
    """Return a text, else raise `ConfigurationError` naming it."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: invalid value {shown(value)}; expected a text")
    return value


def parse_cost(value: Any, name: str) -> Decimal:
    """Return an event's cost in US dollars, else raise `ConfigurationError` naming it."""
    return to_usd(parse_amount(value, name, MAX_COST_USD))


def parse_flag(value: object, name: str) -> bool:
    """Return True or False, else raise `ConfigurationError` naming it."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: invalid value {shown(value)}; expected True or False")
    return value


def parse_tags(value: object, name: str) -> dict[str, Any]:
    """Return a copy of a dict, else raise `ConfigurationError` naming it."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{name}: invalid value {shown(value)}; expected a dict, for example {{'plan': 'gold'}}"
        )
    return dict(value)


PARSERS: Mapping[Kind, Callable[[Any, str], Any]] = {
    "text": parse_text,
    "content": parse_text,
    "name": parse_text,
    "error": parse_text,
    "count": parse_count,
    "number": parse_number,
    "cost": parse_cost,
    "flag": parse_flag,
    "tags": parse_tags,
}
"""What parses a value of each kind but those that every event must have."""


def event_of(row: Mapping[str, Any]) -> LLMEvent:
    """Make an event from what `to_dict` gave, also after JSON; fields that are not known are left out."""
    known = {name: value for name, value in row.items() if name in _NAMES}
    for name in AMOUNTS & known.keys():
        known[name] = None if known[name] is None else Decimal(str(known[name]))
    return LLMEvent(**known)


_NAMES = frozenset(FIELDS)

LONGEST_ID = 64
"""Characters of an event id: those of a hold's, which it closes."""

_LENGTH = re.compile(r"[0-9]+ characters")
_CLASS = r"(?:[^\W\d][\w.]{0,63}|[1-5][0-9]{2})"
_STATUS = r" [1-5][0-9]{2}"
_ERROR = re.compile(rf"{_CLASS}(?:{_STATUS}(?: [\w.:-]{{1,64}})?| (?=\w*_)\w{{1,64}})?")
_START_OF_ERROR = re.compile(rf"{_CLASS}(?:{_STATUS})?(?=[ :]|$)")


def is_event_id(text: str) -> bool:
    """Tell whether a text can name an event: 1 to 64 printable characters, such as a UUID's."""
    return 1 <= len(text) <= LONGEST_ID and text.isprintable()


def as_length(text: str) -> str:
    """Tell a text by its length alone; what tells a length already stays as it is."""
    return text if _LENGTH.fullmatch(text) else f"{len(text)} characters"


def safe_error(text: str) -> str:
    """Return what is safe of an error that is told in words: its class, HTTP status and provider code, no message."""
    if _ERROR.fullmatch(text):
        return text
    start = _START_OF_ERROR.match(text)
    return "error" if start is None else start[0]
