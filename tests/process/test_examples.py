"""The demos as a person runs them: a taken port is an error, the address is printed at once, SIGTERM leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, answers, free_port
from tests.support import environment
from tests.waiting import PATIENCE, wait_until

DEMOS = ["django_saas", "flask_app", "fastapi_chat"]


@pytest.fixture(params=DEMOS)
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy the example, as its data lies beside it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".demo", "__pycache__"))
    return tmp_path / "examples" / request.param / "demo.py"


def start(demo: Path, port: int) -> subprocess.Popen[str]:
    env = {name: value for name, value in environment().items() if not name.startswith("OPENAI_")}
    env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, str(demo), f"--port={port}"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_port_that_is_taken_is_an_error_and_no_other_site_is_claimed(demo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        out, errors = start(demo, port).communicate(timeout=PATIENCE)
    assert f"port: {port} is taken" in errors
    assert out == ""


def test_the_address_is_printed_at_once_and_sigterm_leaves_no_process(demo: Path) -> None:
    port = free_port()
    running = start(demo, port)
    try:
        assert running.stdout is not None
        line = next(line for line in running.stdout if f"http://127.0.0.1:{port}" in line)
        assert "/" in line
        assert answers(port)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=PATIENCE)
        assert running.returncode == 128 + signal.SIGTERM
        wait_until(lambda: not answers(port))
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
