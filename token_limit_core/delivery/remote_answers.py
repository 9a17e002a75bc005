"""The answers of a remote backend: when it is asked for a tenant, and what is in force while it does not answer."""

from __future__ import annotations

from collections.abc import Sequence

from ..events import LLMEvent
from ..runtime.faults import StoreError, logger
from ..windows import RATES
from .remote_tenant import Answer, TenantState, answer_of
from .spool import Spool
from .transport import CheckRefused, Transport

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""Seconds without another check after one that failed; each failure doubles them."""


class BackendAnswers:
    """The states of tenants. Each keeps its answer for `ttl` seconds, and longer while the backend is away."""

    def __init__(self, transport: Transport, spool: Spool | None, ttl: float) -> None:
        self._transport = transport
        self._spool = spool
        self._ttl = ttl
        self.reset()

    def reset(self) -> None:
        """Forget everything, as in a forked child: the parent reports its calls to the backend."""
        self._states: dict[str, TenantState] = {}
        self._pause = self._not_before = 0.0

    def state(self, tenant_id: str) -> TenantState:
        """Return the state of a tenant, which may have no answer."""
        state = self._states.get(tenant_id)
        return self._states.setdefault(tenant_id, TenantState()) if state is None else state

    def states(self, tenant_id: str | None = None) -> list[TenantState]:
        """List the states of one tenant, or of all."""
        return [state for name, state in list(self._states.items()) if tenant_id in (None, name)]

    def refresh(self, tenant_id: str, now: float, user: str | None = None) -> TenantState:
        """Return the state of a tenant, and ask the backend if its answer for the calls of a user is stale.

        Raises `StoreError` when no answer is in force.
        """
        state = self.state(tenant_id)
        if self._is_fresh(state, user, now):
            return state
        with state.checking:
            if not self._is_fresh(state, user, now):
                self._ask(state, tenant_id, user, now)
                if state.key(user) not in state.answers:  # the first answer says that each user needs one
                    self._ask(state, tenant_id, user, now)
        return state

    def _ask(self, state: TenantState, tenant_id: str, user: str | None, now: float) -> None:
        key = state.key(user)
        try:
            if now < max(self._not_before, state.not_before):
                raise StoreError("the backend did not answer a moment ago")
            number = self._begin_check(state)
            answer = answer_of(tenant_id, self._transport.check(tenant_id, key), now, number)
        except CheckRefused as error:
            if tenant_id:
                self._keep_last(state, user, error, now)
                return
            answer = Answer(False, (), None, now, number=state.checks)  # it has no limits on the calls of nobody
        except StoreError as error:
            self._keep_last(state, user, error, now)
            return
        self._pause = 0.0
        with state.lock:
            state.keep(answer, key if answer.by_user else "", now - self._ttl)

    def _begin_check(self, state: TenantState) -> int:
        """Return the number of a check that begins; its answer includes what any process with our spool delivered."""
        if self._spool is not None:
            with state.lock:
                waiting = list(state.waiting)
            gone = self._spool.gone(waiting)
            with state.lock:
                state.acknowledge(gone)
        with state.lock:
            state.checks += 1
            return state.checks

    def _is_fresh(self, state: TenantState, user: str | None, now: float) -> bool:
        answer = state.answers.get(state.key(user))
        return answer is not None and 0 <= now - answer.at < self._ttl and not answer.has_ended(now)

    def _keep_last(self, state: TenantState, user: str | None, error: StoreError, now: float) -> None:
        """Keep the last answer until its window ends, and pause the checks. Raises the error without an answer."""
        if isinstance(error, CheckRefused):  # the backend may answer for other tenants
            state.not_before = now + LONGEST_PAUSE_SECONDS
            logger.warning("%s", error)
        elif now >= max(self._not_before, state.not_before):
            self._pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, self._ttl, self._pause * 2))
            self._not_before = now + self._pause
            logger.warning("%s; what it last said of a tenant stays in force", error)
        answer = state.answer(user)
        if answer is None or answer.has_ended(now, but=RATES):
            with state.lock:
                state.drop()
            raise error

    def forget(self, tenant_id: str | None) -> None:
        """Drop the answers of a tenant or of all, also those that are on their way, because a limit has changed."""
        for state in self.states() if tenant_id is None else [self.state(tenant_id)]:
            with state.checking, state.lock:
                state.drop()
                state.not_before = 0.0

    def acknowledge(self, events: Sequence[LLMEvent]) -> None:
        """Mark events as delivered: the next answer includes them, or the backend refused them for good."""
        for event in events:
            state = self.state(event.tenant_id)
            with state.lock:
                state.acknowledge((event.event_id,))
