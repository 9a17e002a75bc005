"""The code of the pages on task queues and on streamed responses, copied and run as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pages import code_of, section
from tests.process.queues import Queue
from tests.servers import end
from tests.support import environment, redis_database
from token_limit_core import Meter, MeterConfig


@pytest.fixture
def shell(tmp_path: Path, queue: Queue) -> dict[str, Any]:
    """A folder, and the environment that a reader would have."""
    variables = {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": queue.provider.base_url}
    env = {name: value for name, value in environment().items() if name != "DJANGO_SETTINGS_MODULE"}
    return {"cwd": tmp_path, "env": {**env, **variables, "PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{tmp_path}"}}


@pytest.mark.parametrize(("heading", "file"), [("Celery", "tasks.py"), ("RQ", "jobs.py"), ("Dramatiq", "actors.py")])
def test_the_tasks_of_the_page_run_for_the_tenant_that_starts_them(
    shell: dict[str, Any], tmp_path: Path, heading: str, file: str
) -> None:
    assert f"`{file}`:" in section("docs/workers.md", f"## {heading}")
    (tmp_path / file).write_text(code_of("docs/workers.md", f"## {heading}"))
    words = code_of("docs/workers.md", f"## {heading}", "console").split()
    command = [sys.executable, *words[1:]] if words[0] == "python" else [sys.executable, "-m", *words]
    with redis_database() as url, (tmp_path / "worker.log").open("w") as log:
        shell["env"]["REDIS_URL"] = url
        worker = subprocess.Popen(command, **shell, stdout=log, stderr=log, start_new_session=True)
        try:
            run = subprocess.run(
                [sys.executable, file], **shell, capture_output=True, text=True, timeout=90, check=False
            )
        finally:
            end(worker)
            print((tmp_path / "worker.log").read_text()[-3000:])
    assert run.stdout == "acme paid for 1 answer\n", run.stderr
    with Meter(MeterConfig(store=f"sqlite:///{tmp_path / 'token_limit.db'}", patches=[])) as meter:
        assert meter.store.spend("acme", 0, 4e9).calls == 1


@pytest.mark.parametrize(
    ("heading", "output"),
    [
        ("Threads", "['acme paid', 'acme paid']\nacme paid\n"),
        ("Event loops", "acme paid\nglobex paid\nacme paid\n"),
    ],
)
def test_the_threads_and_loops_of_the_page_keep_the_tenant(shell: dict[str, Any], heading: str, output: str) -> None:
    code = code_of("docs/workers.md", f"## {heading}")
    run = subprocess.run([sys.executable, "-c", code], **shell, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout == output, run.stderr


FLASK = """
client = app.test_client()
def ask():
    response = client.get("/chat/?text=hello")
    return response.status_code, response.content_type, response.data
from token_limit_flask import get_meter
meter = get_meter(app)
"""
FASTAPI = """
from starlette.testclient import TestClient
from token_limit_starlette import TokenLimitMiddleware
client = TestClient(app)
def ask():
    response = client.get("/chat/?text=hello")
    return response.status_code, response.headers["content-type"], response.content
ask()
layer = app.middleware_stack
while not isinstance(layer, TokenLimitMiddleware):
    layer = layer.app
meter = layer.options.meter
"""
DJANGO = """
import django
from django.conf import settings
from django.test import Client
from django.urls import path
settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["token_limit_django"],
    MIDDLEWARE=["token_limit_django.middleware.TokenLimitMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="x",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    TOKEN_LIMIT={"STORE": "memory://", "TENANT_RESOLVER": lambda request: "acme"},
)
django.setup()
urlpatterns = [path("chat/", chat)]
client = Client()
def ask():
    response = client.get("/chat/?text=hello")
    body = b"".join(response) if response.streaming else response.content
    return response.status_code, response["Content-Type"], body
from token_limit_django.meter import get_meter
meter = get_meter()
"""
PROOF = """
status, kind, body = ask()
assert (status, kind.partition(";")[0]) == (200, "text/event-stream"), (status, kind)
assert body.startswith(b"data: ") and b"event: error" not in body, body
meter.set_limit("acme", 0)
status, kind, body = ask()
assert (status, kind.partition(";")[0]) == (402, "application/problem+json"), (status, kind)
print("proved")
"""


@pytest.mark.parametrize(
    ("heading", "setup"), [("Flask", FLASK), ("Starlette and FastAPI", FASTAPI), ("Django", DJANGO)]
)
def test_the_streams_of_the_page_are_refused_before_their_first_byte(
    shell: dict[str, Any], heading: str, setup: str
) -> None:
    code = code_of("docs/streaming.md", f"## {heading}") + setup + PROOF
    run = subprocess.run([sys.executable, "-c", code], **shell, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout == "proved\n", run.stderr
