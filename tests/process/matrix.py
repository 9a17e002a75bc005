"""One of many processes that spend one tenant's limit: threads that call OpenAI's SDK against a slow provider."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from tests.contract.sdk import wire
from tests.contract.sdk.uses import CHAT
from tests.contract.sdk.wire import Answer, Wire
from tests.contract.worker import open_spec
from tests.waiting import PATIENCE
from token_limit_core import LimitExceededException, LLMEvent, Meter, MeterConfig
from token_limit_core.money import to_nano
from token_limit_core.stores.contract import Store
from token_limit_core.stores.records import Call

TENANT = "acme"
COST = 32_550
"""Nano-dollars a call costs: 53 fresh and 64 cached input tokens, 33 output tokens of gpt-4o-mini."""
SECONDS = 0.05
"""What the provider takes to answer."""
THREADS = 16


class Spent(NamedTuple):
    """What a process did. `most_held` and `excess` (what calls cost above their holds) are nano-dollars."""

    attempts: int
    answered: int
    billed: int
    most_held: int
    excess: int


def spend(store: Store, attempts: int, busy_wait: float) -> Spent:
    """Make calls from threads until so many were tried; each may wait for money that calls in flight hold."""
    events: list[LLMEvent] = []
    held: dict[str, tuple[int, int]] = {}
    admit = store.admit

    def watched(call: Call, now: float) -> Any:
        least = call.estimate or 0
        held[call.call_id] = (least, max(least, call.ceiling or 0))
        return admit(call, now)

    store.admit = watched  # type: ignore[method-assign]

    def answer(sent: dict[str, Any]) -> Answer:
        return Answer(200, wire.chat(sent).pieces, pause=lambda: time.sleep(SECONDS))

    wired = Wire(answer)
    client = wired.client()
    tries = iter(range(attempts))
    lock = threading.Lock()

    def work(_: int) -> None:
        while True:
            with lock:
                if next(tries, None) is None:
                    return
            try:
                with meter.for_tenant(TENANT):
                    client.chat.completions.create(**CHAT.arguments)
            except LimitExceededException:
                pass

    config = MeterConfig(store=store, on_event=events.append, store_timeout=PATIENCE, busy_wait=busy_wait)
    with Meter(config) as meter, ThreadPoolExecutor(THREADS) as pool:
        meter.patch("openai")
        list(pool.map(work, range(THREADS)))
        assert meter.flush(PATIENCE)
    costs = {event.event_id: to_nano(event.cost_usd) for event in events if event.cost_usd is not None}
    most = max((most for _, most in held.values()), default=0)
    excess = sum(max(0, cost - held[call_id][0]) for call_id, cost in costs.items())
    return Spent(attempts, len(wired.sent), sum(costs.values()), most, excess)


def main(pipe: Connection, spec: str, attempts: int, busy_wait: float) -> None:
    """Open the store of `spec`, wait, spend, and send what was done."""
    store = open_spec(spec)
    pipe.send("ready")
    pipe.recv()
    pipe.send(spend(store, attempts, busy_wait))
