"""Listeners: who is told of every event and refusal right after its capture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ..errors import report
from ..events import own_copy

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..delivery.outbox import Outbox
    from ..events import LLMEvent
    from ..limits import Decision
    from .settlement import Request

logger = logging.getLogger("token_limit")


class Listener(Protocol):
    """Is told of every event and refusal; what it raises is kept from the application."""

    def on_event(self, event: LLMEvent, /) -> object:
        """Take a captured event."""

    def on_refusal(self, decision: Decision, request: Request, /) -> None:
        """Take a refused call."""


class Hook:
    """Tells a function of events only."""

    def __init__(self, on_event: Callable[[LLMEvent], object]) -> None:
        self.on_event = on_event

    def on_refusal(self, decision: Decision, request: Request, /) -> None:
        """Tell nobody."""


def listeners_of(config: MeterConfig, outbox: Outbox | None) -> list[Listener]:
    """Return those that a Meter's settings name."""
    theirs = None if config.on_event is None else _with_copies(config.on_event)
    hooks = (None if outbox is None else outbox.queue.put, _log if config.debug else None, theirs)
    return [Hook(hook) for hook in hooks if hook is not None]


def _with_copies(hook: Callable[[LLMEvent], object]) -> Callable[[LLMEvent], object]:
    """Give a function of the application's events of its own."""
    return lambda event: hook(own_copy(event))


def tell(listeners: Iterable[Listener], event: LLMEvent) -> None:
    """Tell of an event."""
    for listener in listeners:
        try:
            listener.on_event(event)
        except Exception:
            report("calling on_event")


def tell_refusal(listeners: Iterable[Listener], decision: Decision, request: Request) -> None:
    """Tell of a refusal."""
    for listener in listeners:
        try:
            listener.on_refusal(decision, request)
        except Exception:
            report("calling on_refusal")


def _log(event: LLMEvent) -> None:
    logger.info("event %s", event.to_dict())
