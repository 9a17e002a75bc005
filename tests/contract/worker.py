"""What a process of its own does on a store, driven through a pipe.

It sends `ready`, waits for a line, then runs a command: `spend` sends the id of each call that is settled, `hold` of
one that is admitted and never settled, `fork` sends who was able to work after a fork.
"""

from __future__ import annotations

import json
import os
import uuid
from multiprocessing.connection import Connection

import django
from django.conf import settings

from tests.support import use_pymysql
from tests.waiting import PATIENCE
from token_limit_core import Meter, MeterConfig
from token_limit_core.calls.engine import Engine
from token_limit_core.events import LLMEvent
from token_limit_core.meter import engine_of
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.leases import WORTH
from token_limit_core.stores.records import Call


def open_spec(spec: str) -> Store:
    """Open the store a factory describes: by a store URL, or `django:` and the database's settings as JSON."""
    kind, _, database = spec.partition(":")
    if kind != "django":
        return open_store(spec)
    if "backends.mysql" in database:
        use_pymysql()
    default = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    databases = {"default": default, "ledger": json.loads(database)}
    settings.configure(DATABASES=databases, INSTALLED_APPS=["token_limit_django"], USE_TZ=True)
    django.setup()
    from token_limit_django.store import DjangoStore

    return DjangoStore("ledger", timeout=PATIENCE)


def once(store: Store, tenant: str, estimate: int, now: float) -> str | None:
    """Make one call; return its id once it is settled, an empty one when busy, None when exhausted."""
    call_id = str(uuid.uuid4())
    decision = store.admit(Call(call_id, tenant, estimate), now)
    if not decision.admitted:
        return "" if decision.kind == "busy" else None
    store.settle(call_id, LLMEvent(call_id, tenant, timestamp=now), estimate, now)
    return call_id


def spend(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Call until the limit is exhausted."""
    while (call_id := once(store, tenant, estimate, now)) is not None:
        if call_id:
            pipe.send(call_id)


def hold(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Start a call that never ends."""
    call_id = str(uuid.uuid4())
    if store.admit(Call(call_id, tenant, estimate), now).admitted:
        pipe.send(call_id)
    pipe.recv()


def fork(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Call before a fork, in the child, and in the parent while the child lives and after it ended."""
    once(store, tenant, estimate, now)
    child = os.fork()
    if not once(store, tenant, estimate, now):
        raise SystemExit(f"no call after the fork in {'the parent' if child else 'the child'}")
    pipe.send("parent" if child else "child")
    if child:
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit("the child failed")
        once(store, tenant, estimate, now)


def notice(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Do what `spend` does, and send the percent of each notice instead."""
    store.thresholds = (50, 80, 100)
    store.on_notices = lambda notices: [pipe.send(str(one.percent)) for one in notices]
    while once(store, tenant, estimate, now) is not None:
        pass


def lease(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Make calls, of which the last two are admitted from a lease; the last one never ends."""
    engine = engine_of(Meter(MeterConfig(store=store, lease_seconds=60, clock=lambda: now)))
    for _ in range(WORTH + 1):
        leased(engine, tenant, estimate, now)
    assert engine.access.admit(Call(str(uuid.uuid4()), tenant, estimate), now).admitted
    pipe.send(str(WORTH + 1 + len(engine.access.leases or ())))
    pipe.recv()


def leased(engine: Engine, tenant: str, estimate: int, now: float) -> str:
    """Make one call; tell how it was admitted or refused."""
    call_id = str(uuid.uuid4())
    decision = engine.access.admit(Call(call_id, tenant, estimate), now)
    if not decision.admitted:
        return decision.kind
    how = "leased" if call_id in (engine.access.leases or ()) else "plain"
    engine.settle((call_id, LLMEvent(call_id, tenant, timestamp=now), estimate, None))
    return how


def spend_leased(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Make calls until one was admitted from a lease, wait, and call until the limit is exhausted."""
    engine = engine_of(Meter(MeterConfig(store=store, lease_seconds=60, clock=lambda: now, store_timeout=PATIENCE)))
    calls = 1
    while leased(engine, tenant, estimate, now) == "plain":
        calls += 1
    pipe.send(str(calls))
    pipe.recv()
    calls = 0
    while (how := leased(engine, tenant, estimate, now)) != "exhausted":
        calls += how != "busy"
    pipe.send(str(calls))
    engine.close()


def lease_and_fork(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Take a lease, make a call in a forked child and then one in the parent, and end as processes do."""
    engine = engine_of(Meter(MeterConfig(store=store, lease_seconds=60, clock=lambda: now)))
    for _ in range(WORTH + 1):
        leased(engine, tenant, estimate, now)
    child = os.fork()
    if child and os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the child failed")
    pipe.send(f"{'parent' if child else 'child'}: {leased(engine, tenant, estimate, now)}")
    engine.close()


def calls(pipe: Connection, store: Store, tenant: str, estimate: int, now: float) -> None:
    """Make a call for each user that it is sent, and send back what became of it; an empty line ends it."""
    while user := pipe.recv():
        call_id = str(uuid.uuid4())
        decision = store.admit(Call(call_id, tenant, estimate, user=user), now)
        if decision.admitted:
            store.settle(call_id, LLMEvent(call_id, tenant, timestamp=now, user=user), estimate, now)
        pipe.send(decision.kind)


COMMANDS = {"spend": spend, "hold": hold, "fork": fork, "notice": notice, "lease": lease, "spend_leased": spend_leased,
            "lease_and_fork": lease_and_fork, "calls": calls}  # fmt: skip


def main(pipe: Connection, spec: str, command: str, tenant: str, estimate: int, now: float) -> None:
    """Run one command against the store of `spec`."""
    store = open_spec(spec)
    pipe.send("ready")
    pipe.recv()
    COMMANDS[command](pipe, store, tenant, estimate, now)
    store.close()
