"""Scope: who pays for a call. One mutable object in one ContextVar.

Frameworks copy contexts into threads and tasks but not back, so what happens late in a request (a tenant that is
resolved, a refusal) changes the request's Scope in place; only the frame that sets the variable resets it. An explicit
tenant is a new child Scope: two tasks of one request must not see each other's tenant.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .limits import EVERYONE
from .runtime.faults import ConfigurationError, log_fault, should_raise, shown
from .runtime.language import preferred

if TYPE_CHECKING:
    from .limits import Decision

logger: logging.Logger = logging.getLogger("token_limit")

Resolver = Callable[[], str | None]
AsyncResolver = Callable[[], Awaitable[str | None]]


class Scope:
    """The tenant of a request, task or block, resolved at the first LLM call and then frozen."""

    tenant_id: str | None = None
    tenant_name: str | None = None
    """The name of an explicit tenant, for people to read."""
    engine: Any = None
    """The `calls.engine.Engine` that meters the calls; None: the one patched last. Scopes are below engines."""
    parent: Scope | None = None
    session_id: str | None = None
    attributes: dict[str, Any] | None = None
    denial: Decision | None = None
    peeks = False
    accept_language: str | None = None
    """What the request says of the reader's language: its `Accept-Language` header, or a code."""
    unresolved: bool = False
    """True while the resolver fails: who pays is not known yet, which is not the same as nobody."""
    resolvable = True
    """False in a task that was sent while the resolver failed. Its tenant is never known, so its calls are refused."""
    resolves_elsewhere = True
    """Whether the tenant can be resolved now in a thread that does not serve the request."""
    _resolve: Resolver | None = None
    _aresolve: AsyncResolver | None = None

    def __init__(
        self,
        tenant_id: str | None = None,
        *,
        engine: Any = None,
        parent: Scope | None = None,
        resolve: Resolver | None = None,
        aresolve: AsyncResolver | None = None,
        session_id: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.tenant_id = tenant_id
        self.engine = engine
        self.parent = parent
        self.session_id = session_id
        self.attributes = attributes
        self._resolve = resolve
        self._aresolve = aresolve

    def tenant(self) -> str | None:
        """Return the tenant, and resolve it on the first call; None when there is none or the resolver fails."""
        if self.tenant_id is None:
            try:
                self._freeze(self._find())
            except Exception as error:
                self._fail(error)
        return self.tenant_id

    async def atenant(self) -> str | None:
        """Do what `tenant()` does, without blocking the event loop."""
        if self.tenant_id is None:
            try:
                self._freeze(await self._afind())
            except Exception as error:
                self._fail(error)
        return self.tenant_id

    def tenant_elsewhere(self) -> str | None:
        """Do what `tenant()` does in a thread that does not serve the request."""
        return self.tenant()

    async def atenant_elsewhere(self) -> str | None:
        """Do what `tenant_elsewhere()` does, without blocking the event loop."""
        return await self.atenant()

    def _find(self) -> str | None:
        return None if self._resolve is None else self._resolve()

    async def _afind(self) -> str | None:
        return self._find() if self._aresolve is None else await self._aresolve()

    def attributed(self) -> tuple[str | None, str | None]:
        """Return the user and the feature of the calls in this Scope, as they are on its events."""
        if not self.attributes:
            return None, None
        user, feature = self.attributes.get("user"), self.attributes.get("feature")
        return None if user is None else str(user), None if feature is None else str(feature)

    def bind(self, tenant_id: str) -> None:
        """Set the tenant in place, for all threads, tasks and streamed bodies that share this Scope."""
        self.tenant_id = check_tenant(tenant_id)
        self.unresolved = False
        self._resolve = self._aresolve = None

    @property
    def language(self) -> str:
        """The language of those who read the answer to the request."""
        return preferred(self.request.accept_language)

    @property
    def request(self) -> Scope:
        """The Scope of the request itself; blocks with an explicit tenant are below it."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def _freeze(self, tenant_id: str | None) -> None:
        self.unresolved = False
        if tenant_id is not None and self.tenant_id is None:
            self.tenant_id = check_tenant(tenant_id)
        if self.tenant_id is not None:
            self._resolve = self._aresolve = None

    def _fail(self, error: Exception) -> None:
        self.unresolved = True
        engine = self.request.engine
        _report_resolver(error, 1 if engine is None else engine.resolver_failures.due())

    def detached(self) -> Scope:
        """Make a Scope with the same tenant that keeps nothing of the request, which may be over before the work is."""
        return Scope(self.tenant(), engine=self.engine, session_id=self.session_id, attributes=self.attributes)

    def swallowed(self, status: int) -> Decision | None:
        """Return the refusal that an application answers with an error of its own, such as 500; None for no refusal.

        An answer with the refusal's own status was made for it.
        """
        denial = self.request.denial
        return denial if denial is not None and status >= 400 and status != denial.status else None

    def deny(self, decision: Decision) -> None:
        """Remember a refusal here and on the request above, for the middleware to render."""
        scope: Scope | None = self
        while scope is not None:
            scope.denial = decision
            scope = scope.parent


def _report_resolver(error: Exception, times: int) -> None:
    """Log a resolver's fault, which is the application's, if that is due."""
    if isinstance(error, ConfigurationError) and should_raise():
        raise error
    if times:
        log_fault("the tenant cannot be resolved (%d times since the last message)", times)


_scope: ContextVar[Scope | None] = ContextVar("token_limit_scope", default=None)


current = _scope.get
"""Return the Scope in force, or None."""
enter = _scope.set
leave = _scope.reset


def _is_below(scope: Scope | None, above: Scope) -> bool:
    while scope is not None and scope is not above:
        scope = scope.parent
    return scope is not None


def check_tenant(tenant_id: object) -> str:
    """Return a usable tenant id (1 to 255 characters), else raise `ConfigurationError`."""
    name = str(tenant_id)
    if name == EVERYONE:
        raise ConfigurationError("tenant_id: '*' stands for all tenants together and cannot be one; give another id")
    if tenant_id is None or not name or len(name) > 255 or "\0" in name or not _has_utf8(name):
        raise ConfigurationError(f"tenant_id: {shown(tenant_id)} is not usable; give a text of 1 to 255 characters")
    return name


def check_payer(tenant_id: object) -> str:
    """Return the id of what may have a limit: a tenant's, or `""` for calls without a tenant; see `check_tenant`."""
    return "" if tenant_id == "" else check_tenant(tenant_id)


def _has_utf8(name: str) -> bool:
    """Tell whether a database can keep a text: half of a surrogate pair, as JSON may have one, has no UTF-8."""
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


def tenant_id(tenant: Any) -> str | None:
    """Name a tenant that a resolver found: texts and numbers as they are, objects by their `pk`, else their `id`.

    None where there is no tenant: an empty text, or an object that was never saved. Raises `ConfigurationError` for
    anything else, such as a method or a relation to many: all that share its text would share a bill.
    """
    if tenant is None or isinstance(tenant, str):
        return tenant or None
    if isinstance(tenant, (int, float, Decimal, UUID)) and type(tenant) is not bool:
        return str(tenant)
    for key in ("pk", "id"):
        if hasattr(tenant, key):
            value = getattr(tenant, key)
            return None if value is None else str(value)
    raise ConfigurationError(
        f"tenant: {type(tenant).__name__} has neither `pk` nor `id`; give its name, as text or a number"
    )


def first_tenant(found: Iterable[Any]) -> str | None:
    """Name the first of several that is a tenant, as `tenant_id` does; those after it are not looked at."""
    return next((name for tenant in found if (name := tenant_id(tenant)) is not None), None)


@contextmanager
def use(scope: Scope | None) -> Iterator[Scope | None]:
    """Put a Scope in force for a block.

    Only what is still of this block is undone at its end: a generator may end it in another request, or context.
    """
    before = _scope.get()
    _scope.set(scope)
    try:
        yield scope
    finally:
        if scope is None or _is_below(_scope.get(), scope):
            _scope.set(before)


def child(
    engine: Any,
    tenant_id: str | None,
    session_id: str | None = None,
    attributes: dict[str, Any] | None = None,
    name: str | None = None,
) -> Scope:
    """Make a Scope with an explicit tenant below the one in force; None is explicitly no tenant."""
    checked = None if tenant_id is None else check_tenant(tenant_id)
    scope = Scope(checked, engine=engine, parent=current(), session_id=session_id, attributes=attributes)
    scope.tenant_name = name
    return scope
