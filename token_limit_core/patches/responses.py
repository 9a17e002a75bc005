"""How the Responses API answers, and what else is made in the background: assistants' runs and batches.

Nothing is billed when work is only queued. What it has cost is told when it is asked for, maybe more than once and by
another process, so its event has an id made from its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..calls.request import Outcome
from ..usage import Part, Usage
from .chat import StreamReader, read_answer
from .images import image_usage
from .reading import count, event_id_of, fields_of, text

WAITING = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
DONE = frozenset({"completed", "expired", "cancelled", "failed"})
"""How a batch ends; its usage is zero or growing until then."""


def read_response(answer: Any) -> Outcome:
    """Read a response, parsed or as JSON."""
    row = fields_of(answer)
    return _with_tools(_in_background(read_answer(row), row, row.get("background") is True), row)


def read_run(answer: Any) -> Outcome:
    """Read an assistant's run, which is always made in the background."""
    row = fields_of(answer)
    return _in_background(read_answer(row), row, True)


def read_batch(answer: Any) -> Outcome:
    """Read a batch: the usage of all its requests, at the price of a batch."""
    row = fields_of(answer)
    outcome = read_answer(row)
    if outcome.usage is not None and row.get("status") in DONE:
        outcome.event_id = event_id_of("batch", str(row.get("id")))
        outcome.service_tier = "batch"
    return outcome


class EventReader(StreamReader):
    """Follows a responses stream: usage comes once, with the response that ends it."""

    __slots__ = ()

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = event if type(event) is dict else event.__dict__
        kind = row.get("type")
        if kind in ENDS or kind == "response.created" or kind == "response.queued":
            self.answer = row.get("response")
            self.usage = fields_of(self.answer).get("usage")
        elif isinstance(kind, str) and kind.endswith(".delta"):
            self.chunks += 1
            words = row.get("delta")
            if isinstance(words, str):
                self.letters += len(words)
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        row = fields_of(self.answer)
        return _with_tools(_in_background(super().outcome(error), row, row.get("background") is True), row)


class RunReader(StreamReader):
    """Follows the run of an assistant: events of several kinds, of which the run itself tells its usage."""

    __slots__ = ()

    def see(self, event: Any) -> bool:
        """Look at an event, or at its data alone, which is all that is in the bytes; none is ever hidden."""
        row = fields_of(event)
        data = fields_of(row["data"]) if "data" in row and "event" in row else row
        if data.get("object") == "thread.run":
            self.answer = data
            self.usage = data.get("usage")
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        return _in_background(super().outcome(error), fields_of(self.answer), True)


def _in_background(outcome: Outcome, row: Mapping[str, Any], background: bool) -> Outcome:
    """Let work in the background count once: when it tells its usage, under an id of its own."""
    if not background:
        return outcome
    if outcome.usage is not None:
        outcome.event_id = event_id_of("response", str(row.get("id")))
    elif row.get("status") in WAITING:
        outcome.usage = Usage(input_tokens=0, output_tokens=0)
        outcome.tags = {"background": True}
    return outcome


def _with_tools(outcome: Outcome, row: Mapping[str, Any]) -> Outcome:
    """Add what the provider's own tools have used: searches, and images, which another model makes."""
    if outcome.usage is None:
        return outcome
    output = row.get("output")
    told = fields_of(row.get("tool_usage"))
    items = [fields_of(item) for item in output] if isinstance(output, list) and output else []
    searches = count(fields_of(told.get("web_search")).get("num_requests"))
    if searches is None:
        searches = sum(map(_is_search, items)) or None
    outcome.usage.web_searches = searches
    outcome.usage.file_searches = sum(item.get("type") == "file_search_call" for item in items) or None
    images = sum(item.get("type") == "image_generation_call" for item in items)
    used = fields_of(told.get("image_gen"))
    if images or count(used.get("total_tokens")):
        usage = image_usage(used, images)
        outcome.parts = (Part(_image_model(row, items), usage, counted=False),)
        outcome.fields = {name: n for name in IMAGE_FIELDS if (n := getattr(usage, name)) is not None}
    return outcome


IMAGE_FIELDS = (
    "input_text_tokens",
    "cached_input_text_tokens",
    "input_image_tokens",
    "cached_input_image_tokens",
    "output_image_tokens",
    "image_count",
)


def _is_search(item: Mapping[str, Any]) -> bool:
    """Tell a search from a page that is opened or searched in, which costs nothing."""
    return item.get("type") == "web_search_call" and fields_of(item.get("action")).get("type", "search") == "search"


def _image_model(row: Mapping[str, Any], items: list[Mapping[str, Any]]) -> str:
    """Name the model that made the images: the item tells, or the tool's settings, else it is the tool's default."""
    tools = row.get("tools")
    for part in (*items, *(map(fields_of, tools) if isinstance(tools, list) else ())):
        if part.get("type") in ("image_generation_call", "image_generation") and text(part.get("model")):
            return str(part["model"])
    return "gpt-image-1"
