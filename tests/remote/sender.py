"""A service that reports, as a process of its own: `sender.py COMMAND SETTINGS`, settings of its Meter in JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from decimal import Decimal

from tests.waiting import PATIENCE
from token_limit_core import Meter, MeterConfig
from token_limit_core.delivery import buffers, spool, transport
from token_limit_core.delivery.buffers import CLAIM_SECONDS
from token_limit_core.events import LLMEvent
from token_limit_core.stores.records import Call

COST = Decimal("0.01")


def record(meter: Meter, number: int) -> None:
    """Make some calls of one tenant."""
    for _ in range(number):
        meter.track_manually(provider="openai", model="gpt-4o-mini", input_tokens=9, output_tokens=1, tenant_id="acme")


def send(meter: Meter) -> None:
    """Record, deliver, and say when that is done."""
    record(meter, 20)
    print("recorded", flush=True)
    print("delivered" if meter.flush(60) else "not delivered", flush=True)


def drain(meter: Meter) -> None:
    """Deliver what an earlier process left behind."""
    record(meter, 1)
    print("delivered" if meter.flush(60) else "not delivered", flush=True)


def fork(meter: Meter) -> None:
    """Record before a fork, and in the child, which delivers and ends as an application does."""
    record(meter, 3)
    before = threading.active_count()
    child = os.fork()
    if child == 0:
        assert threading.active_count() == 1 < before
        record(meter, 2)
        assert meter.flush(60)
        print("child", flush=True)
        return
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sys.stdin.readline()
    assert meter.flush(60)
    print("parent", flush=True)


def spend(meter: Meter) -> None:
    """Call with 64 threads until the limit refuses them all; write down when each call was admitted and captured."""
    cost, lines = 10_000_000, []

    def work() -> None:
        while True:
            call_id, admitted = str(uuid.uuid4()), time.time()
            decision = meter.store.admit(Call(call_id, "acme", cost), admitted)
            if decision.admitted:
                captured = time.time()
                event = LLMEvent(call_id, "acme", provider="openai", model="m", timestamp=captured, cost_usd=COST)
                meter.store.settle(call_id, event, cost, captured)
                lines.append(json.dumps([call_id, admitted, captured]))
            elif decision.kind == "busy":
                time.sleep(0.001)
            else:
                return

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.flush(60)
    for line in lines:
        print(line, flush=True)


def main(command: str, settings: str) -> None:
    """Run one command, and end as any application does: nothing is closed here."""
    given = json.loads(settings)
    transport.CONNECT_SECONDS = transport.READ_SECONDS = transport.CHECK_READ_SECONDS = PATIENCE  # as in `conftest.py`
    spool.CLAIM_SECONDS = buffers.CLAIM_SECONDS = given.pop("claim_seconds", CLAIM_SECONDS)
    meter = Meter(MeterConfig(on_flush_error=print, **given))
    print("ready", flush=True)
    sys.stdin.readline()
    {"send": send, "drain": drain, "fork": fork, "spend": spend}[command](meter)


if __name__ == "__main__":
    main(*sys.argv[1:])
