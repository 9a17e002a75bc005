"""Real servers for the sites of `sites.py`, started and ended by a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from tests import servers
from tests.servers import PYTHON, Server

SITES = "tests.remote.sites"
COMMANDS = {
    "werkzeug": [SITES, "{site}", "{port}"],
    "gunicorn": ["gunicorn", f"{SITES}:{{site}}()", "--bind=127.0.0.1:{port}", "--threads=4", "--log-level=error"],
    "gunicorn --preload": [
        "gunicorn", f"{SITES}:{{site}}()", "--bind=127.0.0.1:{port}", "--preload", "--workers=2", "--log-level=error",
    ],
    "uvicorn": ["uvicorn", "--factory", f"{SITES}:{{site}}", "--port={port}", "--log-level=error"],
    "uwsgi": [f"--module={SITES}:{{site}}()", "--http-socket=127.0.0.1:{port}", "--master", "--processes=2"],
}  # fmt: skip


def serving(
    command: str, site: str, *, program: Sequence[str] = PYTHON, options: Sequence[str] = (), **settings: Any
) -> AbstractContextManager[Server]:
    """Run a server for a block; the site reads its settings from SITE."""
    words = [word.replace("{site}", site) for word in COMMANDS[command]]
    return servers.serving(*words, *options, program=program, env={"SITE": json.dumps(settings)})
