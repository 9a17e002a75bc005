"""Servers that are stopped: what their processes have captured is stored before they end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.servers import ROOT, serving
from tests.support import environment
from token_limit_core import Meter, MeterConfig
from token_limit_core.testing import FakeProvider

APP = "tests.process.leaving:"
GUNICORN = ("gunicorn", f"{APP}flask_app()", "--bind=127.0.0.1:{port}", "--workers=2", "--log-level=error")
UVICORN = ("uvicorn", f"{APP}starlette_app", "--factory", "--port={port}", "--log-level=error")
SERVERS = {
    "gunicorn": GUNICORN,
    "gunicorn --preload": (*GUNICORN, "--preload"),
    "gunicorn --preload, threads": (*GUNICORN, "--preload", "--threads=2"),
    "gunicorn, one request a worker": (*GUNICORN, "--preload", "--max-requests=1"),
    "uvicorn": UVICORN,
    "uvicorn, two workers": (*UVICORN, "--workers=2"),
}


@pytest.mark.parametrize("server", list(SERVERS))
def test_a_server_that_is_stopped_stores_what_it_has_captured(server: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    with FakeProvider() as provider, Meter(MeterConfig(store=store, patches=[])) as meter:
        env = {"LEAVING_PROVIDER": provider.base_url, "LEAVING_STORE": store}
        with serving(*SERVERS[server], env=env) as running:
            done = sum(requests.get(running.url, timeout=30).ok for _ in range(6))
        assert done == len(provider.requests) == 6
        assert meter.store.spend("acme", 0, 4e9).calls == 6
        assert meter.store.holds() == []


HELD = """
import openai
from token_limit_core import Meter, MeterConfig

meter = Meter(MeterConfig(store={store!r}, hosts={{{host!r}: "openai"}})).patch_all()
client = openai.OpenAI(api_key="test", base_url={url!r}, max_retries=0)

def begin():
    with meter.for_tenant("acme"):
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=[{message!r}], stream=True)
    next(iter(stream))
    return stream
"""
HOLDERS = {
    "a global": "stream = begin()",
    "the traceback of what ended it": "def view():\n    stream = begin()\n    raise SystemError\nview()",
}


@pytest.mark.parametrize("holder", list(HOLDERS))
def test_a_stream_that_is_held_until_the_process_ends_is_stored(holder: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    message = {"role": "user", "content": "What does a limit do?"}
    with FakeProvider() as provider, Meter(MeterConfig(store=store, patches=[])) as meter:
        meter.set_limit("acme", 1)
        host = provider.base_url.partition("//")[2].partition("/")[0]
        code = HELD.format(store=store, host=host, url=provider.base_url, message=message) + HOLDERS[holder]
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)

        assert "token-limit" not in run.stderr
        assert meter.store.spend("acme", 0, 4e9).calls == 1
        assert meter.store.holds() == []
