"""A stream that grows: its hold is raised when more was seen than is held for, and renewed while it runs.

The store is asked from the settler's thread, so no chunk waits for it. What a look finds is acted on at a later one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import refusal
from .refusals import raised

if TYPE_CHECKING:
    from ..limits import Decision
    from .flight import Flight
    from .request import Outcome

FIRST_LOOK, LONGEST_INTERVAL = 8, 64
"""Chunks before the first look, and between two looks at most."""


class Growth:
    """What is held for one stream. After `left` more chunks it is time to `look`."""

    __slots__ = ("_flight", "_interval", "_outcome", "_renew_at", "left")

    def __init__(self, flight: Flight, outcome: Callable[[BaseException | None], Outcome]) -> None:
        self._flight, self._outcome = flight, outcome
        self._renew_at = flight.started_at + flight.engine.config.hold_seconds / 2
        self._interval = FIRST_LOOK if flight.request.stream else sys.maxsize
        self.left: int = self._interval

    def look(self) -> Decision | None:
        """Raise or renew the hold if it is time; return the refusal that a stream is to be cut by, else None."""
        flight = self._flight
        config = flight.engine.config
        self.left = self._interval
        if flight.overrun is not None and config.on_overrun == "cut":
            return flight.overrun
        now = config.clock()
        if now >= self._renew_at:
            self._renew_at = now + config.hold_seconds / 2
            flight.engine.settler.put(partial(_renew, flight, now + config.hold_seconds))
        seen = _seen(self._outcome(None))
        if seen > flight.covered:
            flight.covered = _next_bound(seen, flight.request.max_output)
            flight.engine.settler.put(partial(_raise, flight, flight.covered))
        else:
            self._interval = min(LONGEST_INTERVAL, self._interval + self._interval // 4)
        return None


def _seen(outcome: Outcome) -> int:
    """Return the tokens of output that were seen so far, or that the provider has told."""
    told = None if outcome.usage is None else outcome.usage.output_tokens
    return outcome.observed_output if told is None else max(told, outcome.observed_output)


def _next_bound(seen: int, most: int | None) -> int:
    """Return the tokens to hold for: twice what was seen, up to the caller's bound."""
    return 2 * seen if most is None or most < seen else min(2 * seen, most)


def _raise(flight: Flight, generated: int) -> None:
    """Raise the hold of a stream to an amount of output, from the settler's thread."""
    if flight.landed:
        return
    received = flight.estimate[0]
    amount = flight.hold_for(received, generated)
    decision = flight.engine.access.raise_hold(flight.call_id, amount, received + generated)
    if decision is None:
        flight.covered = sys.maxsize  # nothing is held: no limit is on it
    elif not decision.admitted and flight.overrun is None:
        flight.overrun = decision
        flight.tags["overrun"] = True
        flight.engine.count("overruns")


def _renew(flight: Flight, expires_at: float) -> None:
    if not flight.landed:
        flight.engine.access.renew(flight.call_id, expires_at)


def cut_short(flight: Flight, decision: Decision) -> BaseException:
    """Count a stream that is cut, and return what is to be raised at its end."""
    flight.engine.count("cut")
    if flight.scope is not None:
        flight.scope.deny(decision)
    return raised(refusal(decision))
