"""`token-limit fake-provider`, as a process: calls are priced without a setting, and it ends cleanly."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from token_limit_core import Meter, MeterConfig
from token_limit_core.hosts import FAKE_PORT, provider_of

SCRIPT = Path(sys.executable).with_name("token-limit")


@contextmanager
def served(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [SCRIPT, "fake-provider", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_to_it_is_answered_and_it_ends_cleanly(number: signal.Signals) -> None:
    with served("--port", "0") as process:
        assert process.stdout
        url = process.stdout.readline().split()[5].rstrip(".")  # it is written at once, also to a pipe
        with (
            Meter(MeterConfig(store="memory://", hosts={url.split("/")[2]: "openai"})) as meter,
            openai.OpenAI(base_url=url, api_key="fake") as client,
        ):
            meter.patch("openai").set_limit("acme", 1)
            with meter.for_tenant("acme"):
                client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
            (status,) = meter.usage("acme")
            assert status.settled > 0
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.endswith("Stopped.\n"), err) == (0, True, "")


def test_a_taken_port_is_an_error_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [SCRIPT, "fake-provider", "--port", str(port)], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert f"--port: {port} cannot be used (Address already in use)" in done.stderr
    assert done.stdout == ""


def test_its_own_port_is_priced_without_a_setting() -> None:
    for host in ("127.0.0.1", "localhost"):
        assert provider_of(host, FAKE_PORT, {}) == "openai"
    assert provider_of("10.0.0.1", FAKE_PORT, {}) == "unknown"
    assert provider_of("127.0.0.1", FAKE_PORT, {"127.0.0.1:8010": "groq"}) == "groq"
