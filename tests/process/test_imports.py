"""What importing the packages costs a process: nothing it did not ask for, and no thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDKS = {"openai", "anthropic", "google.genai", "botocore", "mistralai.client", "cohere", "litellm", "httpx", "httpx2"}
WHEN_USED = {"celery", "dramatiq", "rq", "sqlalchemy", "requests", "genai_prices", "pydantic"}
PROBE = """
import json, sys, threading
loaded = [name for name in {modules!r} if name in sys.modules]
print(json.dumps([loaded, [thread.name for thread in threading.enumerate()]]))
"""


def after(code: str) -> tuple[set[str], list[str]]:
    """Run code in a fresh interpreter; give which of the modules in question it loaded, and its threads."""
    probe = code + PROBE.format(modules=sorted(SDKS | WHEN_USED))
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.django_settings"}
    command = [sys.executable, "-c", probe]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    loaded, threads = json.loads(run.stdout)
    return set(loaded), threads


@pytest.mark.parametrize(
    "code",
    [
        "import token_limit_core",
        "import token_limit_core.patches, token_limit_core.stores, token_limit_core.upgrade",
        "import token_limit_core.pytest_plugin",
        "import token_limit_core.bodies, token_limit_core.workers.threads, token_limit_core.workers.wire",
        "import token_limit_django, token_limit_django.middleware, token_limit_django.resolvers",
        "import token_limit_starlette",
    ],
)
def test_importing_loads_no_sdk_and_no_engine_and_starts_no_thread(code: str) -> None:
    assert after(code) == (set(), ["MainThread"])


def test_a_django_project_starts_without_an_sdk_an_engine_or_a_thread() -> None:
    assert after("import django; django.setup()") == (set(), ["MainThread"])


def test_adding_the_middleware_starts_no_thread_and_opens_no_database() -> None:
    code = """
import django

django.setup()
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections

WSGIHandler()
assert [c.alias for c in connections.all(initialized_only=True) if c.connection is not None] == []
"""
    assert after(code) == (set(), ["MainThread"])


def test_patching_waits_for_the_sdk_to_be_imported_by_the_application() -> None:
    code = """
from token_limit_core import Meter, MeterConfig

Meter(MeterConfig(store="memory://")).patch_all()
"""
    assert after(code) == (set(), ["MainThread"])


def test_a_flask_app_starts_without_an_sdk_an_engine_or_a_thread() -> None:
    code = """
import sys

from flask import Flask
from token_limit_flask import TokenLimit

app = Flask("app")
TokenLimit(app, store="memory://")
app.add_url_rule("/", view_func=lambda: "ok")
assert app.test_client().get("/").data == b"ok"
assert "flask_login" not in sys.modules and "django" not in sys.modules
"""
    assert after(code) == (set(), ["MainThread"])
