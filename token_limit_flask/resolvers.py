"""Resolve the tenant of a Flask request at its first LLM call, after authentication.

The order: `g.tenant`, the attributes of Flask-Login's `current_user` named in USER_TENANT_ATTRIBUTES, then
`user:<id>`. In an app with Flask-Login, all of these apply to an authenticated user only. In an app without it, only
`g.tenant` applies. No value that a client sends is read.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import Context, copy_context
from itertools import chain
from typing import Any

from flask import Flask, current_app, g, has_request_context, request

from token_limit_core import Meter
from token_limit_core import scope as scopes
from token_limit_core.errors import ConfigurationError
from token_limit_core.exchange import Exchange
from token_limit_core.meter import engine_of
from token_limit_core.runtime.executor import on_loop
from token_limit_core.scope import first_tenant, tenant_id

from .conf import Settings


class RequestScope(Exchange):
    """The Scope of a Flask request; `context` re-enters the request in its streamed body and on other event loops."""

    context: Context | None = None

    def __init__(self, meter: Meter, settings: Settings) -> None:
        super().__init__(engine=engine_of(meter))
        self.settings = settings
        if settings.peek_streams:
            self.peeks = True

    def end(self) -> None:
        """Settle open calls, and drop the reference to the request unless its tenant may still be resolved."""
        super().end()
        if self.tenant_id is not None or not (self.works or self.unresolved):
            self.context = None

    @property
    def resolves_elsewhere(self) -> bool:  # type: ignore[override]
        """Whether the request is over: until then its database session belongs to its own thread."""
        return self.ended

    def _find(self) -> str | None:
        """Return the tenant in synchronous code; None outside a request."""
        if self._is_here():
            return self._resolve_here()
        return None if self.context is None else self.context.copy().run(self._resolve_away)

    def _resolve_away(self) -> str | None:
        """Resolve in the context of the request, and clean up after that if the request is over."""
        try:
            return self._resolve_here()
        finally:
            if self.ended:
                current_app.do_teardown_appcontext()

    async def _afind(self) -> str | None:
        """Return the tenant in asynchronous code.

        A synchronous look-up runs on the calling thread, as `current_user` does: an async view has its own event loop,
        and the database connections of the app belong to that thread.
        """
        if self._is_here():
            return await self._aresolve_here()
        if self.context is None:
            return None
        return await asyncio.get_running_loop().create_task(self._aresolve_here(), context=self.context.copy())

    def _is_here(self) -> bool:
        """Return whether Flask's current request is this one; a reused event loop may hold an earlier one."""
        return has_request_context() and (self.context is None or _request() is self.context.copy().run(_request))

    def _resolve_here(self) -> str | None:
        found = self._ask()
        if not inspect.isawaitable(found):
            return tenant_id(found)
        if on_loop():
            found.close()  # type: ignore[attr-defined]
            raise ConfigurationError(
                "TENANT_RESOLVER: a synchronous LLM call in an async view cannot await an async resolver; "
                "use the async client"
            )
        return tenant_id(current_app.async_to_sync(_wait)(found))

    async def _aresolve_here(self) -> str | None:
        found = self._ask()
        return tenant_id(await found if inspect.isawaitable(found) else found)

    def _ask(self) -> Any:
        resolver = self.settings.tenant_resolver
        if resolver is None:
            return _tenant(current_app, self.settings.user_tenant_attributes)
        return resolver(_request())


def payer_of(app: Flask, meter: Meter, settings: Settings, user_id: str) -> str | None:
    """Return the tenant that a user of Flask-Login pays as, in a request made up for it.

    Raises `ConfigurationError` for an app without Flask-Login, and for an unknown user.
    """
    manager = getattr(app, "login_manager", None)
    if manager is None or manager._user_callback is None:
        raise ConfigurationError(
            "user: this app has no Flask-Login with a user_loader, so its users are not known here; who pays is found "
            "in each request, by TENANT_RESOLVER or g.tenant"
        )
    with app.test_request_context():
        user = manager._user_callback(user_id)
        if user is None:
            raise ConfigurationError(f"user: the user_loader knows no {user_id!r}; expected an id, as get_id() returns")
        g._login_user = user  # as Flask-Login remembers it
        return RequestScope(meter, settings)._resolve_here()


def remember_contexts(app: Flask) -> None:
    """Save the context of each request in its Scope, before any code of the app runs.

    This is not a `before_request` function: Flask inspects each of those in every request, which takes 3 microseconds.
    """
    plain = app.preprocess_request

    def preprocess_request(*args: Any) -> Any:
        scope = scopes.current()
        if isinstance(scope, RequestScope):
            scope.context = copy_context()
        return plain(*args)

    app.preprocess_request = preprocess_request  # type: ignore[method-assign]


def _request() -> Any:
    return request._get_current_object()  # type: ignore[attr-defined]


async def _wait(found: Any) -> Any:
    return await found


def _tenant(app: Flask, attributes: Any) -> Any:
    tenant = g.get("tenant")
    if not hasattr(app, "login_manager"):
        return tenant
    from flask_login import current_user  # type: ignore[import-untyped]

    if not current_user.is_authenticated:
        return None
    found = first_tenant(chain((tenant,), (getattr(current_user, name, None) for name in attributes)))
    # the prefix keeps user 7 apart from organisation 7; get_id() may be a token that changes
    return found if found is not None else f"user:{getattr(current_user, 'id', None) or current_user.get_id()}"
