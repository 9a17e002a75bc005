"""The format of the tenant in a task message: a small versioned dict.

    {"v": 1, "tenant": "acme", "session": "s-1", "attributes": {"feature": "report"}}

`session` and `attributes` are left out if they are empty. Without a tenant in force nothing is added to the message. If
the resolver fails, `"unresolved": true` is sent in place of `tenant`: the worker then refuses the calls of the task, as
their tenant is not known.

The dict is not signed: any client that can write to the broker can run any task, so the broker is trusted like the
database.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import patches
from .. import scope as scopes
from ..calls.engine import Engine
from ..exchange import Exchange
from ..meter import Meter, engine_of

logger: logging.Logger = logging.getLogger("token_limit")

KEY = "token_limit"
"""The name of the header, option or meta entry that holds the dict."""

VERSION = 1
FLUSH_SECONDS = 10.0


class _Unresolved(Exchange):
    """The Scope of a task that was sent while its tenant could not be resolved. The task may still set one."""

    unresolved = True
    resolvable = False

    def tenant(self) -> str | None:
        return self.tenant_id

    async def atenant(self) -> str | None:
        return self.tenant_id


def dump() -> dict[str, Any] | None:
    """Resolve the tenant in force and return its dict; None without a tenant."""
    scope = scopes.current()
    tenant_id = None if scope is None else scope.tenant()
    if scope is None or (tenant_id is None and not scope.unresolved):
        return None
    data: dict[str, Any] = {"v": VERSION}
    data |= {"unresolved": True} if tenant_id is None else {"tenant": tenant_id}
    if scope.session_id is not None:
        data["session"] = scope.session_id
    attributes = {name: value for name, value in (scope.attributes or {}).items() if _is_json(name, value)}
    if attributes:
        data["attributes"] = attributes
    return data


def load(data: Any, meter: Meter | None = None) -> Exchange:
    """Make the Scope of a task from its dict; without a valid dict the Scope has no tenant.

    `on_no_tenant` then applies to the calls of the task. Never raises: an invalid dict must not stop a task.
    """
    if data is None:
        return Exchange(engine=_engine(meter))
    try:
        if data["v"] != VERSION:
            raise ValueError(f"version: invalid value {data['v']!r}; expected {VERSION}")
        attributes = data.get("attributes")
        if not isinstance(attributes, dict | None):
            raise ValueError("attributes: expected a dict")
        options: dict[str, Any] = {"session_id": data.get("session"), "attributes": attributes}
        if data.get("unresolved") is True:
            logger.warning("a task was sent while its tenant could not be resolved; its calls are refused")
            return _Unresolved(engine=_engine(meter), **options)
        return Exchange(scopes.check_tenant(data["tenant"]), engine=_engine(meter), **options)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        logger.warning("a task message has an invalid tenant (%r); the task runs without a tenant", error)
        return Exchange(engine=_engine(meter))


@contextmanager
def task(data: Any, meter: Meter | None = None) -> Iterator[None]:
    """Run a task inside the Scope of its message, and restore the previous Scope."""
    scope = load(data, meter)
    token = scopes.enter(scope)
    try:
        yield
    finally:
        scopes.leave(token)
        scope.end()


def flush(meter: Meter | None = None) -> None:
    """Flush settled calls to the store, for at most `FLUSH_SECONDS` per Meter: for hooks at the end of a process."""
    for engine in dict.fromkeys([*patches.engines(), *([] if meter is None else [engine_of(meter)])]):
        engine.settler.collect()
        if not engine.flush(FLUSH_SECONDS):
            waiting = len(engine.access.backlog)
            logger.error("the process ends with %d settled calls that are not stored", waiting)


def _engine(meter: Meter | None) -> Engine | None:
    return None if meter is None else engine_of(meter)


def _is_json(name: str, value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        logger.debug("the attribute %r is not sent with the task: it has no JSON form", name)
        return False
    return True
