"""Admission where a limit is strict: the call's worst case must fit, else its output is clamped to what is left.

A store refuses a call without a worst case as "unpriced" where a strict limit is on it; only then is it worked out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .worst_case import worst_case_of

if TYPE_CHECKING:
    from ..limits import Decision
    from ..stores.records import Call
    from .flight import Flight

SHORTEST = 16
"""Output tokens that a call is clamped to at least: OpenAI's Responses API takes no smaller bound."""

ATTEMPTS = 4
"""How often a call is clamped: once for each limit that it does not fit, and when one changes meanwhile."""


def admit_strictly(flight: Flight, call: Call) -> Decision:
    """Admit a call with its worst case. Clamp the output of one whose caller has not bounded it, if it does not fit."""
    request, access, markup = flight.request, flight.engine.access, flight.engine.config.markup
    request.clamped = None
    worst = worst_case_of(flight)
    if worst is None:  # refused, if a strict limit is on it
        return access.admit(call, flight.started_at)
    generated = worst.generated
    for _ in range(ATTEMPTS):
        amount, tokens = worst.amount(generated), worst.received + generated
        charges = None if markup is None else flight.charges(markup, amount, call.ceiling)
        at_most = call._replace(worst_case=amount, worst_tokens=tokens, charges=charges)
        decision = access.admit(at_most, flight.started_at)
        if decision.kind != "does_not_fit" or request.max_output is not None or not request.bounds:
            break
        bought = worst.bought_by(decision, amount)
        if bought < SHORTEST or bought * worst.choices >= generated:
            break
        generated = bought * worst.choices
    if decision.admitted:
        flight.covered = generated
        if generated < worst.generated:
            request.clamped = generated // worst.choices
    return decision
