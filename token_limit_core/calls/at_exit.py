"""The end of the process, with calls in flight."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..usage import Usage
from .flow import land
from .request import Outcome

if TYPE_CHECKING:
    from .engine import Engine


def land_in_daemon_threads(engine: Engine, seconds: float) -> None:
    """Wait for the calls in flight in daemon threads as the process ends, then settle the others at their estimate.

    The interpreter stops a daemon thread wherever it is: the provider bills its call, and nobody would settle it.
    """
    deadline = time.monotonic() + seconds
    while left := [flight for flight in list(engine.in_daemon_threads) if not flight.done]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.01)
    for flight in left:
        received, generated = flight.estimate
        usage = Usage(input_tokens=received, output_tokens=generated)
        land(flight, Outcome(usage=usage, estimated=True, error=ProcessEnded()))


class ProcessEnded(Exception):
    """The process ended before the provider had answered; only a name for the event's `error`."""
