"""The contract of limits, plans, top-ups and notices, managed over the wire: a remote store, and the real endpoints."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.contract import test_markup, test_notices, test_store_limits
from tests.contract.calls import NOW
from tests.remote.receiver import Receiver
from token_limit_core.delivery.addresses import endpoints
from token_limit_core.delivery.remote_store import RemoteStore
from token_limit_core.delivery.transport import Transport
from token_limit_core.ingest.endpoints import Ingest
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store
from token_limit_core.stores.reports import Change
from token_limit_core.testing.clock import Clock

MANAGED = (
    "set_limit", "remove_limit", "limits", "rules", "usage", "preview", "plans", "set_plan", "remove_plan",
    "assign_plan", "set_markup", "suspend", "resume", "top_up", "adjust", "name_tenant",
    "rename_tenant", "merge_tenants", "erase_tenant", "report",
)  # fmt: skip


class Wired:
    """A store that is managed over the wire, and admits and settles where its rows are."""

    def __init__(self, local: Store, remote: RemoteStore, clock: Clock) -> None:
        vars(self).update(local=local, remote=remote, clock=clock)

    def __getattr__(self, name: str) -> Any:
        return partial(self.over_the_wire, name) if name in MANAGED else getattr(self.local, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.local, name, value)

    def history(self, *given: Any, **more: Any) -> list[Change]:
        """List the changes without those of keys, and by the person alone: the backend names the key, too."""
        changes = [change for change in self.local.history(*given, **more) if change.kind != "make-key"]
        return [change._replace(actor=change.actor.rpartition(": ")[2]) for change in changes]

    def over_the_wire(self, name: str, *given: Any, **more: Any) -> Any:
        method = getattr(self.remote, name)
        now = inspect.signature(method).bind(*given, **more).arguments.get("now")
        if now is not None:
            self.clock.set(now)
        return method(*given, **more)


@pytest.fixture
def store() -> Iterator[Any]:
    local, clock = open_store("memory://"), Clock(NOW)
    with Receiver(local, Ingest(local, clock)) as receiver:
        remote = RemoteStore(Transport(endpoints(receiver.url), receiver.token), ttl=0)
        yield Wired(local, remote, clock)
        remote.close()
    local.close()


def contract_of(module: Any) -> dict[str, Any]:
    wanted = {name: one for name, one in vars(module).items() if name.startswith("test_")}
    return {name: one for name, one in wanted.items() if "spec" not in inspect.signature(one).parameters}


sent = test_notices.sent
globals().update(contract_of(test_store_limits) | contract_of(test_notices) | contract_of(test_markup))
