"""The interpreter ends while daemon threads make calls: what the provider bills is settled, and nothing is held."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.support import environment
from tests.waiting import PATIENCE, wait_until
from token_limit_core import Meter, MeterConfig
from token_limit_core.testing import FakeProvider

CALLS = 5
BEGIN = """
import asyncio, sys, threading
import openai
import token_limit_core.meter
from token_limit_core import Meter, MeterConfig

store, url, host, seconds = sys.argv[1:]
token_limit_core.meter.EXIT_SECONDS = float(seconds)
meter = Meter(MeterConfig(store=store, hosts={host: "openai"})).patch_all()
ASK = dict(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
options = dict(api_key="test", base_url=url, max_retries=0)
"""
SYNC = """
def work():
    with meter.for_tenant("acme"):
        openai.OpenAI(**options).chat.completions.create(**ASK)
"""
STREAM = """
def work():
    with meter.for_tenant("acme"):
        for chunk in openai.OpenAI(**options).chat.completions.create(**ASK, stream=True):
            pass
"""
ASYNC = """
def work():
    async def ask():
        with meter.for_tenant("acme"):
            await openai.AsyncOpenAI(**options).chat.completions.create(**ASK)
    asyncio.run(ask())
"""
END = f"""
for _ in range({CALLS}):
    threading.Thread(target=work, daemon=True).start()
sys.stdin.readline()
"""
KINDS = {"sync": SYNC, "stream": STREAM, "async": ASYNC}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def start(kind: str, provider: FakeProvider, store: str, seconds: float) -> subprocess.Popen[str]:
    code = textwrap.dedent(BEGIN + KINDS[kind] + END)
    command = [sys.executable, "-c", code, store, provider.base_url, provider.host, str(seconds)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(provider.requests) == CALLS or process.poll() is not None)
    return process


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_are_answered_while_the_process_ends_are_settled(
    kind: str, provider: FakeProvider, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Meter(MeterConfig(store=store, patches=[])) as meter:
        meter.set_limit("acme", 1)
        pause = provider.pause_after(chunks=0)
        process = start(kind, provider, store, PATIENCE)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        pause.set()
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")

        (total,) = meter.store.rollup("acme", 0, 4e9)
        assert total.total.calls == CALLS
        assert total.total.output_tokens > 0
        assert meter.store.holds() == []


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_are_not_answered_in_time_are_settled_at_their_estimate(
    kind: str, provider: FakeProvider, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Meter(MeterConfig(store=store, patches=[])) as meter:
        meter.set_limit("acme", 1)
        provider.pause_after(chunks=0)
        process = start(kind, provider, store, 0.1)
        process.communicate("\n", timeout=PATIENCE)
        assert process.returncode == 0

        assert meter.store.spend("acme", 0, 4e9).calls == CALLS
        assert meter.store.spend("acme", 0, 4e9).cost_nano > 0
        assert meter.store.holds() == []
