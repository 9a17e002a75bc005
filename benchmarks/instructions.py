"""Count the instructions that metering adds to one call, with cachegrind: neighbours on the machine do not move them.

Usage: python benchmarks/instructions.py [CALL ...] [--store URL ...]; needs valgrind.

A fresh process makes 20 calls and another 70. A fiftieth of the difference is one call, without imports and start-up.
What the same calls take unpatched is subtracted. The tenant has one limit and the Meter an `on_event` hook.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai

from token_limit_core import LLMEvent, Meter, MeterConfig

FEW, MANY = 20, 70
VALGRIND = "valgrind --tool=cachegrind --cache-sim=no --branch-sim=no --fair-sched=yes --cachegrind-out-file=/dev/null"
TEXT = "Summarise: " + "the worker lost its connection; " * 50
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_764_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "word " * 90, "refusal": None, "annotations": []},
        }
    ],
    "usage": {
        "prompt_tokens": 412,
        "completion_tokens": 100,
        "total_tokens": 512,
        "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "content": [{"type": "text", "text": "word " * 90}],
    "usage": {
        "input_tokens": 412,
        "output_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 128,
        "service_tier": "standard",
    },
}


def main() -> None:
    """Count, and print one line for each call and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("calls", nargs="*", metavar="CALL", help=f"of {', '.join(CALLS)} (default: all)")
    parser.add_argument("--store", action="append", dest="stores", help="a store's URL (default: memory and SQLite)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.calls[0], options.worker[0], int(options.worker[1]))
    for call in options.calls or CALLS:
        base = per_call(call, "")
        print(f"{call:<12} unpatched        {base:>10,}", flush=True)
        for store in options.stores or ["memory://", "sqlite:///"]:
            added = per_call(call, store) - base
            print(f"{call:<12} {store.partition(':')[0]:<10} adds {added:>11,}  {added / base:.1%}", flush=True)


def per_call(call: str, store: str) -> int:
    """Return the instructions of one call on a store; without one, of the unpatched SDK."""
    return (_count(call, store, MANY) - _count(call, store, FEW)) // (MANY - FEW)


def _count(call: str, store: str, calls: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}" if store == "sqlite:///" else store
        command = [*VALGRIND.split(), sys.executable, __file__, call, "--worker", url, str(calls)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(done.stderr[-2000:])
    return int(found[1].replace(",", ""))


def work(call: str, store: str, calls: int) -> None:
    """Make calls in this process, and leave it without the work of its end."""
    with metered(store, calls) if store else unmetered():
        CALLS[call](1)
        gc.freeze()  # else one run has to look through all modules once more than another
        CALLS[call](calls)
        os._exit(0)


@contextmanager
def unmetered() -> Iterator[None]:
    """Leave the SDKs alone."""
    yield


@contextmanager
def metered(store: str, calls: int) -> Iterator[None]:
    """Meter the calls of the block for a tenant with a limit, and see that each of them was recorded."""
    events: list[LLMEvent] = []
    now = time.time()  # a run takes minutes under valgrind, and a price is compiled anew for each
    meter = Meter(MeterConfig(store=store, on_event=events.append, clock=lambda: now)).patch_all()
    meter.set_limit("tenant", 1_000_000)
    with meter.for_tenant("tenant"):
        yield
    assert len(events) == calls + 1


def _transport(body: dict[str, Any]) -> httpx2.MockTransport:
    content, headers = json.dumps(body).encode(), {"content-type": "application/json", "x-request-id": "req_1"}
    return httpx2.MockTransport(lambda request: httpx2.Response(200, headers=headers, content=content))


ASK: dict[str, Any] = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 100}


def openai_plain(calls: int) -> None:
    """Make plain chat completions."""
    http = openai.DefaultHttpxClient(transport=_transport(CHAT))
    client = openai.OpenAI(api_key="x", max_retries=0, http_client=http)
    for _ in range(calls):
        client.chat.completions.create(model="gpt-4o-mini", **ASK)


def openai_async(calls: int) -> None:
    """Make plain chat completions on an event loop."""

    async def run() -> None:
        http = openai.DefaultAsyncHttpxClient(transport=_transport(CHAT))
        client = openai.AsyncOpenAI(api_key="x", max_retries=0, http_client=http)
        for _ in range(calls):
            await client.chat.completions.create(model="gpt-4o-mini", **ASK)

    asyncio.run(run())


def anthropic_plain(calls: int) -> None:
    """Make plain messages."""
    http = anthropic.DefaultHttpxClient(transport=_transport(MESSAGE))
    client = anthropic.Anthropic(api_key="x", max_retries=0, http_client=http)
    for _ in range(calls):
        client.messages.create(model="claude-haiku-4-5", **ASK)


CALLS: dict[str, Callable[[int], None]] = {
    "openai": openai_plain,
    "openai-async": openai_async,
    "anthropic": anthropic_plain,
}

if __name__ == "__main__":
    main()
