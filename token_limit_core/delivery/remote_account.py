"""What a process knows of a tenant whose limits live at a remote backend: its last answer, and what came since."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from ..limits import Decision, Limit, LimitStatus, judge, refuse
from ..money import to_nano
from ..runtime.faults import StoreError
from ..stores.records import Call, Hold
from ..windows import FREQUENCIES, PER_MONTH, Window, window_of

MAX_TOLD = 1000
"""Ids of events that are remembered of a tenant, so that what is polled for long counts once."""


class Cost(NamedTuple):
    """What a call costs, in both units a backend may count in: nano-dollars and tokens."""

    nano: int = 0
    tokens: int = 0

    def plus(self, other: Cost) -> Cost:
        """Add."""
        return Cost(self.nano + other.nano, self.tokens + other.tokens)

    def minus(self, other: Cost) -> Cost:
        """Subtract."""
        return Cost(self.nano - other.nano, self.tokens - other.tokens)


class Answer(NamedTuple):
    """What the backend said of a tenant at `at`: figures in US dollars, or a remainder in tokens, or neither."""

    exceeded: bool
    status: LimitStatus | None
    remaining_tokens: int | None
    at: float


class Account:
    """What this process knows of one tenant. `checking` lets one thread ask while the others wait for its answer."""

    def __init__(self) -> None:
        self.checking = threading.Lock()
        self.lock = threading.Lock()
        self.answer: Answer | None = None
        self.waiting: dict[str, Cost] = {}
        self.unsynced = Cost()  # of the events that wait, and of those delivered since the check of the answer began
        self.delivered = Cost()
        self.holds: dict[str, tuple[Hold, Cost]] = {}
        self.held = Cost()
        self.not_before = 0.0
        self._told: dict[str, None] = {}

    def tells_anew(self, event_id: str) -> bool:
        """Tell whether an event that may be told more than once, as by polling, is new; call under the lock."""
        if event_id in self._told:
            return False
        if len(self._told) >= MAX_TOLD:
            del self._told[next(iter(self._told))]
        self._told[event_id] = None
        return True

    def forget(self, event_id: str) -> None:
        """Let an event be told again, since it could not be kept; call under the lock."""
        self._told.pop(event_id, None)
        self.unsynced = self.unsynced.minus(self.waiting.pop(event_id, Cost()))

    def acknowledge(self, event_ids: Iterable[str]) -> None:
        """Count events no longer as waiting; call under the lock."""
        for event_id in event_ids:
            cost = self.waiting.pop(event_id, None)
            if cost is not None:
                self.delivered = self.delivered.plus(cost)

    def decide(self, call: Call, now: float, needed: int = 1) -> Decision | None:
        """Say how a call that needs this much room is refused, or None; call under the lock."""
        answer = self.answer
        if answer is None:
            return None
        if answer.status is not None:
            status = self.status()
            assert status is not None
            tenant_id = call.tenant_id
            return refuse("exhausted", status, tenant_id) if answer.exceeded else judge(status, tenant_id, now, needed)
        left = answer.remaining_tokens
        if answer.exceeded or (left is not None and left < self.unsynced.tokens + needed):
            return Decision("exhausted", call.tenant_id)
        if left is not None and left < self.unsynced.tokens + self.held.tokens + needed:
            return Decision("busy", call.tenant_id, retry_after=1)
        return None

    def status(self) -> LimitStatus | None:
        """Give the backend's figures with what this process adds to them."""
        told = None if self.answer is None else self.answer.status
        if told is None:
            return None
        return LimitStatus(told.limit, told.window, told.settled + self.unsynced.nano, self.held.nano)

    def take(self, hold: Hold, cost: Cost) -> None:
        """Set a call's estimate aside."""
        self.holds[hold.call_id] = (hold, cost)
        self.held = self.held.plus(cost)

    def free(self, call_id: str) -> Hold | None:
        """Give a hold back."""
        hold, cost = self.holds.pop(call_id, (None, Cost()))
        self.held = self.held.minus(cost)
        return hold

    def expire(self, now: float) -> int:
        """Free the holds that expired; the real settle, if there ever is one, counts what was used."""
        due = [call_id for call_id, (hold, _) in self.holds.items() if hold.expires_at <= now]
        for call_id in due:
            self.free(call_id)
        return len(due)


def answer_of(tenant_id: str, told: Mapping[str, Any], now: float) -> Answer:
    """Read a backend's answer; the published one has `limit_exceeded` and `remaining_tokens`, ours the figures too."""
    tokens = told.get("remaining_tokens")
    status = None
    try:
        if told.get("limit_usd") is not None and told.get("spent_usd") is not None:
            status = _status_of(tenant_id, told, now)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise StoreError("the backend's figures for a limit are not understood") from error
    return Answer(told["limit_exceeded"], status, tokens if type(tokens) is int else None, now)


def _status_of(tenant_id: str, told: Mapping[str, Any], now: float) -> LimitStatus:
    frequency = told.get("frequency")
    frequency = frequency if frequency in FREQUENCIES else PER_MONTH
    window = window_of(frequency, now)
    if isinstance(told.get("resets_at"), (int, float)):
        window = Window(window.start, int(told["resets_at"]))
    limit = Limit(tenant_id, to_nano(Decimal(str(told["limit_usd"]))), frequency)
    return LimitStatus(limit, window, to_nano(Decimal(str(told["spent_usd"]))), 0)
