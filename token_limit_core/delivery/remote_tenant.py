"""The state of a tenant whose limits live at a remote backend: its last answers, and what was spent here since."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from ..limits import OBSERVE, STRICT, USD, Decision, Limit, LimitStatus, judge, subject_of
from ..limits.filters import NO_FACTS, Facts
from ..limits.rows import status_from
from ..money import to_nano
from ..runtime.faults import StoreError
from ..stores.records import Call, Hold
from ..windows import FREQUENCIES, PER_MONTH, Window, window_of

MOST_COUNTED = 1000
"""Ids of events that are remembered per tenant, so that an event that is polled for counts once."""


class Cost(NamedTuple):
    """What calls of some facts cost, in the units that a limit may count: nano-dollars, tokens and requests."""

    facts: Facts = NO_FACTS
    nano: int = 0
    tokens: int = 0
    requests: int = 1


class Costs:
    """The sum of costs, kept apart by facts, so that each limit counts what it is for."""

    def __init__(self) -> None:
        self._sums: dict[str, Counter[Facts]] = {"usd": Counter(), "tokens": Counter(), "requests": Counter()}

    def add(self, cost: Cost, sign: int = 1) -> None:
        """Add a cost, or take it off again."""
        for sums, amount in zip(self._sums.values(), cost[1:], strict=True):
            sums[cost.facts] += sign * amount
            if not sums[cost.facts]:
                del sums[cost.facts]

    def on(self, limit: Limit, subject: str) -> int:
        """Return what counts on a counter of a limit, in its unit."""
        sums = self._sums[limit.unit]
        return sum(amount for facts, amount in sums.items() if subject_of(limit, facts) == subject)

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self._sums["tokens"].total()


class Answer(NamedTuple):
    """The backend's answer at `at` (unix seconds): the states of limits, or a remainder in tokens, or neither.

    It includes what was delivered before the check of this `number` began.
    """

    exceeded: bool
    states: tuple[LimitStatus, ...]
    remaining_tokens: int | None
    at: float
    suspended: bool = False
    number: int = 0

    @property
    def by_user(self) -> bool:
        """Whether a limit is on each user, so that each user needs an answer."""
        return any(state.limit.each_user for state in self.states)

    def has_ended(self, now: float, but: Collection[str] = ()) -> bool:
        """Return whether a window of the answer has ended, other than those of some frequencies."""
        return any(state.window.end <= now for state in self.states if state.limit.frequency not in but)


class TenantState:
    """The state of one tenant in this process. `checking` lets one thread ask the backend while others wait."""

    def __init__(self) -> None:
        self.checking: threading.Lock = threading.Lock()
        self.lock: threading.Lock = threading.Lock()
        self.answers: dict[str, Answer] = {}
        """By user; the empty one is for all that no limit on each user is for."""
        self.waiting: dict[str, Cost] = {}
        """Events that are not delivered yet, by id."""
        self.holds: dict[str, tuple[Hold, Cost]] = {}
        self.not_before: float = 0.0
        self.checks: int = 0
        self._undelivered = Costs()
        self._delivered: dict[int, Costs] = {}
        """By the number of checks that had begun by then."""
        self._held = Costs()
        self._counted: dict[str, None] = {}

    # -- what was spent here --------------------------------------------------------------------

    def count_once(self, event_id: str) -> bool:
        """Remember an event id; False if it is remembered already, as after polling. Call under the lock."""
        if event_id in self._counted:
            return False
        if len(self._counted) >= MOST_COUNTED:
            del self._counted[next(iter(self._counted))]
        self._counted[event_id] = None
        return True

    def spend(self, event_id: str, cost: Cost) -> None:
        """Count an event that is to be delivered. Call under the lock."""
        self.waiting[event_id] = cost
        self._undelivered.add(cost)

    def forget(self, event_id: str) -> None:
        """Undo the count of an event that could not be kept. Call under the lock."""
        self._counted.pop(event_id, None)
        self._take(event_id)

    def acknowledge(self, event_ids: Iterable[str]) -> None:
        """Mark events as delivered. Call under the lock."""
        for event_id in event_ids:
            cost = self._take(event_id)
            if cost is not None:
                self._delivered.setdefault(self.checks, Costs()).add(cost)

    def _take(self, event_id: str) -> Cost | None:
        cost = self.waiting.pop(event_id, None)
        if cost is not None:
            self._undelivered.add(cost, -1)
        return cost

    # -- answers --------------------------------------------------------------------------------

    def key(self, user: str | None) -> str:
        """Return under which user the answer for a user's calls is kept."""
        newest = self.newest()
        return user or "" if newest is not None and newest.by_user else ""

    def newest(self) -> Answer | None:
        """Return the newest answer for any user."""
        return max(self.answers.values(), key=lambda answer: answer.number, default=None)

    def answer(self, user: str | None) -> Answer | None:
        """Return the answer that decides on a user's calls; one for another user knows all but this one's counters."""
        return self.answers.get(self.key(user)) or self.newest()

    def keep(self, answer: Answer, key: str, oldest: float) -> None:
        """Keep an answer, and drop those that came before `oldest` (unix seconds). Call under the lock."""
        self.answers = {name: one for name, one in self.answers.items() if one.at > oldest} | {key: answer}
        first = min(one.number for one in self.answers.values())
        self._delivered = {number: costs for number, costs in self._delivered.items() if number >= first}

    def drop(self) -> None:
        """Drop all answers. Call under the lock."""
        self.answers = {}
        self._delivered = {}  # the next answer includes it

    def decide(self, call: Call, now: float, needed: int | None = None) -> Decision | None:
        """Say how a call is refused that needs this much room, or what its limits ask for; or None.

        Call under the lock.
        """
        answer = self.answer(call.user)
        if answer is None:
            return None
        if answer.suspended:
            return Decision("suspended", call.tenant_id)
        facts = call.facts
        for state in self._states(answer, now):
            limit = state.limit
            if limit.mode == OBSERVE or subject_of(limit, facts) != state.subject:
                continue
            amount = call.amount_on(limit) if limit.mode == STRICT and needed is None else 1
            if amount is None:
                return Decision("unpriced", call.tenant_id)
            refused = judge(state, call.tenant_id, now, max(1, amount) if needed is None else needed)
            if refused is not None:
                return refused
        if answer.exceeded:
            return Decision("exhausted", call.tenant_id)
        return self._tokens_left(answer, call, 1 if needed is None else needed)

    def _tokens_left(self, answer: Answer, call: Call, needed: int) -> Decision | None:
        left = answer.remaining_tokens
        if left is None:
            return None
        left -= sum(costs.tokens for costs in self._unsynced(answer)) + needed
        if left < 0:
            return Decision("exhausted", call.tenant_id)
        return Decision("busy", call.tenant_id, retry_after=1) if left < self._held.tokens else None

    def states(self, now: float, user: str | None = None) -> list[LimitStatus]:
        """Return the backend's states of limits with the spend and the holds of this process added."""
        answer = self.answer(user)
        if answer is None:
            return []
        theirs = {(state.limit.id, state.subject): state.held for state in answer.states}
        return [
            replace(state, held=state.held + theirs[state.limit.id, state.subject])
            for state in self._states(answer, now)
        ]

    def _states(self, answer: Answer, now: float) -> list[LimitStatus]:
        """Return the states without what the backend holds: that is free again by the time of a call."""
        unsynced = self._unsynced(answer)
        return [
            replace(
                state,
                settled=state.settled + sum(costs.on(state.limit, state.subject) for costs in unsynced),
                held=self._held.on(state.limit, state.subject),
            )
            for state in answer.states
            if now < state.window.end
        ]

    def _unsynced(self, answer: Answer) -> list[Costs]:
        """Return the costs of this process that an answer does not include."""
        return [self._undelivered, *(costs for number, costs in self._delivered.items() if number >= answer.number)]

    # -- holds ----------------------------------------------------------------------------------

    def take(self, hold: Hold) -> None:
        """Hold the estimate of a call."""
        cost = Cost(facts_of(hold), hold.held, hold.tokens)
        self.holds[hold.call_id] = (hold, cost)
        self._held.add(cost)

    def release(self, call_id: str) -> Hold | None:
        """Release a hold and return it; None for an unknown call."""
        hold, cost = self.holds.pop(call_id, (None, None))
        if cost is not None:
            self._held.add(cost, -1)
        return hold

    def expire(self, now: float) -> int:
        """Release the holds that expired. A late settle still counts what was used."""
        due = [call_id for call_id, (hold, _) in self.holds.items() if hold.expires_at <= now]
        for call_id in due:
            self.release(call_id)
        return len(due)


def facts_of(hold: Hold) -> Facts:
    """Return what filters look at in a call in flight."""
    return Facts(hold.provider, hold.model, hold.user, hold.feature)


def answer_of(tenant_id: str, row: Mapping[str, Any], now: float, number: int) -> Answer:
    """Read a backend's answer. All have `limit_exceeded` and `remaining_tokens`; ours has the states of limits, too.

    Raises `StoreError` if they cannot be read.
    """
    tokens = row.get("remaining_tokens")
    try:
        states = tuple(map(status_from, row.get("limits") or ()))
        if not states and row.get("limit_usd") is not None and row.get("spent_usd") is not None:
            states = (_state_of(tenant_id, row, now),)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError("the backend's figures for a limit are not understood") from error
    left = tokens if type(tokens) is int else None
    return Answer(row["limit_exceeded"], states, left, now, row.get("suspended") is True, number)


def _state_of(tenant_id: str, row: Mapping[str, Any], now: float) -> LimitStatus:
    frequency = row.get("frequency")
    frequency = frequency if frequency in FREQUENCIES else PER_MONTH
    window = window_of(frequency, now)
    if isinstance(row.get("resets_at"), (int, float)):
        window = Window(window.start, int(row["resets_at"]))
    limit = Limit(tenant_id, to_nano(Decimal(str(row["limit_usd"]))), frequency, unit=USD)
    return LimitStatus(limit, window, to_nano(Decimal(str(row["spent_usd"]))), 0)
