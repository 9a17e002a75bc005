"""A service whose limits and ledger are at a backend: what it is asked it cannot tell for ever, and says who can."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.console.mounts import MOUNTS, by_header
from token_limit_core import ConfigurationError, Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.ingest.endpoints import Ingest
from token_limit_flask.ingest import ingest_blueprint
from token_limit_starlette.ingest import ingest_routes

URL = "https://someone:secret@limits.example.com/token-limit/events?key=secret"
SHOWN = "https://limits.example.com/token-limit/events"


@pytest.fixture
def meter() -> Iterator[Meter]:
    with Meter(MeterConfig(url=URL, api_key="k1", patches=[])) as meter:
        yield meter


@pytest.mark.parametrize("command", [["usage"], ["usage", "acme"], ["usage", "--json"], ["keys", "list"]], ids=str)
def test_the_command_line_says_where_to_ask(tmp_path: Path, command: list[str]) -> None:
    ran = CliRunner().invoke(main, ["--url", URL, "--spool", str(tmp_path / "spool.db"), *command])
    assert ran.exit_code == 1
    assert ran.output == f"Error: limits and ledger are kept by the backend {SHOWN}; ask there\n"


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("path", ["", "tenant?id=acme", "holds", "events", "history", "keys", "holds.csv"])
def test_the_console_says_where_to_ask(meter: Meter, mount: str, path: str) -> None:
    with MOUNTS[mount](meter, by_header) as client:
        answer = client.get(path)
    assert answer.status == 501
    assert SHOWN in answer.text
    assert "moment" not in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("path", ["tenants.json", "tenant.json?id=acme", "holds.json", "events.json", "history.json"])
def test_the_consoles_json_says_where_to_ask(meter: Meter, mount: str, path: str) -> None:
    with MOUNTS[mount](meter, by_header) as client:
        answer = client.get(path)
    assert (answer.status, answer.headers["content-type"]) == (501, "application/problem+json")
    problem = json.loads(answer.text)
    assert (problem["type"], problem["status"]) == ("about:blank", 501)
    assert SHOWN in problem["detail"]


@pytest.mark.parametrize("mount", [Ingest.of, ingest_blueprint, ingest_routes, lambda meter: Ingest(meter.store)])
def test_reports_are_not_taken_for_somebody_else(meter: Meter, mount: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^store: .*{SHOWN}"):
        mount(meter)


DJANGO = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["token_limit_django"], ROOT_URLCONF="tests.remote.django_urls", SECRET_KEY="x",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=["token_limit_django.middleware.TokenLimitMiddleware"],
    TOKEN_LIMIT={"STORE": "remote", "URL": "https://limits.example.com/token-limit/events"},
)
django.setup()
from django.core.management import call_command
call_command("check")
"""


def test_a_django_project_that_takes_reports_for_somebody_else_does_not_start() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DJANGO], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert ran.returncode != 0
    assert "ConfigurationError: TOKEN_LIMIT['STORE']: " in ran.stderr
