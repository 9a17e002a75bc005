"""What goes wrong, in two kinds that are never mixed.

`internal_errors()` keeps the library's own faults away from the host application; a refusal
(`LimitExceededException`, `UnguardedCall`) and a misconfiguration (`ConfigurationError`) are raised on purpose,
outside it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from reprlib import Repr
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .limits import Decision

logger = logging.getLogger("token_limit")


class TokenLimitError(Exception):
    """Base of everything this library raises."""


class ConfigurationError(TokenLimitError, ValueError):
    """A setting is wrong; the message names the setting and the cure."""


class StoreError(TokenLimitError):
    """The store cannot be reached or answered with a fault."""


class KeptElsewhere(StoreError):
    """What was asked is known only where limits and ledger are kept: at `backend`. To try again does not help."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.backend = backend

    def __str__(self) -> str:
        return f"limits and ledger are kept by the backend {self.backend}; ask there"


class EventsLost(TokenLimitError):
    """Events gave way because too many waited for a backend; `count` is how many since this was last told."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count

    def __str__(self) -> str:
        return (
            f"events lost: {self.count}, as max_queue_size of them wait for the backend already; "
            "set `spool` to keep them in a file"
        )


class UnguardedCall(TokenLimitError):
    """A call that would go out unmetered, and `on_unguarded` is "refuse"; raised before any traffic."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.what} is not metered and on_unguarded is 'refuse'; set on_unguarded to 'warn' or 'ignore' to let "
            f"such calls pass, and record them with meter.track_manually(...)"
        )


class LimitChanged(TokenLimitError):
    """Somebody else has changed the limit since it was read; nothing was saved."""


class LimitExceededException(TokenLimitError):
    """The call was refused before any traffic was sent; `decision` says why and until when."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        # a task queue that speaks JSON makes a text of the decision
        return str(getattr(self.decision, "explain", self.decision.__str__)())


class LimitExhausted(LimitExceededException):
    """The limit of the window is spent (HTTP 402)."""


class CallDoesNotFit(LimitExceededException):
    """What is left does not cover this call's worst case (HTTP 402)."""


class TenantBusy(LimitExceededException):
    """Only calls in flight stand in the way; try again shortly (HTTP 429)."""


class LimitUnverifiable(LimitExceededException):
    """The store is down and the policy is to refuse (HTTP 503)."""


class NoTenant(LimitExceededException):
    """Nobody is known to pay for the call, and `on_no_tenant` is "refuse" (HTTP 403)."""

    def __str__(self) -> str:
        return "no tenant is in force and on_no_tenant is 'refuse'; sign in, or wrap the call in meter.for_tenant(...)"


_REFUSALS: dict[str, type[LimitExceededException]] = {
    "exhausted": LimitExhausted,
    "does_not_fit": CallDoesNotFit,
    "busy": TenantBusy,
    "unverifiable": LimitUnverifiable,
    "no_tenant": NoTenant,
}


def refusal(decision: Decision) -> LimitExceededException:
    """Make the exception that belongs to a refusing decision."""
    return _REFUSALS[decision.kind](decision)


def refusal_in(error: BaseException | None) -> LimitExceededException | None:
    """Find a refusal in an exception, its causes, contexts and groups (frameworks wrap what views raise)."""
    seen: set[int] = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        if isinstance(current, LimitExceededException):
            return current
        seen.add(id(current))
        queue += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            queue += current.exceptions
    return None


_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


def shown(value: object) -> str:
    """Write a value for a message; a long one shortened."""
    return _short.repr(value)


_strict = False


def raise_on_error(enabled: bool) -> None:
    """Re-raise the library's own faults everywhere in this process (`MeterConfig.raise_on_error`)."""
    global _strict
    _strict = enabled


def should_raise() -> bool:
    """Tell whether own faults are re-raised: under pytest, or when configured."""
    return _strict or "PYTEST_CURRENT_TEST" in os.environ


@contextmanager
def internal_errors(doing: str) -> Iterator[None]:
    """Log and swallow the library's own faults in production; re-raise them under pytest.

    Never put a host call or a refusal inside.
    """
    try:
        yield
    except Exception:
        report(doing)


def report(doing: str) -> None:
    """Log the exception being handled as ours, and re-raise it where faults must be seen."""
    if should_raise():
        raise
    log_fault("token-limit failed while %s; the application goes on", doing)


def log_fault(message: str, *args: object) -> None:
    """Log the exception being handled, with its causes.

    Not with what was being handled when it came up: that may be the host's, such as a provider's error, whose message
    echoes prompts.
    """
    _leave_out_contexts(sys.exception(), set())
    logger.exception(message, *args, stacklevel=2)


def _leave_out_contexts(error: BaseException | None, seen: set[int]) -> None:
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__context__ = None
        for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            _leave_out_contexts(part, seen)
        error = error.__cause__
