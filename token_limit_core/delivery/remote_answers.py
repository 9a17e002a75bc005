"""The answers of a remote backend: when it is asked for a tenant, and what is in force while it does not answer."""

from __future__ import annotations

from collections.abc import Sequence

from ..events import LLMEvent
from ..runtime.faults import StoreError, logger
from .remote_tenant import Cost, TenantState, answer_of
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

    def refresh(self, tenant_id: str, now: float) -> TenantState:
        """Return the state of a tenant, and ask the backend if its answer is stale.

        Raises `StoreError` when no answer is in force.
        """
        state = self.state(tenant_id)
        if self._is_fresh(state, now):
            return state
        with state.checking:
            if not self._is_fresh(state, now):
                self._ask(state, tenant_id, now)
        return state

    def _ask(self, state: TenantState, tenant_id: str, now: float) -> None:
        try:
            if now < max(self._not_before, state.not_before):
                raise StoreError("the backend did not answer a moment ago")
            delivered = self._delivered(state)
            answer = answer_of(tenant_id, self._transport.check(tenant_id), now)
        except StoreError as error:
            self._keep_last(state, error, now)
            return
        self._pause = 0.0
        with state.lock:
            state.answer = answer
            state.unsynced = state.unsynced.minus(delivered)
            state.delivered = state.delivered.minus(delivered)

    def _delivered(self, state: TenantState) -> Cost:
        """Return the cost that the next answer includes: events delivered by this process or others with its spool."""
        if self._spool is not None:
            with state.lock:
                waiting = list(state.waiting)
            gone = self._spool.gone(waiting)
            with state.lock:
                state.acknowledge(gone)
        with state.lock:
            return state.delivered

    def _is_fresh(self, state: TenantState, now: float) -> bool:
        return state.answer is not None and 0 <= now - state.answer.at < self._ttl

    def _keep_last(self, state: TenantState, error: StoreError, now: float) -> None:
        """Keep the last answer until its window ends, and pause the checks. Raises the error without an answer."""
        if isinstance(error, CheckRefused):  # the backend may answer for other tenants
            state.not_before = now + LONGEST_PAUSE_SECONDS
            logger.warning("%s", error)
        elif now >= max(self._not_before, state.not_before):
            self._pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, self._ttl, self._pause * 2))
            self._not_before = now + self._pause
            logger.warning("%s; what it last said of a tenant stays in force", error)
        answer = state.answer
        if answer is None or (answer.status is not None and now >= answer.status.window.end):
            state.answer = None
            raise error

    def forget(self, tenant_id: str) -> None:
        """Drop the answer of a tenant, also one that is on its way, because its limit has changed."""
        state = self.state(tenant_id)
        with state.checking, state.lock:
            state.answer, state.not_before = None, 0.0

    def acknowledge(self, events: Sequence[LLMEvent]) -> None:
        """Mark events as delivered: the next answer includes them, or the backend refused them for good."""
        for event in events:
            state = self.state(event.tenant_id)
            with state.lock:
                state.acknowledge((event.event_id,))
