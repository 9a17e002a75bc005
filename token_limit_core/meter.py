"""Meter: what an application holds."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from . import patches, scope
from .calls.at_exit import land_in_daemon_threads
from .calls.engine import Engine
from .calls.flight import Flight
from .calls.manual import outcome_of, parse_error, parse_event_id
from .calls.request import Request, Settlement
from .calls.settlement import conclude
from .config import MeterConfig
from .errors import refusal
from .events import LLMEvent, own_copy, parse_text
from .limits import Decision
from .limits.filters import Facts
from .management import ManagesHolds, ManagesLimits, ManagesPlans, ManagesPrices, ManagesTenants
from .patches.clients import ProviderClients
from .runtime.executor import on_loop
from .runtime.faults import raise_on_error
from .stores.contract import Store
from .stores.queries import RefusalQuery
from .stores.records import Refusal
from .windows import parse_effective_date, parse_time

MOST_REFUSALS = 1000
"""Rows that `Meter.refusals` returns at most; each is a minute's."""


class _Queue:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def flush_now(self, timeout: float | None = None) -> bool:
        """Do what `Meter.flush` does."""
        return self._engine.flush(timeout)


class Meter(ManagesLimits, ManagesPlans, ManagesTenants, ManagesPrices, ManagesHolds, ProviderClients):
    """Meters LLM calls for tenants, one per application.

    Patching methods chain; as a context manager it unpatches and drains on leaving.
    Raises `ConfigurationError` for settings that cannot work.
    """

    def __init__(self, config: MeterConfig | None = None) -> None:
        self.config: MeterConfig = config if config is not None else MeterConfig()
        for name in self.config.patches or ():
            patches.patch_class(name)
        self._engine = Engine(self.config)
        if self.config.raise_on_error:
            raise_on_error(True)
        atexit.register(_close_at_exit, weakref.ref(self))

    @property
    def store(self) -> Store:
        """The store of limits and ledger, for reports and maintenance."""
        return self._engine.store

    @property
    def _queue(self) -> _Queue:
        """The older package's queue, for code that calls `meter._queue.flush_now()`."""
        return _Queue(self._engine)

    # -- patching -------------------------------------------------------------------------------

    def patch_all(self) -> Self:
        """Hook every configured SDK that is installed."""
        patches.attend(self._engine)
        names = patches.PATCH_REGISTRY if self.config.patches is None else self.config.patches
        for name in list(names):
            self.patch(name)
        self._engine.begin()  # also with no name
        return self

    def patch(self, name: str) -> Self:
        """Hook one SDK; silently skipped when it is not installed, which `status()` reports.

        Raises `ConfigurationError` for an unknown name.
        """
        patches.attend(self._engine)
        patches.install(name, self._engine)
        self._engine.begin()
        return self

    def unpatch(self, name: str) -> Self:
        """Remove this Meter's hook of one SDK; the last Meter restores the original.

        Raises `ConfigurationError` for an unknown name.
        """
        patches.uninstall(name, self._engine)
        return self

    def unpatch_all(self) -> Self:
        """Remove every hook of this Meter."""
        patches.uninstall_all(self._engine)
        return self

    # -- who pays -------------------------------------------------------------------------------

    @contextmanager
    def for_tenant(
        self, tenant_id: str | None, *, session_id: str | None = None, name: str | None = None, **attributes: Any
    ) -> Iterator[None]:
        """Attribute every call in the block to a tenant; None clears the tenant for the block.

        `name` is the tenant's name for people. Attributes (user, feature, ...) go on the events.
        """
        if name is not None and tenant_id is not None:
            self._engine.name_tenant(scope.check_tenant(tenant_id), name)
        with scope.use(scope.child(self._engine, tenant_id, session_id, attributes, name)):
            yield

    def set_tenant(self, tenant_id: str | None) -> None:
        """Attribute the calls of the current thread or task to a tenant from now on; None clears the tenant."""
        scope.enter(scope.child(self._engine, tenant_id))

    @property
    def current_tenant_id(self) -> str | None:
        """The tenant in force, or None."""
        current = scope.current()
        return None if current is None else current.tenant()

    # -- limits ---------------------------------------------------------------------------------

    def refusals(self, tenant_id: str | None = None, since: date | datetime | str | None = None) -> list[Refusal]:
        """List refused calls, of one tenant or all, counted by minute, kind and limit; the newest minute comes first.

        Those of the last 24 hours, or of `since` (date, datetime or ISO string; naive means UTC) and later.
        Raises `StoreError` when the store cannot answer, or keeps no rows.
        """
        now = self.config.clock()
        self._engine.refusals.write()
        start = now - 86400 if since is None else parse_effective_date(since, now)
        return self.store.refusals(RefusalQuery(tenant_id, start, size=MOST_REFUSALS))

    def check_limit(self) -> None:
        """Raise `LimitExceededException` if a limit of the current tenant is reached; no-op without a tenant."""
        current = scope.current()
        tenant_id = None if current is None else current.tenant()
        if tenant_id is not None:
            self._refuse(current, self._reached(tenant_id, current))
        elif current is not None and current.unresolved:
            self._refuse(current, self._unchecked(current))

    async def async_check_limit(self) -> None:
        """Do what `check_limit` does, with storage off the event loop."""
        current = scope.current()
        tenant_id = None if current is None else await current.atenant()
        if tenant_id is not None:
            self._refuse(current, await self.store.run_async(partial(self._reached, tenant_id, current)))
        elif current is not None and current.unresolved:
            self._refuse(current, self._unchecked(current))

    def _unchecked(self, current: scope.Scope) -> Decision | None:
        if not current.request.resolvable:
            return Decision("unverifiable")
        return self._engine.access.unchecked(self._engine.payer(None))

    def _reached(self, tenant_id: str, current: scope.Scope | None) -> Decision | None:
        user, feature = (None, None) if current is None else current.attributed()
        facts = Facts(user=user, feature=feature)
        return self._engine.access.reached(tenant_id, self.config.clock(), facts)

    def _refuse(self, current: scope.Scope | None, decision: Decision | None) -> None:
        if decision is not None:
            if current is not None:
                current.deny(decision)
            self._engine.refused(decision, Request("", "", "check_limit"), current)
            raise refusal(decision)

    # -- recording ------------------------------------------------------------------------------

    def track_manually(
        self,
        *,
        provider: str,
        model: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        tenant_id: str | None = None,
        **fields: Any,
    ) -> LLMEvent:
        """Record a call that no patch saw, priced unless `cost_usd` is given; unknown fields are dropped.

        `event_id` makes it idempotent, `timestamp` (unix seconds) tells when the call began. On an event loop the
        row is written a moment later by the settler's thread.
        Texts before and after a gap are kept as their lengths unless `capture_content`, and of an error its class,
        status and code. Raises `ConfigurationError` naming a field that cannot be used; then nothing is recorded.
        """
        current = scope.current()
        if tenant_id is None:
            tenant_id = None if current is None else current.tenant()
        request = Request(parse_text(provider, "provider"), parse_text(model, "model"), "manual")
        payer = self._engine.payer(None) if tenant_id is None else scope.check_tenant(tenant_id)
        flight = Flight(self._engine, request, current, payer)
        flight.unresolved = flight.unresolved and tenant_id is None
        flight.call_id = parse_event_id(fields.pop("event_id", flight.call_id))
        flight.started_at = parse_time(fields.pop("timestamp", flight.started_at), "timestamp")
        error, session_id = parse_error(fields.pop("error", None)), fields.pop("session_id", None)
        counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        outcome = outcome_of({**fields, **counts}, provider, capture=self.config.capture_content)
        outcome.fields, outcome.extracted = {"duration_ms": None, **(outcome.fields or {}), "error": error}, True
        if session_id is not None:
            outcome.fields["session_id"] = str(session_id)
        settlement = conclude(flight, outcome)
        assert settlement is not None  # that is the answer to a question only
        engine = self._engine
        if flight.unresolved:
            engine.unresolved.add(flight, partial(_settle_for, flight, settlement))
        elif engine.store.leaves_loop and on_loop():
            engine.settler.start()
            engine.settler.put(partial(engine.settle, settlement))
        else:
            engine.settle(settlement)
        return own_copy(settlement[1])

    # -- health and end -------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Report what is patched, what is guarded, and what this process has counted."""
        return {"patches": patches.status(), "unmetered": patches.unmetered_sdks(), **self._engine.status()}

    def flush(self, timeout: float | None = None) -> bool:
        """Block until everything captured so far is stored or delivered; return whether all of it is.

        `timeout` is seconds; None waits without a limit.
        """
        return self._engine.flush(timeout)

    def close(self) -> None:
        """Unpatch, flush and release the store."""
        self.unpatch_all()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def _settle_for(flight: Flight, settlement: Settlement) -> None:
    """Settle an event whose tenant was not known when it was made."""
    settlement[1].tenant_id = flight.tenant_id
    flight.engine.settle(settlement)


def engine_of(meter: Meter) -> Engine:
    """Return what a Meter runs on: for the framework packages, not for applications."""
    return meter._engine


EXIT_SECONDS = 10.0


def _close_at_exit(reference: weakref.ref[Meter]) -> None:
    meter = reference()
    if meter is None:
        return
    engine = engine_of(meter)
    if engine.in_daemon_threads:  # these threads may go on to make calls: their hooks stay to the last
        land_in_daemon_threads(engine, EXIT_SECONDS)
    else:
        meter.unpatch_all()
    engine.settler.collect()
    engine.close()
    engine.settler.end(EXIT_SECONDS)
