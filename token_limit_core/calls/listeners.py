"""Listeners: what receives every event and refusal right after its capture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ..events import own_copy
from ..runtime.faults import report

if TYPE_CHECKING:
    from ..config import MeterConfig
    from ..delivery.outbox import Outbox
    from ..events import LLMEvent
    from ..limits import Decision
    from ..limits.notices import Notice
    from .request import Request

logger: logging.Logger = logging.getLogger("token_limit")


class Listener(Protocol):
    """Receives every event and refusal; exceptions it raises are logged and swallowed."""

    def on_event(self, event: LLMEvent, /) -> object:
        """Receive a captured event."""

    def on_refusal(self, decision: Decision, request: Request, /) -> None:
        """Receive a refused call."""


class Hook:
    """Passes events to a function and ignores refusals."""

    def __init__(self, on_event: Callable[[LLMEvent], object]) -> None:
        self.on_event = on_event

    def on_refusal(self, decision: Decision, request: Request, /) -> None:
        """Ignore a refusal."""


class RefusalHook:
    """Passes refusals to a function of the application and ignores events."""

    def __init__(self, on_refusal: Callable[[Decision, Request], object]) -> None:
        self._hook = on_refusal

    def on_event(self, event: LLMEvent, /) -> None:
        """Ignore an event."""

    def on_refusal(self, decision: Decision, request: Request, /) -> None:
        """Pass a refusal on."""
        self._hook(decision, request)


def listeners_of(config: MeterConfig, outbox: Outbox | None) -> list[Listener]:
    """Return the listeners that a Meter's settings name."""
    theirs = None if config.on_event is None else _with_copies(config.on_event)
    hooks = (None if outbox is None else outbox.queue.put, _log if config.debug else None, theirs)
    listeners: list[Listener] = [Hook(hook) for hook in hooks if hook is not None]
    if config.on_refusal is not None:
        listeners.append(RefusalHook(config.on_refusal))
    return listeners


def _with_copies(hook: Callable[[LLMEvent], object]) -> Callable[[LLMEvent], object]:
    """Wrap a function of the application so that it gets its own copy of each event."""
    return lambda event: hook(own_copy(event))


def notify(listeners: Iterable[Listener], event: LLMEvent) -> None:
    """Pass an event to every listener."""
    for listener in listeners:
        try:
            listener.on_event(event)
        except Exception:
            report("calling on_event")


def notify_refusal(listeners: Iterable[Listener], decision: Decision, request: Request) -> None:
    """Pass a refusal to every listener."""
    for listener in listeners:
        try:
            listener.on_refusal(decision, request)
        except Exception:
            report("calling on_refusal")


def notify_threshold(hooks: Iterable[Callable[[Notice], object]], notice: Notice) -> None:
    """Pass a notice to every hook."""
    for hook in hooks:
        try:
            hook(notice)
        except Exception:
            report("calling on_threshold")


def _log(event: LLMEvent) -> None:
    logger.info("event %s", event.to_dict())
