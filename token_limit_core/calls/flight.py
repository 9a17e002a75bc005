"""Flight: a call between its admission and its settle."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..runtime.ids import new_id

if TYPE_CHECKING:
    from .. import scope as scopes
    from .engine import Engine
    from .request import Request


class Flight:
    """A call between its admission and its settle.

    `started` and `ended` are on the monotonic clock, around the provider's call alone. `cost_usd` is the cost that the
    headers of its answer report. `lost_attempts` were sent by the SDK, got no answer, and were repeated;
    `attempt_lost` says that the last one is lost, which counts if another follows.
    """

    __slots__ = (
        "_open", "answer", "attempt_lost", "call_id", "cost_usd", "ended", "engine", "estimate", "habit",
        "lost_attempts", "request", "scope", "started", "started_at", "tags", "tenant_id",
    )  # fmt: skip

    def __init__(self, engine: Engine, request: Request, scope: scopes.Scope | None, tenant_id: str) -> None:
        self.engine = engine
        self.request = request
        self.scope = scope
        self.tenant_id = tenant_id
        self.call_id = new_id()
        clock = engine.config.clock
        self.started_at = clock()
        self.started = time.perf_counter()
        self.habit = engine.habits[request.provider, request.model]
        self.estimate = self.habit.estimate(request.size, request.max_output, request.unseen)
        self.tags: dict[str, Any] = {}
        self.answer: Any = None
        self.cost_usd: Decimal | None = None
        self.lost_attempts = 0
        self.attempt_lost = False
        self.ended: float | None = None
        self._open = True

    def start_again(self) -> None:
        """Begin anew, after a wait: with the time and what the estimate is by now."""
        self.started_at = self.engine.config.clock()
        self.estimate = self.habit.estimate(self.request.size, self.request.max_output, self.request.unseen)

    @property
    def landed(self) -> bool:
        """True once somebody has claimed the settle."""
        return not hasattr(self, "_open")

    def claim(self) -> bool:
        """Return True to exactly one caller; taking a slot's value away is atomic, and safe inside a finaliser."""
        try:
            del self._open
        except AttributeError:
            return False
        self.ended = time.perf_counter()
        return True
