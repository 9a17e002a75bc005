"""The example, walked through without a person."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import free_port

ROOT = Path(__file__).parents[3]


def test_the_example_checks_itself() -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "OPENAI_BASE_URL")}
    command = [sys.executable, "examples/fastapi_chat/demo.py", "--check", f"--port={free_port()}"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("demo-fastapi-check passed\n")
