"""The exceptions an application may catch. Refusals carry the `Decision` that says why and until when."""

from __future__ import annotations

from .limits import Decision, Kind
from .runtime.faults import ConfigurationError, StoreBusy, StoreError, TokenLimitError

__all__ = [
    "CallDoesNotFit",
    "CallUnpriced",
    "ConfigurationError",
    "EventsLost",
    "KeptElsewhere",
    "LimitChanged",
    "LimitExceededException",
    "LimitExhausted",
    "LimitUnverifiable",
    "NoTenant",
    "StoreBusy",
    "StoreError",
    "TenantBusy",
    "TenantSuspended",
    "TokenLimitError",
    "UnguardedCall",
    "refusal",
    "refusal_in",
]


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
    """Somebody else has changed the limit or the plan since it was read; nothing was saved."""


class LimitExceededException(TokenLimitError):
    """The call was refused before any traffic was sent; `decision` says why and until when.

    Each kind of refusal has a subclass. Without an argument, as in tests, the decision has its `kind` alone.
    """

    kind: Kind = "exhausted"

    def __init__(self, decision: Decision | None = None) -> None:
        if decision is None:
            decision = Decision(self.kind)
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        # a task queue that speaks JSON makes a text of the decision
        return str(getattr(self.decision, "explain", self.decision.__str__)())


class LimitExhausted(LimitExceededException):
    """The limit of the window is spent (HTTP 402)."""


class CallDoesNotFit(LimitExceededException):
    """What is left does not cover this call's worst case (HTTP 402)."""

    kind: Kind = "does_not_fit"


class TenantBusy(LimitExceededException):
    """Only calls in flight stand in the way; try again shortly (HTTP 429)."""

    kind: Kind = "busy"


class LimitUnverifiable(LimitExceededException):
    """The store is down and the policy is to refuse (HTTP 503)."""

    kind: Kind = "unverifiable"


class NoTenant(LimitExceededException):
    """Nobody is known to pay for the call, and `on_no_tenant` is "refuse" (HTTP 403)."""

    kind: Kind = "no_tenant"

    def __str__(self) -> str:
        return "no tenant is in force and on_no_tenant is 'refuse'; sign in, or wrap the call in meter.for_tenant(...)"


class CallUnpriced(LimitExceededException):
    """No price is known for the call, and `on_unpriced` is "refuse" or the limit is strict (HTTP 402)."""

    kind: Kind = "unpriced"


class TenantSuspended(LimitExceededException):
    """The tenant is suspended (HTTP 402)."""

    kind: Kind = "suspended"


_REFUSALS: dict[str, type[LimitExceededException]] = {cls.kind: cls for cls in LimitExceededException.__subclasses__()}


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
