"""Signals of the app. Receivers run in the thread of the call, after the commit; what they raise is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

from token_limit_core.runtime.faults import report

if TYPE_CHECKING:
    from token_limit_core.limits import Decision
    from token_limit_core.limits.notices import Notice

threshold_reached: Signal = Signal()
"""Sent with `notice`, a `Notice`, when a limit crosses a threshold, or has room again after it was used up."""

call_refused: Signal = Signal()
"""Sent with `decision` and `request` for each refused call."""


class SignalListener:
    """Sends the signals of a Meter."""

    def on_event(self, event: object, /) -> None:
        """Ignore an event."""

    def on_refusal(self, decision: Decision, request: Any, /) -> None:
        """Send `call_refused`."""
        _send(call_refused, decision=decision, request=request)

    def on_threshold(self, notice: Notice) -> None:
        """Send `threshold_reached`."""
        _send(threshold_reached, notice=notice)


def _send(signal: Signal, **facts: Any) -> None:
    for receiver, answer in signal.send_robust(None, **facts):
        if isinstance(answer, Exception):
            try:
                raise answer
            except Exception:
                report(f"calling the receiver {receiver!r} of a signal")
