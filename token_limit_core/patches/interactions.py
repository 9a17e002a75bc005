"""Google's interactions: their generated client has a funnel of its own."""

from __future__ import annotations

from typing import Any

from ..calls.flight import Flight
from ..calls.request import Outcome
from ..usage import Usage
from . import http_funnel
from .byte_streams import Tee
from .gemini import Row, billed_searches, document_of, list_of, row_of, so_far, sum_of, tier_of, with_modalities
from .reading import count, event_id_of, text
from .streams import Follow
from .tees import DocumentTee, EventTee


def read_response(
    follow: Follow,
    flight: Flight,
    response: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: BaseException | None,
) -> Any:
    """Read the HTTP response of an interaction, or follow it when its body is still to come."""
    return http_funnel.read_response(
        flight, response, error, follow, read_interaction, lambda: _tee(flight, response), stream=False
    )


def _tee(flight: Flight, response: Any) -> Tee:
    """Return what follows the body of an interaction."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        return DocumentTee(read_interaction, None)
    goes_on = flight.request.later or document_of(response.request.content).get("background") is True
    return EventTee(InteractionReader(goes_on), hiding=False)


def read_interaction(answer: Row) -> Outcome:
    """Read a complete interaction. Background work reports its usage when it is polled, maybe more than once.

    No field says whether it was in the background. So each has an event id made from its own, and counts once.
    """
    outcome = _interaction(answer)
    return _waiting(outcome) if outcome.usage is None and answer.get("status") in WAITING else outcome


WAITING = frozenset({"queued", "in_progress"})


def _interaction(answer: Row) -> Outcome:
    model, its_id = text(answer.get("model")) or text(answer.get("agent")), text(answer.get("id"))
    usage = _interaction_usage(row_of(answer.get("usage")), model)
    return Outcome(
        usage=usage,
        model=model,
        request_id=its_id,
        service_tier=tier_of(answer.get("service_tier")),
        event_id=None if usage is None else _event_id(its_id),
    )


def _waiting(outcome: Outcome) -> Outcome:
    """Record no cost yet for an interaction that continues in the background."""
    outcome.usage, outcome.event_id = Usage(input_tokens=0, output_tokens=0), None
    outcome.kept_as = _event_id(outcome.request_id)
    outcome.tags = {"background": True}
    return outcome


def _event_id(its_id: str | None) -> str | None:
    return None if its_id is None else event_id_of("interaction", its_id)


def _interaction_usage(row: Row, model: str | None) -> Usage | None:
    tools = map(row_of, list_of(row.get("grounding_tool_count")))
    searches = sum_of(*(count(tool.get("count")) for tool in tools if tool.get("type") == "google_search"))
    received = [*list_of(row.get("input_tokens_by_modality")), *list_of(row.get("tool_use_tokens_by_modality"))]
    return with_modalities(
        Usage(
            input_tokens=sum_of(count(row.get("total_input_tokens")), count(row.get("total_tool_use_tokens"))),
            output_tokens=sum_of(count(row.get("total_output_tokens")), count(row.get("total_thought_tokens"))),
            total_tokens=count(row.get("total_tokens")),
            cached_tokens=count(row.get("total_cached_tokens")),
            reasoning_tokens=count(row.get("total_thought_tokens")),
            web_searches=billed_searches(model, searches),
        ),
        received,
        list_of(row.get("cached_tokens_by_modality")),
        list_of(row.get("output_tokens_by_modality")),
    )


class InteractionReader:
    """Follows the events of an interaction's stream: its usage comes with the event that ends it.

    One that `goes_on` in the background when its stream is left can be asked for again.
    """

    __slots__ = ("_goes_on", "_interaction", "_letters", "_usage")

    def __init__(self, goes_on: bool = False) -> None:
        self._goes_on = goes_on
        self._interaction: Row = {}
        self._usage: Any = None
        self._letters = 0

    def see(self, event: Any) -> bool:
        """Read an event. No event is hidden."""
        row = row_of(event)
        interaction = row_of(row.get("interaction"))
        if interaction:
            self._interaction = interaction
        words = text(row_of(row.get("delta")).get("text"))
        if words is not None:
            self._letters += len(words)
        usage = row_of(row.get("metadata")).get("usage")
        if usage is not None:
            self._usage = usage
            if "total_output_tokens" in row_of(usage):
                self._letters = 0  # they are counted
        return False

    def outcome(self, error: BaseException | None) -> Outcome:
        """Return the usage so far."""
        interaction = self._interaction
        finished = interaction.get("usage") is not None
        outcome = _interaction(interaction if finished else {**interaction, "usage": self._usage})
        if self._goes_on and not finished:
            outcome.error = error
            return _waiting(outcome)
        outcome.event_id = _event_id(outcome.request_id)
        return so_far(outcome, error, finished, self._letters)
