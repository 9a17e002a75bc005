"""How the Responses API answers, and what else is made in the background: assistants' runs.

Nothing is billed when work is only queued. Its cost is reported when it is polled, maybe more than once and by
another process, so its event has an id made from its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..calls.request import Outcome
from ..pricing.price_list import CODE_INTERPRETER
from ..usage import Part, Usage
from .chat import StreamReader, read_answer
from .images import image_usage
from .reading import count, event_id_of, fields_of, made_like, text, with_fields
from .whole import ErrorAnswer

WAITING = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
ENDED = frozenset({"completed", "incomplete"})
FAILED = frozenset({"cancelled", "expired", "failed"})
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def read_response(answer: Any) -> Outcome:
    """Read a response, parsed or as JSON."""
    row = fields_of(answer)
    return _with_tools(_in_background(read_answer(row), row, row.get("background") is True), row)


def read_run(answer: Any) -> Outcome:
    """Read an assistant's run, which is always made in the background."""
    row = fields_of(answer)
    return _in_background(read_answer(row), row, True)


class EventReader(StreamReader):
    """Follows a responses stream: usage comes once, with the response that ends it."""

    __slots__ = ("failed", "last")

    def __init__(self, request_id: str | None, injected: bool) -> None:
        super().__init__(request_id, injected)
        self.last: Any = None
        self.failed: ErrorAnswer | None = None

    def see(self, event: Any) -> bool:
        """Look at an event; none is ever hidden."""
        row = event if type(event) is dict else event.__dict__
        kind = row.get("type")
        if kind in ENDS or kind == "response.created" or kind == "response.queued":
            self.answer = row.get("response")
            self.usage: Any = fields_of(self.answer).get("usage")
        elif kind == "error":
            self.failed = ErrorAnswer(row.get("error") or row)
        elif isinstance(kind, str) and kind.endswith(".delta"):
            self.chunks += 1
            self.last = event
            words = row.get("delta")
            if isinstance(words, str):
                self.letters += len(words)
        return False

    def ending(self) -> list[Any]:
        """Return the event that ends a response as a bound does."""
        if self.last is None or self.answer is None:
            return []
        details = made_like(self.answer, "IncompleteDetails", reason="max_output_tokens")
        response = with_fields(self.answer, status="incomplete", incomplete_details=details)
        number = count(fields_of(self.last).get("sequence_number"))
        told = {"type": "response.incomplete", "response": response, "sequence_number": 1 + (number or 0)}
        return [made_like(self.last, "ResponseIncompleteEvent", **told)]

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        row = fields_of(self.answer)
        if self.failed is None and row.get("error"):
            self.failed = ErrorAnswer(row["error"])
        outcome = super().outcome(self.failed if error is None else error)
        outcome.answered = self.failed is None or self.chunks > 0
        return _with_tools(_in_background(outcome, row, row.get("background") is True), row)


class RunReader(StreamReader):
    """Follows the run of an assistant: events of several kinds, of which that of the run reports the usage."""

    __slots__ = ()

    def see(self, event: Any) -> bool:
        """Look at an event, or at its data alone, which is all that is in the bytes; none is ever hidden."""
        row = fields_of(event)
        data = fields_of(row["data"]) if "data" in row and "event" in row else row
        if data.get("object") == "thread.run":
            self.answer = data
            self.usage: Any = data.get("usage")
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Tell what was used so far."""
        return _in_background(super().outcome(error), fields_of(self.answer), True)


def _in_background(outcome: Outcome, row: Mapping[str, Any], background: bool) -> Outcome:
    """Count work in the background once: when it reports its usage, under an event id of its own."""
    if not background:
        return outcome
    event_id, status = event_id_of("response", str(row.get("id"))), row.get("status")
    if outcome.usage is not None or status in ENDED:
        outcome.event_id = event_id
    elif status in FAILED:
        outcome.event_id, outcome.usage = event_id, Usage(input_tokens=0, output_tokens=0)
    elif status in WAITING:
        outcome.usage, outcome.kept_as = Usage(input_tokens=0, output_tokens=0), event_id
        outcome.tags = {"background": True}
    return outcome


def _with_tools(outcome: Outcome, row: Mapping[str, Any]) -> Outcome:
    """Add what the provider's own tools have used: searches, and images, which another model makes."""
    if outcome.usage is None:
        return outcome
    output = row.get("output")
    tools = fields_of(row.get("tool_usage"))
    items = [fields_of(item) for item in output] if isinstance(output, list) and output else []
    searches = count(fields_of(tools.get("web_search")).get("num_requests"))
    if searches is None:
        searches = sum(map(_is_search, items)) or None
    outcome.usage.web_searches = searches
    outcome.usage.file_searches = sum(item.get("type") == "file_search_call" for item in items) or None
    outcome.usage.containers = _containers(row, items)
    images = sum(item.get("type") == "image_generation_call" for item in items)
    used = fields_of(tools.get("image_gen"))
    if images or count(used.get("total_tokens")):
        usage = image_usage(used, images)
        outcome.parts = (Part(_image_model(row, items), usage, counted=False),)
        outcome.fields = {name: n for name in IMAGE_FIELDS if (n := getattr(usage, name)) is not None}
    return outcome


def read_container(answer: Any) -> Outcome:
    """Read a container of the code interpreter that was made by itself."""
    row = fields_of(answer)
    usage = None if answer is None else Usage(containers=gigabytes(row.get("memory_limit")))
    return Outcome(usage=usage, model=CODE_INTERPRETER, request_id=text(row.get("id")))


def gigabytes(limit: Any) -> int:
    """Return the memory of a container, such as "4g", which its price follows; the default is 1 GB."""
    number = limit.removesuffix("g") if isinstance(limit, str) else ""
    return int(number) if number.isdecimal() else 1


def _containers(row: Mapping[str, Any], items: list[Mapping[str, Any]]) -> int | None:
    """Count the gigabytes of the containers that were made for a response.

    One that the request names by its id was made, and billed, before.
    """
    used = {item.get("container_id") for item in items if item.get("type") == "code_interpreter_call"}
    if not used:
        return None
    tools = row.get("tools")
    rows = [fields_of(tool) for tool in (tools if isinstance(tools, list) else ())]
    given = [tool.get("container") for tool in rows if tool.get("type") == "code_interpreter"]
    made = used.difference(part for part in given if isinstance(part, str))
    size = next((gigabytes(fields_of(part).get("memory_limit")) for part in given if not isinstance(part, str)), 1)
    return len(made) * size or None


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
    """Return the model that made the images: of the item, else of the tool's settings, else the tool's default."""
    tools = row.get("tools")
    for part in (*items, *(map(fields_of, tools) if isinstance(tools, list) else ())):
        if part.get("type") in ("image_generation_call", "image_generation") and text(part.get("model")):
            return str(part["model"])
    return "gpt-image-1"
