"""The state of a tenant whose limits live at a remote backend: the last answer, and what was spent here since."""

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

MOST_COUNTED = 1000
"""Ids of events that are remembered per tenant, so that an event that is polled for counts once."""


class Cost(NamedTuple):
    """The cost of a call in the two units that a backend may count: nano-dollars and tokens."""

    nano: int = 0
    tokens: int = 0

    def plus(self, other: Cost) -> Cost:
        """Add."""
        return Cost(self.nano + other.nano, self.tokens + other.tokens)

    def minus(self, other: Cost) -> Cost:
        """Subtract."""
        return Cost(self.nano - other.nano, self.tokens - other.tokens)


class Answer(NamedTuple):
    """The backend's answer at `at` (unix seconds): a status in US dollars, a remainder in tokens, or neither."""

    exceeded: bool
    status: LimitStatus | None
    remaining_tokens: int | None
    at: float


class TenantState:
    """The state of one tenant in this process. `checking` lets one thread ask the backend while others wait."""

    def __init__(self) -> None:
        self.checking: threading.Lock = threading.Lock()
        self.lock: threading.Lock = threading.Lock()
        self.answer: Answer | None = None
        self.waiting: dict[str, Cost] = {}
        """Events that are not delivered yet, by id."""
        self.unsynced: Cost = Cost()
        """The cost of waiting events, and of those delivered since the check began that gave the answer."""
        self.delivered: Cost = Cost()
        self.holds: dict[str, tuple[Hold, Cost]] = {}
        self.held: Cost = Cost()
        self.not_before: float = 0.0
        self._counted: dict[str, None] = {}

    def count_once(self, event_id: str) -> bool:
        """Remember an event id; False if it is remembered already, as after polling. Call under the lock."""
        if event_id in self._counted:
            return False
        if len(self._counted) >= MOST_COUNTED:
            del self._counted[next(iter(self._counted))]
        self._counted[event_id] = None
        return True

    def forget(self, event_id: str) -> None:
        """Undo the count of an event that could not be kept. Call under the lock."""
        self._counted.pop(event_id, None)
        self.unsynced = self.unsynced.minus(self.waiting.pop(event_id, Cost()))

    def acknowledge(self, event_ids: Iterable[str]) -> None:
        """Mark events as delivered. Call under the lock."""
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
        """Return the backend's status with the spend and the holds of this process added."""
        answered = None if self.answer is None else self.answer.status
        if answered is None:
            return None
        return LimitStatus(answered.limit, answered.window, answered.settled + self.unsynced.nano, self.held.nano)

    def take(self, hold: Hold, cost: Cost) -> None:
        """Hold the estimate of a call."""
        self.holds[hold.call_id] = (hold, cost)
        self.held = self.held.plus(cost)

    def release(self, call_id: str) -> Hold | None:
        """Release a hold and return it; None for an unknown call."""
        hold, cost = self.holds.pop(call_id, (None, Cost()))
        self.held = self.held.minus(cost)
        return hold

    def expire(self, now: float) -> int:
        """Release the holds that expired. A late settle still counts what was used."""
        due = [call_id for call_id, (hold, _) in self.holds.items() if hold.expires_at <= now]
        for call_id in due:
            self.release(call_id)
        return len(due)


def answer_of(tenant_id: str, row: Mapping[str, Any], now: float) -> Answer:
    """Read a backend's answer. All have `limit_exceeded` and `remaining_tokens`; ours has amounts in US dollars, too.

    Raises `StoreError` if the amounts cannot be read.
    """
    tokens = row.get("remaining_tokens")
    status = None
    try:
        if row.get("limit_usd") is not None and row.get("spent_usd") is not None:
            status = _status_of(tenant_id, row, now)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise StoreError("the backend's figures for a limit are not understood") from error
    return Answer(row["limit_exceeded"], status, tokens if type(tokens) is int else None, now)


def _status_of(tenant_id: str, row: Mapping[str, Any], now: float) -> LimitStatus:
    frequency = row.get("frequency")
    frequency = frequency if frequency in FREQUENCIES else PER_MONTH
    window = window_of(frequency, now)
    if isinstance(row.get("resets_at"), (int, float)):
        window = Window(window.start, int(row["resets_at"]))
    limit = Limit(tenant_id, to_nano(Decimal(str(row["limit_usd"]))), frequency)
    return LimitStatus(limit, window, to_nano(Decimal(str(row["spent_usd"]))), 0)
