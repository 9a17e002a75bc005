"""What travels with a task: the tenant in force where it was started, as a small versioned dict.

    {"v": 1, "tenant": "acme", "session": "s-1", "attributes": {"feature": "report"}}

`session` and `attributes` are left out when there are none. Nothing travels when no tenant is in force. The dict is
not signed: who can write to the broker can run any task anyway, so the broker is trusted like the database.
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

logger = logging.getLogger("token_limit")

KEY = "token_limit"
"""The name of the header, option or meta entry that carries the dict."""

VERSION = 1
FLUSH_SECONDS = 10.0


def dump() -> dict[str, Any] | None:
    """Describe the tenant in force for another process, resolving it first; None when there is none."""
    scope = scopes.current()
    tenant_id = None if scope is None else scope.tenant()
    if scope is None or tenant_id is None:
        return None
    data: dict[str, Any] = {"v": VERSION, "tenant": tenant_id}
    if scope.session_id is not None:
        data["session"] = scope.session_id
    attributes = {name: value for name, value in (scope.attributes or {}).items() if _is_json(name, value)}
    if attributes:
        data["attributes"] = attributes
    return data


def load(data: Any, meter: Meter | None = None) -> Exchange:
    """Make the Scope of a task from what came with it; without a usable tenant it has none.

    `on_no_tenant` then decides what becomes of the task's calls. Never raises: a task runs whatever came with it.
    """
    if data is None:
        return Exchange(engine=_engine(meter))
    try:
        if data["v"] != VERSION:
            raise ValueError(f"version {data['v']!r} is not {VERSION}")
        tenant_id = scopes.check_tenant(data["tenant"])
        attributes = data.get("attributes")
        if not isinstance(attributes, dict | None):
            raise ValueError("attributes: not a dict")
        return Exchange(tenant_id, engine=_engine(meter), session_id=data.get("session"), attributes=attributes)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        logger.warning("the tenant that came with a task cannot be read (%r); the task has none", error)
        return Exchange(engine=_engine(meter))


@contextmanager
def task(data: Any, meter: Meter | None = None) -> Iterator[None]:
    """Run a task in the Scope that came with it, and leave nothing of that behind for the next."""
    scope = load(data, meter)
    token = scopes.enter(scope)
    try:
        yield
    finally:
        scopes.leave(token)
        scope.end()


def flush(meter: Meter | None = None) -> None:
    """Store what this process has captured, at most `FLUSH_SECONDS` a Meter: for hooks at a process's end."""
    for engine in dict.fromkeys([*patches.engines(), *([] if meter is None else [engine_of(meter)])]):
        engine.settler.collect()
        if not engine.flush(FLUSH_SECONDS):
            waiting = len(engine.access.backlog)
            logger.error("the process ends with %d settled calls that the store did not take", waiting)


def _engine(meter: Meter | None) -> Engine | None:
    return None if meter is None else engine_of(meter)


def _is_json(name: str, value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        logger.debug("the attribute %r does not travel with the task: JSON cannot hold it", name)
        return False
    return True
