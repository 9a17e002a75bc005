"""A process of its own on a store, driven through its pipes: `worker.py SPEC COMMAND TENANT ESTIMATE NOW`.

It prints `ready`, waits for a line, then runs the command: `spend` prints the id of each call that is settled, `hold`
of one that is admitted and never settled, `fork` prints who was able to work after a fork.
"""

from __future__ import annotations

import json
import os
import sys
import uuid

from token_limit_core.events import LLMEvent
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call


def open_spec(spec: str) -> Store:
    """Open the store a factory describes: by a store URL, or `django:` and the database's settings as JSON."""
    kind, _, database = spec.partition(":")
    if kind != "django":
        return open_store(spec)
    import django
    from django.conf import settings

    default = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    databases = {"default": default, "ledger": json.loads(database)}
    settings.configure(DATABASES=databases, INSTALLED_APPS=["token_limit_django"], USE_TZ=True)
    django.setup()
    from token_limit_django.store import DjangoStore

    return DjangoStore("ledger")


def once(store: Store, tenant: str, estimate: int, now: float) -> str | None:
    """Make one call; return its id once it is settled, an empty one when busy, None when exhausted."""
    call_id = str(uuid.uuid4())
    decision = store.admit(Call(call_id, tenant, estimate), now)
    if not decision.admitted:
        return "" if decision.kind == "busy" else None
    store.settle(call_id, LLMEvent(call_id, tenant, timestamp=now), estimate, now)
    return call_id


def spend(store: Store, tenant: str, estimate: int, now: float) -> None:
    """Call until the limit is exhausted."""
    while (call_id := once(store, tenant, estimate, now)) is not None:
        if call_id:
            print(call_id, flush=True)


def hold(store: Store, tenant: str, estimate: int, now: float) -> None:
    """Start a call that never ends."""
    call_id = str(uuid.uuid4())
    if store.admit(Call(call_id, tenant, estimate), now).admitted:
        print(call_id, flush=True)
    sys.stdin.readline()


def fork(store: Store, tenant: str, estimate: int, now: float) -> None:
    """Call before a fork, in the child, and in the parent while the child lives and after it ended."""
    once(store, tenant, estimate, now)
    child = os.fork()
    if not once(store, tenant, estimate, now):
        raise SystemExit(f"no call after the fork in {'the parent' if child else 'the child'}")
    print("parent" if child else "child", flush=True)
    if child:
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit("the child failed")
        once(store, tenant, estimate, now)


def main(spec: str, command: str, tenant: str, estimate: str, now: str) -> None:
    """Run one command against the store of `spec`."""
    store = open_spec(spec)
    print("ready", flush=True)
    sys.stdin.readline()
    {"spend": spend, "hold": hold, "fork": fork}[command](store, tenant, int(estimate), float(now))
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
