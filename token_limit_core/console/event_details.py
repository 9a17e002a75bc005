"""What is known of an event, in groups and in the words of people."""

from __future__ import annotations

from typing import Any

from ..events import LLMEvent
from ..money import to_usd
from ..runtime.language import translate
from ..stores.entries import Entry
from ..wording import count, number, usd

NO_PRICE = "no price known"
GROUPS: dict[str, dict[str, str]] = {
    "Who": {
        "tenant_id": "Tenant", "user": "User", "feature": "Feature", "session_id": "Session",
    },
    "What": {
        "provider": "Provider", "upstream_provider": "Served by", "model": "Model", "endpoint": "Endpoint",
        "service_tier": "Service tier", "stream": "Streamed", "error": "Error", "request_id": "Request id",
        "event_id": "Event id",
    },
    "Tokens": {
        "input_tokens": "In", "output_tokens": "Out", "total_tokens": "Total", "cached_tokens": "Read from cache",
        "cache_creation_tokens": "Written to cache", "cache_miss_tokens": "Not in cache",
        "reasoning_tokens": "Reasoning", "audio_input_tokens": "Audio in", "audio_output_tokens": "Audio out",
        "cached_audio_tokens": "Audio read from cache", "input_video_tokens": "Video in",
        "output_video_tokens": "Video out", "input_text_tokens": "Text in",
        "cached_input_text_tokens": "Text read from cache", "input_image_tokens": "Image in",
        "cached_input_image_tokens": "Image read from cache", "output_image_tokens": "Image out",
    },
    "Other counts": {
        "image_count": "Images", "character_count": "Characters", "duration_seconds": "Seconds of audio",
        "web_searches": "Web searches", "file_searches": "File searches", "rerank_searches": "Rerank searches",
        "document_pages": "Pages", "annotated_pages": "Annotated pages", "containers": "Containers",
    },
    "Money": {
        "charge_usd": "Charged", "cost_usd": "Cost", "price_source": "Price from", "price_version": "Price list",
    },
    "Timing": {"duration_ms": "Duration"},
}  # fmt: skip
"""The fields of each group, and what people call them."""

TAGS = {
    "requested_model": "Requested model",
    "estimated": "Estimated",
    "unverified": "Limit not checked",
    "price_assumed": "Price assumed from",
    "unpriced": "Without a price",
    "lost_attempts": "Attempts that were lost",
    "would_refuse": "Would have been refused by",
}


def details(entry: Entry) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the groups of an event, each with its facts: what a fact is called, and its value, in words."""
    values = entry.event.to_dict() | {"cost_usd": entry.cost_nano}
    found = [(group, _facts(names, values)) for group, names in GROUPS.items()]
    marks = [
        (translate(TAGS[name]) if name in TAGS else name, _text(name, value))
        for name, value in entry.event.tags.items()
    ]
    if entry.corrects is not None:
        marks.append((translate("Corrects"), entry.corrects))
    rest = _rest(entry.event, values)
    return [(translate(group), facts) for group, facts in [*found, ("Marks", marks), ("Other", rest)] if facts]


def _facts(names: dict[str, str], values: dict[str, Any]) -> list[tuple[str, str]]:
    shown = ((name, label) for name, label in names.items() if name == "cost_usd" or values.get(name))
    return [(translate(label), _text(name, values.get(name))) for name, label in shown]


def _rest(event: LLMEvent, values: dict[str, Any]) -> list[tuple[str, str]]:
    known = {name for names in GROUPS.values() for name in names} | {"timestamp", "tags"}
    return [(name, str(value)) for name, value in values.items() if name not in known and value not in (None, "")]


def _text(name: str, value: Any) -> str:
    if name == "cost_usd":
        return translate(NO_PRICE) if value is None else usd(f"{to_usd(value):,.9f}")
    if name == "duration_ms":
        return number(f"{value / 1000:,.3f} s")
    if isinstance(value, bool):
        return translate("Yes") if value else translate("No")
    if isinstance(value, int):
        return count(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
