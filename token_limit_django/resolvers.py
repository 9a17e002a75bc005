"""Who pays for a Django request: found at the first LLM call, when authentication has surely happened.

The order, for an authenticated user only: `request.tenant` (django-tenants and the like), the attributes of the user
named in USER_TENANT_ATTRIBUTES, then `user:<pk>`. Nothing a client sends is ever read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

from token_limit_core import Meter
from token_limit_core.errors import ConfigurationError
from token_limit_core.exchange import Exchange
from token_limit_core.meter import engine_of
from token_limit_core.runtime.executor import on_loop
from token_limit_core.scope import first_tenant, tenant_id

from .conf import settings


class RequestScope(Exchange):
    """The Scope of a Django request."""

    def __init__(self, request: HttpRequest, meter: Meter, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(
            engine=engine_of(meter),
            resolve=partial(resolve, request),
            aresolve=partial(aresolve, request),
            loop=loop,
        )
        self.peeks: bool = settings.PEEK_STREAMS

    def tenant_elsewhere(self) -> str | None:
        """Return the tenant, and close the connections that this has opened: Django cleans up after requests only."""
        with _own_connections():
            return self.tenant()

    async def atenant_elsewhere(self) -> str | None:
        """Do what `tenant_elsewhere()` does in a thread of its own."""
        return await sync_to_async(self.tenant_elsewhere, thread_sensitive=False)()


@contextmanager
def _own_connections() -> Iterator[None]:
    """Close the connections that a block opens in this thread."""
    before = _open_connections()
    try:
        yield
    finally:
        for connection in _open_connections() - before:
            connection.close()


def _open_connections() -> set[BaseDatabaseWrapper]:
    return {each for each in connections.all(initialized_only=True) if each.connection is not None}


def resolve(request: HttpRequest) -> str | None:
    """Return the tenant of a request in synchronous code."""
    resolver = settings.TENANT_RESOLVER
    if resolver is None:
        return _tenant(request, _user(request))
    if iscoroutinefunction(resolver):
        return tenant_id(async_to_sync(resolver)(request))
    return tenant_id(resolver(request))


async def aresolve(request: HttpRequest) -> str | None:
    """Return the tenant of a request in asynchronous code; look-ups run off the event loop."""
    try:
        return await _aresolve(request)
    except RuntimeError:  # asgiref cannot reach the thread of a sync view that waits in asyncio.run() for this
        return await sync_to_async(_resolve_alone, thread_sensitive=False)(request)


def _resolve_alone(request: HttpRequest) -> str | None:
    with _own_connections():
        return resolve(request)


async def _aresolve(request: HttpRequest) -> str | None:
    resolver: Callable[..., Any] | None = settings.TENANT_RESOLVER
    if resolver is None:
        user = await _auser(request)
        if not settings.USER_TENANT_ATTRIBUTES and getattr(request, "tenant", None) is None:
            return _tenant(request, user)
        return await sync_to_async(_tenant)(request, user)  # attributes may be relations still to be loaded
    if iscoroutinefunction(resolver):
        return tenant_id(await resolver(request))
    return tenant_id(await sync_to_async(resolver)(request))


def payer_of(name: str) -> str | None:
    """Return the tenant that a user pays as, in a request made up for it.

    `name` is what the user signs in with, or the primary key. Raises `ConfigurationError` for an unknown user.
    """
    request = HttpRequest()
    request.user = _user_called(name)
    return resolve(request)


def _user_called(name: str) -> Any:
    users: Any = get_user_model()._default_manager
    try:
        return users.get_by_natural_key(name)
    except ObjectDoesNotExist:
        with suppress(ObjectDoesNotExist, ValueError, ValidationError):  # a name may be no primary key at all
            return users.get(pk=name)
    raise ConfigurationError(f"user: there is no {name!r}; expected the name that the user signs in with, or its id")


def _tenant(request: HttpRequest, user: Any) -> str | None:
    if user is None or not user.is_authenticated:
        return None
    attributes = (getattr(user, name, None) for name in settings.USER_TENANT_ATTRIBUTES)
    found = first_tenant(chain((getattr(request, "tenant", None),), attributes))
    return f"user:{user.pk}" if found is None else found  # the prefix keeps user 7 and organisation 7 on separate bills


def _user(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    if isinstance(user, SimpleLazyObject) and user._wrapped is empty and on_loop():
        # Django refuses the look-up here, and it would block the loop
        loaded = getattr(request, "_acached_user", None)
        if loaded is None:
            raise ConfigurationError(
                "a synchronous LLM call in an async view cannot look the user up: use the async client, "
                "or `await request.auser()` before the call"
            )
        return loaded
    return user


async def _auser(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    if isinstance(user, SimpleLazyObject) and user._wrapped is empty:
        auser = getattr(request, "auser", None)
        return await auser() if auser is not None else await sync_to_async(_load)(user)
    return user


def _load(user: Any) -> Any:
    user.is_authenticated  # noqa: B018 - evaluates the lazy object
    return user
